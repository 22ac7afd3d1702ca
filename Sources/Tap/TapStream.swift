import Media
import PacketLog
import RTP
import SealedFile

/// One announced stream of a recording, with where its packets are to be kept.
public struct TapStream: Sendable {
    public var id: StreamID
    public var identity: TrackLogIdentity
    /// What tells its packets apart: port, SSRCs, mid, payload types.
    public var media: MediaDescription
    /// Folder of the track's packet log.
    public var logDirectory: String
    public var key: DataKey

    public init(id: StreamID, identity: TrackLogIdentity, media: MediaDescription, logDirectory: String, key: DataKey) {
        self.id = id
        self.identity = identity
        self.media = media
        self.logDirectory = logDirectory
        self.key = key
    }
}

/// What was counted about one stream; header facts only, never content.
public struct StreamStatistics: Hashable, Codable, Sendable {
    /// RTP packets that passed the gate.
    public var packets = 0
    public var bytes = 0
    /// Packets that came while the gate was closed: counted, never kept.
    public var droppedByGate = 0
    /// Datagrams at this stream's port from addresses that were not announced.
    public var strangers = 0
    /// No RTP, a lying length, or a payload type that the SDP does not name.
    public var malformed = 0
    /// Accepted, and lost because the disk was slower than the network for too long.
    public var overflow = 0
    /// Accepted, and lost because the disk did not take them.
    public var lostToStorage = 0
    /// Dropped by the kernel on this stream's sockets (SO_RXQ_OVFL).
    public var kernelDrops = 0
    public var receiveBufferBytes = 0
    public var lastArrival: WallTime?
    public var ssrcs: [UInt32] = []

    public init() {}
}
