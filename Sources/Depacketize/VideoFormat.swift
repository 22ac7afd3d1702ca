import Media

/// One picture put together from packets, that can be decoded with what was given out before it.
public struct VideoFrame: Hashable, Sendable {
    /// As ``AccessUnit/payload`` says for its codec.
    public var bytes: [UInt8]
    /// Extended RTP time stamp.
    public var timestamp: Int64
    /// Decoding can begin here.
    public var isKey: Bool
    /// Size in pixels, where the frame says it (at least each key frame).
    public var width: Int?
    public var height: Int?
    /// Pictures before this one are missing because of losses, or were held back because they could not be decoded.
    public var followsLoss: Bool

    public init(bytes: [UInt8], timestamp: Int64, isKey: Bool, width: Int? = nil, height: Int? = nil, followsLoss: Bool = false) {
        self.bytes = bytes
        self.timestamp = timestamp
        self.isKey = isKey
        self.width = width
        self.height = height
        self.followsLoss = followsLoss
    }
}

/// Puts a payload format's packets together to frames; one per SSRC and codec. Pure, bounded.
///
/// Packets come in sequence order. After a loss nothing is given out that cannot be decoded: until the next key frame, or, where the
/// codec tells what depends on what (picture ids, temporal layers), until the next picture that needs nothing of what is missing.
public protocol VideoAssembler: Sendable {
    /// Takes the next packet's payload; gives the frames that it completes (mostly none or one).
    ///
    /// `isContiguous` is false when packets before it are missing. A frame ends with its marker; some senders leave the marker out, then
    /// the next frame's first packet ends it.
    mutating func push(_ payload: UnsafeRawBufferPointer, timestamp: Int64, marker: Bool, isContiguous: Bool) -> [VideoFrame]

    /// The dependency descriptor of the packet that is pushed next, where it has one (``VideoFormats/dependencyDescriptorURI``).
    ///
    /// Only AV1 has a use for it; nothing needs it.
    mutating func note(dependencies: UnsafeRawBufferPointer)

    /// Nothing more comes for now (gate closed, end of track): gives the open frame if it is whole, and waits for a key frame after it.
    mutating func finish() -> [VideoFrame]

    /// What was being put together is void (a new epoch, a unit that was refused): waits for a key frame.
    mutating func lose()

    /// Frames and parts of frames that were not given out because of a loss.
    var dropped: Int { get }
    /// Payloads that their format forbids.
    var malformed: Int { get }
    /// Nothing can be given out before a key frame comes.
    var needsKey: Bool { get }
}

extension VideoAssembler {
    public mutating func note(dependencies: UnsafeRawBufferPointer) {}
}
