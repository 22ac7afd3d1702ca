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

/// How to read a track's packets: taken from its SDP, kept with the track, handed to the stages.
public struct TrackFormat: Hashable, Codable, Sendable {
    public var kind: MediaKind
    /// Payload type to codec (RFC 3551, or `a=rtpmap`).
    public var codecs: [UInt8: Codec]
    /// Header extension id to URI (RFC 8285, `a=extmap`).
    public var extensions: [UInt8: String]

    public init(kind: MediaKind, codecs: [UInt8: Codec], extensions: [UInt8: String] = [:]) {
        self.kind = kind
        self.codecs = codecs
        self.extensions = extensions
    }
}
