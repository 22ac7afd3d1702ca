import Media
import RTP

/// Puts packets into sequence order, waiting a bounded time for those that are missing.
struct ReorderBuffer {
    struct Packet {
        var sequence: Int64
        var arrival: WallTime
        var header: RTPHeader
        var bytes: [UInt8]
    }

    enum Arrival { case inTime, duplicate, late }

    /// How long a missing packet is waited for, in arrival time.
    static let wait = Nanoseconds.milliseconds(500)
    static let packetsMax = 4_096

    private var waiting: [Packet] = []  // ascending
    private var next: Int64?
    /// Numbers that were given up; a packet that still comes is late, any other old one a duplicate.
    private var given: [Int64] = []
    private(set) var lost = 0

    mutating func insert(_ packet: Packet) -> Arrival {
        if let next, packet.sequence < next {
            guard let place = given.firstIndex(of: packet.sequence) else { return .duplicate }
            given.remove(at: place)
            return .late
        }
        var place = waiting.count
        while place > 0, waiting[place - 1].sequence > packet.sequence { place -= 1 }
        if place > 0, waiting[place - 1].sequence == packet.sequence { return .duplicate }
        waiting.insert(packet, at: place)
        return .inTime
    }

    /// The next packet in order, with whether all before it were given out too; nil while one is missing and may still come.
    mutating func pop(now: WallTime) -> (packet: Packet, isContiguous: Bool)? {
        guard let first = waiting.first else { return nil }
        let expected = next ?? first.sequence
        if first.sequence == expected {
            // The very first packet waits too: those before it may come later.
            if next == nil, now - first.arrival < .milliseconds(100), waiting.count < 16 { return nil }
        } else {
            guard now - first.arrival >= Self.wait || waiting.count > Self.packetsMax else { return nil }
            let missing = first.sequence - expected
            lost += Int(missing)
            given = Array((given + (max(expected, first.sequence - 256)..<first.sequence)).suffix(512))
        }
        next = first.sequence + 1
        return (waiting.removeFirst(), first.sequence == expected)
    }

    /// Gives out what waits without waiting more.
    mutating func drain() -> [(packet: Packet, isContiguous: Bool)] {
        var all: [(packet: Packet, isContiguous: Bool)] = []
        while let first = waiting.first, let popped = pop(now: first.arrival + .seconds(3600)) { all.append(popped) }
        return all
    }

    /// Starts anew: the packets that follow are no continuation.
    mutating func restart() { (waiting, next, given) = ([], nil, []) }
}
