import Media

/// Header extensions that are read, by the URI of their `a=extmap` (RFC 8285).
public enum HeaderExtensionURI {
    public static let audioLevel = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    public static let mid = "urn:ietf:params:rtp-hdrext:sdes:mid"
    public static let rtpStreamID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
    public static let repairedRTPStreamID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
    public static let videoOrientation = "urn:3gpp:video-orientation"
    public static let absoluteCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
}

/// The header extension that names the m-line a packet belongs to (RFC 8843 section 15).
public let mediaIdentificationURI = HeaderExtensionURI.mid

/// How loud a packet's sound is (RFC 6464 section 3).
public struct AudioLevel: Hashable, Sendable {
    public var voice: Bool
    /// -dBov: 0 is as loud as can be, 127 is silence.
    public var level: UInt8

    public static let uri = HeaderExtensionURI.audioLevel

    public init(_ byte: UInt8) {
        voice = byte & 0x80 != 0
        level = byte & 0x7F
    }
}

/// How a picture was held when it was captured (3GPP TS 26.114 section 7.4.5); it holds until a packet says otherwise.
public struct VideoOrientation: Hashable, Sendable {
    /// Turn the picture clockwise by so much to show it upright: 0, 90, 180 or 270.
    public var rotationDegrees: Int
    /// The picture was sent mirrored, left to right.
    public var isFlipped: Bool
    /// It comes from the camera that looks away from its user.
    public var isBackCamera: Bool

    public init(rotationDegrees: Int, isFlipped: Bool = false, isBackCamera: Bool = false) {
        self.rotationDegrees = rotationDegrees
        self.isFlipped = isFlipped
        self.isBackCamera = isBackCamera
    }

    /// The byte `0 0 0 0 C F R1 R0`.
    public init(_ byte: UInt8) {
        self.init(rotationDegrees: Int(byte & 3) * 90, isFlipped: byte & 4 != 0, isBackCamera: byte & 8 != 0)
    }
}

/// When a frame's first sample was captured, which survives mixers (`abs-capture-time`).
public struct CaptureTime: Hashable, Sendable {
    /// 64-bit NTP time on the capturing system's clock, as ``NTPTime`` reads it.
    public var ntp: UInt64
    /// Capturing system's clock minus the sender's, in 2^-32 s; nil where it is not said.
    public var clockOffset: Int64?

    public init(ntp: UInt64, clockOffset: Int64? = nil) {
        self.ntp = ntp
        self.clockOffset = clockOffset
    }
}

/// What one packet's header extensions say.
public struct PacketExtensions: Hashable, Sendable {
    public var level: AudioLevel?
    /// The m-line it belongs to.
    public var mid: String?
    /// Which encoding of the source it belongs to (RFC 8852 section 3.1).
    public var rid: String?
    /// Which encoding it repairs (RFC 8852 section 3.2).
    public var repairedRid: String?
    public var orientation: VideoOrientation?
    public var captureTime: CaptureTime?

    public init(level: AudioLevel? = nil, mid: String? = nil, rid: String? = nil, repairedRid: String? = nil, orientation: VideoOrientation? = nil,
                captureTime: CaptureTime? = nil) {
        self.level = level
        self.mid = mid
        self.rid = rid
        self.repairedRid = repairedRid
        self.orientation = orientation
        self.captureTime = captureTime
    }

    /// Clockwise, as in ``VideoOrientation/rotationDegrees``.
    public var rotationDegrees: Int? { orientation?.rotationDegrees }
}

/// Reads a track's header extensions in one pass per packet; made once from ``TrackFormat/extensions``.
///
/// An element of a wrong length or with forbidden characters says nothing.
public struct ExtensionReader: Hashable, Sendable {
    /// Ids of the elements; 0, which is padding in a packet, where the SDP has none.
    private var level: UInt8 = 0
    private var mid: UInt8 = 0
    private var rid: UInt8 = 0
    private var repairedRid: UInt8 = 0
    private var orientation: UInt8 = 0
    private var captureTime: UInt8 = 0

    public init(_ extensions: [UInt8: String]) {
        for (id, uri) in extensions.sorted(by: { $0.key > $1.key }) {  // the lowest id wins
            switch uri {
            case HeaderExtensionURI.audioLevel: level = id
            case HeaderExtensionURI.mid: mid = id
            case HeaderExtensionURI.rtpStreamID: rid = id
            case HeaderExtensionURI.repairedRTPStreamID: repairedRid = id
            case HeaderExtensionURI.videoOrientation: orientation = id
            case HeaderExtensionURI.absoluteCaptureTime: captureTime = id
            default: continue
            }
        }
    }

    public func read(_ header: RTPHeader, in bytes: UnsafeRawBufferPointer) -> PacketExtensions {
        var found = PacketExtensions()
        guard !header.extensionBytes.isEmpty else { return found }
        header.forEachExtension(in: bytes) { id, place in
            guard id != 0, !place.isEmpty else { return }
            switch id {
            case level: found.level = AudioLevel(bytes[place.lowerBound])
            case mid: found.mid = Self.token(bytes, place, isRid: false)
            case rid: found.rid = Self.token(bytes, place, isRid: true)
            case repairedRid: found.repairedRid = Self.token(bytes, place, isRid: true)
            case orientation: found.orientation = VideoOrientation(bytes[place.lowerBound])
            case captureTime where place.count == 8 || place.count == 16:
                func number(_ offset: Int) -> UInt64 { UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: place.lowerBound + offset, as: UInt64.self)) }
                found.captureTime = CaptureTime(ntp: number(0), clockOffset: place.count == 16 ? Int64(bitPattern: number(8)) : nil)
            default: return
            }
        }
        return found
    }

    /// A MID is a token (RFC 5888 section 4), a RID letters, digits, `-` and `_` (RFC 8852 section 3); up to 15 bytes need no allocation.
    private static func token(_ bytes: UnsafeRawBufferPointer, _ place: Range<Int>, isRid: Bool) -> String? {
        let text = UnsafeRawBufferPointer(rebasing: bytes[place])
        for byte in text {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                 UInt8(ascii: "-"), UInt8(ascii: "_"): continue
            case 0x21...0x7E where !isRid: continue
            default: return nil
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
