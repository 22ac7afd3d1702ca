import Media
import RTP

/// A packet on its way through the reorder buffer, with its sequence number extended.
struct TrackPacket {
    /// How it came: as it was sent, again (RFC 4588), or in the packets after it (RFC 2198).
    enum Origin { case itself, retransmission, redundancy }

    var sequence: Int64
    /// Place in the timeline of the epoch that it arrived in.
    var epoch: Int
    var arrival: WallTime
    var marker: Bool
    var timestamp: UInt32
    var payloadType: UInt8
    /// The whole packet that held it (empty where it is only lent), and where in it the payload lies.
    var bytes: [UInt8]
    var payload: Range<Int>
    var extensions = PacketExtensions()
    var origin = Origin.itself
    /// Packets before it are missing.
    var followsLoss = false
}

/// Puts one SSRC's packets into sequence order, waiting a bounded time for those that are missing.
struct ReorderBuffer {
    /// `superseded`: the packet itself, after a copy of it was taken in its place; nothing was lost.
    enum Arrival { case inTime, duplicate, late, superseded(TrackPacket.Origin) }

    /// How long a missing packet is waited for, in arrival time: a retransmission takes a round trip or two.
    static let wait = Nanoseconds.seconds(1)
    static let packetsMax = 8_192
    /// The very first packet waits for those that it may have overtaken, and that are sent again: often they are the key picture's.
    static let firstWait = wait
    static let firstPacketsMax = 1_024

    /// Ascending from `head` on; before it lie slots that were emptied and are given back now and then.
    private var waiting: [TrackPacket] = []
    private var head = 0
    private var next: Int64?
    /// Numbers that were given up; a packet that still comes is late, any other old one a duplicate.
    private var given: [Int64] = []
    /// Numbers in whose place a copy was taken.
    private var copied: [(sequence: Int64, origin: TrackPacket.Origin)] = []
    private static let rememberedMax = 512
    /// Packets that did not come in time.
    private(set) var lost = 0

    private var count: Int { waiting.count - head }
    /// When the packet that is next in order came; nil where none waits.
    var firstArrival: WallTime? { count > 0 ? waiting[head].arrival : nil }

    mutating func insert(_ packet: TrackPacket) -> Arrival {
        if packet.origin == .itself, let place = copied.firstIndex(where: { $0.sequence == packet.sequence }) { return .superseded(copied.remove(at: place).origin) }
        if let next, packet.sequence < next {
            guard let place = given.firstIndex(of: packet.sequence) else { return .duplicate }
            given.remove(at: place)
            return .late
        }
        var place = waiting.count
        while place > head, waiting[place - 1].sequence > packet.sequence { place -= 1 }
        if place > head, waiting[place - 1].sequence == packet.sequence { return .duplicate }
        waiting.insert(packet, at: place)
        if packet.origin != .itself {
            if copied.count >= Self.rememberedMax { copied.removeFirst() }
            copied.append((packet.sequence, packet.origin))
        }
        return .inTime
    }

    /// Takes the next packet past the buffer; false, and nothing done, unless it is the very next one and nothing waits.
    mutating func passes(_ sequence: Int64) -> Bool {
        guard next == sequence, count == 0, copied.isEmpty else { return false }
        next = sequence + 1
        return true
    }

    /// Whether a packet with this number is missed and would still be taken.
    func isMissing(_ sequence: Int64) -> Bool {
        guard let next, sequence >= next, count > 0 else { return false }
        return !waiting[head...].contains { $0.sequence == sequence }
    }

    /// The next packet in order; nil while one is missing and may still come.
    mutating func pop(now: WallTime) -> TrackPacket? {
        guard count > 0 else { return nil }
        let (sequence, arrival) = (waiting[head].sequence, waiting[head].arrival)
        let expected = next ?? sequence
        if sequence == expected {
            if next == nil, now - arrival < Self.firstWait, count < Self.firstPacketsMax { return nil }
        } else {
            guard now - arrival >= Self.wait || count > Self.packetsMax else { return nil }
            lost += Int(sequence - expected)
            given = Array((given + (max(expected, sequence - 256)..<sequence)).suffix(Self.rememberedMax))
        }
        next = sequence + 1
        var packet = waiting[head]
        waiting[head].bytes = []
        head += 1
        if head == waiting.count {
            waiting.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1_024 {
            waiting.removeFirst(head)
            head = 0
        }
        packet.followsLoss = sequence != expected
        return packet
    }

    /// Gives out what waits without waiting more.
    mutating func drain() -> [TrackPacket] {
        var all: [TrackPacket] = []
        while count > 0, let packet = pop(now: waiting[head].arrival + .seconds(3600)) { all.append(packet) }
        return all
    }

    /// Starts anew: the packets that follow are no continuation.
    mutating func restart() { (waiting, head, next, given, copied) = ([], 0, nil, [], []) }
}
