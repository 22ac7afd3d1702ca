import Media
import PacketLog
import RTP
import SealedFile
import SRTP

/// One announced stream of a recording, with where its packets are to be kept.
public struct TapStream: Sendable {
    public var id: StreamID
    public var identity: TrackLogIdentity
    /// What tells its packets apart: ports, SSRCs, mid, payload types. Several m-lines are layers of one picture, each at a port of its own.
    public var media: [MediaDescription]
    /// The keys of each m-line's `a=crypto`, in their order; a protected m-line without any authenticates nothing.
    public var keys: [[SRTPKey]]
    /// Folder of the track's packet log.
    public var logDirectory: String
    public var key: DataKey

    public init(id: StreamID, identity: TrackLogIdentity, media: [MediaDescription], keys: [[SRTPKey]] = [], logDirectory: String, key: DataKey) {
        precondition(!media.isEmpty && (keys.isEmpty || keys.count == media.count))
        self.id = id
        self.identity = identity
        self.media = media
        self.keys = keys.isEmpty ? media.map { _ in [] } : keys
        self.logDirectory = logDirectory
        self.key = key
    }

    /// A stream of one m-line in the clear.
    public init(id: StreamID, identity: TrackLogIdentity, media: MediaDescription, logDirectory: String, key: DataKey) {
        self.init(id: id, identity: identity, media: [media], logDirectory: logDirectory, key: key)
    }

    /// For each m-line what removes its protection; nil where packets come in the clear.
    var receivers: [SRTPReceiver?] { zip(media, keys).map { $0.isSecure || !$1.isEmpty ? SRTPReceiver(keys: $1) : nil } }
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
    /// Protected packets that came before (SRTP replay protection).
    public var replayed = 0
    /// Packets that did not authenticate: another key, changed on the way, or not protected.
    public var notAuthentic = 0
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

    /// What an earlier version counted has no SRTP.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        packets = try fields.decode(Int.self, forKey: .packets)
        bytes = try fields.decode(Int.self, forKey: .bytes)
        droppedByGate = try fields.decode(Int.self, forKey: .droppedByGate)
        strangers = try fields.decode(Int.self, forKey: .strangers)
        malformed = try fields.decode(Int.self, forKey: .malformed)
        replayed = try fields.decodeIfPresent(Int.self, forKey: .replayed) ?? 0
        notAuthentic = try fields.decodeIfPresent(Int.self, forKey: .notAuthentic) ?? 0
        overflow = try fields.decode(Int.self, forKey: .overflow)
        lostToStorage = try fields.decode(Int.self, forKey: .lostToStorage)
        kernelDrops = try fields.decode(Int.self, forKey: .kernelDrops)
        receiveBufferBytes = try fields.decode(Int.self, forKey: .receiveBufferBytes)
        lastArrival = try fields.decodeIfPresent(WallTime.self, forKey: .lastArrival)
        ssrcs = try fields.decode([UInt32].self, forKey: .ssrcs)
    }
}
