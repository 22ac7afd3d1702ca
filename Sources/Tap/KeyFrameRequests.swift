import Media
import RTP

/// When and how to ask a video's sender for a key frame. Pure.
///
/// Again 1, 2, 4 and 4 seconds after the request before, until a key frame came. The first two are picture loss indications (RFC 4585 section
/// 6.3.1), then full intra requests alternate with them (RFC 5104 section 4.3.1), for senders that know only those. Never two within half a
/// second, however often the gate moves, nor within two seconds because of losses: each costs the sender's line a whole picture.
struct KeyFrameRequests: Sendable {
    enum Kind: Hashable, Sendable {
        case pictureLoss
        /// With its command number, another one each time.
        case fullIntra(UInt8)

        /// The packet: an empty receiver report and the request.
        func packet(from sender: SSRC, about media: SSRC) -> [UInt8] {
            switch self {
            case .pictureLoss: RTCPPacket.pictureLossIndication(from: sender, about: media)
            case .fullIntra(let number): RTCPPacket.fullIntraRequest(from: sender, about: media, sequenceNumber: number)
            }
        }
    }

    /// From each request to the next.
    private static let waits: [Nanoseconds] = [.seconds(1), .seconds(2), .seconds(4), .seconds(4)]
    static let requestsMax = waits.count + 1
    private static let apart = Nanoseconds.milliseconds(500)
    private static let apartAfterLoss = Nanoseconds.seconds(2)

    private var sent: Int?
    private var last: WallTime?
    private var firstWait = Self.apart
    private var commands: UInt8 = 0

    /// Whether a key frame is being asked for.
    var isWaiting: Bool { sent != nil }

    mutating func begin() { (sent, firstWait) = (0, Self.apart) }

    /// As ``begin()``, unless one is being asked for anyway.
    mutating func beginAfterLoss() { if sent == nil { (sent, firstWait) = (0, Self.apartAfterLoss) } }

    /// A key frame came.
    mutating func satisfy() { sent = nil }

    /// The request to be sent now, if one is due; it then counts as sent. A clock that was set back asks at once.
    mutating func due(at now: WallTime) -> Kind? {
        guard let count = sent else { return nil }
        let wait = count == 0 ? firstWait : Self.waits[count - 1]
        if let last, last <= now, now - last < wait { return nil }
        last = now
        sent = count + 1 < Self.requestsMax ? count + 1 : nil
        guard count >= 2, count % 2 == 0 else { return .pictureLoss }
        commands &+= 1
        return .fullIntra(commands)
    }
}
