/// One entry of a track's packet log, in the order of arrival.
public enum TrackRecord: Hashable, Sendable {
    /// A whole RTP packet as received (after SRTP, where there was any).
    case rtp(arrival: WallTime, bytes: [UInt8])
    /// A whole RTCP datagram as received.
    case rtcp(arrival: WallTime, bytes: [UInt8])
    /// Something that happened to the track and not in its packets.
    case mark(at: WallTime, Mark)

    /// What a mark says; the raw value is the byte in the log, so it is never reused for another meaning.
    public enum Mark: UInt8, Hashable, Codable, Sendable {
        /// Consent is there: packets follow.
        case gateOpened = 1
        /// Consent is missing or gone: show the placeholder from here on.
        case gateClosed = 2
        /// The moderator paused the recording; the pause stays as time.
        case paused = 3
        case resumed = 4
        /// Nothing more comes.
        case streamEnded = 5
    }

    /// When it happened.
    public var time: WallTime {
        switch self {
        case .rtp(let time, _), .rtcp(let time, _), .mark(let time, _): time
        }
    }
}

/// A record whose bytes are lent for the time of a call: a ``TrackRecord`` before it is copied.
public enum LentRecord {
    case rtp(arrival: WallTime, bytes: UnsafeRawBufferPointer)
    case rtcp(arrival: WallTime, bytes: UnsafeRawBufferPointer)
    case mark(at: WallTime, TrackRecord.Mark)
}

extension TrackRecord {
    public init(_ lent: LentRecord) {
        self = switch lent {
        case .rtp(let arrival, let bytes): .rtp(arrival: arrival, bytes: Array(bytes))
        case .rtcp(let arrival, let bytes): .rtcp(arrival: arrival, bytes: Array(bytes))
        case .mark(let time, let mark): .mark(at: time, mark)
        }
    }

    /// Lends the record for the time of the call.
    public func lend<Result>(_ body: (LentRecord) throws -> Result) rethrows -> Result {
        switch self {
        case .rtp(let arrival, let bytes): try bytes.withUnsafeBytes { try body(.rtp(arrival: arrival, bytes: $0)) }
        case .rtcp(let arrival, let bytes): try bytes.withUnsafeBytes { try body(.rtcp(arrival: arrival, bytes: $0)) }
        case .mark(let time, let mark): try body(.mark(at: time, mark))
        }
    }
}

/// How to read a track's packets: taken from its SDP, kept with the track, handed to the stages.
public struct TrackFormat: Hashable, Codable, Sendable {
    public var kind: MediaKind
    /// Payload type to codec (RFC 3551, or `a=rtpmap`).
    public var codecs: [UInt8: Codec]
    /// Header extension id to URI (RFC 8285, `a=extmap`).
    public var extensions: [UInt8: String]
    /// Format parameters by payload type (`a=fmtp`), as they stand there: `apt=96`, `sprop-parameter-sets=…`.
    public var parameters: [UInt8: String]
    /// Which SSRC repairs which: retransmissions to media (`a=ssrc-group:FID`, RFC 4588 section 8.8).
    public var repairs: [UInt32: UInt32]

    public init(kind: MediaKind, codecs: [UInt8: Codec], extensions: [UInt8: String] = [:], parameters: [UInt8: String] = [:], repairs: [UInt32: UInt32] = [:]) {
        self.kind = kind
        self.codecs = codecs
        self.extensions = extensions
        self.parameters = parameters
        self.repairs = repairs
    }

    /// Tracks kept by an earlier version have no parameters and no repairs.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        kind = try fields.decode(MediaKind.self, forKey: .kind)
        codecs = try fields.decode([UInt8: Codec].self, forKey: .codecs)
        extensions = try fields.decode([UInt8: String].self, forKey: .extensions)
        parameters = try fields.decodeIfPresent([UInt8: String].self, forKey: .parameters) ?? [:]
        repairs = try fields.decodeIfPresent([UInt32: UInt32].self, forKey: .repairs) ?? [:]
    }
}
