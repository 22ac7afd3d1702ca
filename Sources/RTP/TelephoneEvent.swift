/// One report of a named event, such as a key that is held down (RFC 4733 section 2.3).
public struct TelephoneEvent: Hashable, Sendable {
    public var code: UInt8
    /// The key was let go.
    public var isEnd: Bool
    /// -dBm0, 0 to 63.
    public var volume: UInt8
    /// Since the packet's time stamp, in units of its clock.
    public var duration: UInt16

    public init(code: UInt8, isEnd: Bool, volume: UInt8, duration: UInt16) {
        self.code = code
        self.isEnd = isEnd
        self.volume = volume
        self.duration = duration
    }

    /// Nil below four bytes.
    public init?(_ payload: UnsafeRawBufferPointer) {
        guard payload.count >= 4 else { return nil }
        self.init(code: payload[0], isEnd: payload[1] & 0x80 != 0, volume: payload[1] & 0x3F, duration: UInt16(payload[2]) << 8 | UInt16(payload[3]))
    }

    /// The key on a telephone (section 3.2, table 3); nil for flash and all other events.
    public var digit: Character? {
        switch code {
        case 0...9: Character(Unicode.Scalar(UInt8(ascii: "0") + code))
        case 10: "*"
        case 11: "#"
        case 12...15: Character(Unicode.Scalar(UInt8(ascii: "A") + code - 12))
        default: nil
        }
    }
}

/// A key that was pressed once.
public struct Tone: Hashable, Sendable {
    /// `0` to `9`, `*`, `#`, `A` to `D`.
    public var digit: Character
    /// Extended RTP time stamp of its beginning.
    public var timestamp: Int64
    /// As far as it was reported, in units of the clock.
    public var duration: Int64

    public init(digit: Character, timestamp: Int64, duration: Int64) {
        self.digit = digit
        self.timestamp = timestamp
        self.duration = duration
    }
}

/// Comfort noise in place of silence (RFC 3389 section 3).
public enum ComfortNoise {
    /// How loud the noise is, in -dBov: 0 to 127; nil for an empty payload.
    public static func level(_ payload: UnsafeRawBufferPointer) -> UInt8? { payload.first.map { $0 & 0x7F } }
}
