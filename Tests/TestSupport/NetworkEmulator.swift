import Foundation
import Media
import RTP

/// What a network does to packets.
public struct Network: Sendable {
    /// What is added to the least delay.
    public enum Jitter: Hashable, Sendable {
        case none
        case uniform(max: Nanoseconds)
        /// Mostly little and seldom much (gamma distribution of shape 2, cut at ten times its mean).
        case gamma(mean: Nanoseconds)
    }

    public enum Loss: Hashable, Sendable {
        case none
        case bernoulli(Double)
        /// Two states (Gilbert and Elliott): the chances to go from good to bad and back with each packet, and of loss in the bad one.
        case bursts(enter: Double, leave: Double, loss: Double)
    }

    public struct Span: Hashable, Sendable {
        public var from: WallTime
        public var to: WallTime
        public init(from: WallTime, to: WallTime) { (self.from, self.to) = (from, to) }
    }

    /// Lost packets are sent again (RFC 4588) so long after; the new packet can be lost, too.
    ///
    /// As payload type `1 + the media's`, and with the SSRC ``ssrc(for:)``.
    public struct Retransmission: Hashable, Sendable {
        public var after: Nanoseconds
        public init(after: Nanoseconds) { self.after = after }
        public static func ssrc(for media: SSRC) -> SSRC { SSRC(rawValue: media.rawValue ^ 0x5A5A_5A5A) }
    }

    public var leastDelay = Nanoseconds.milliseconds(30)
    public var jitter = Jitter.none
    /// Whether jitter leaves the order as it is; otherwise packets overtake each other.
    public var keepsOrder = true
    public var loss = Loss.none
    /// Chance of a second copy, up to 50 ms later.
    public var duplication = 0.0
    /// Chance of being held back by `reorderDelay`.
    public var reordering = 0.0
    public var reorderDelay = Nanoseconds.milliseconds(60)
    /// Chance of one flipped bit.
    public var corruption = 0.0
    /// What is sent in these arrives at their end, all at once. In order, not overlapping.
    public var stalls: [Span] = []
    /// What is sent in these is lost. In order, not overlapping.
    public var outages: [Span] = []
    public var retransmission: Retransmission?
    /// From then on the way takes so much longer than at first. In order.
    public var detours: [(from: WallTime, longer: Nanoseconds)] = []

    public init() {}

    /// Longest time a packet is on its way.
    fileprivate var longestDelay: Nanoseconds {
        var most = leastDelay + reorderDelay + .milliseconds(50)
        switch jitter {
        case .none: break
        case .uniform(let max): most = most + max
        case .gamma(let mean): most = most + Nanoseconds(count: mean.count * 10)
        }
        most = most + (detours.map(\.longer).max() ?? .zero)
        return most + (stalls.map { $0.to - $0.from }.max() ?? .zero)
    }
}

/// Takes packets in the order of sending and gives them in the order of arrival. No clock, no sockets; the same seed, the same fates.
///
/// Holds only what is on its way: seconds of packets.
public struct NetworkEmulator: Sendable {
    public struct Fate: Hashable, Sendable {
        /// How often the packet arrives; 0: it is lost.
        public var copies: Int
        /// It is lost, but a retransmission arrives.
        public var comesAgain: Bool
        public var isCorrupt: Bool
    }

    /// More on its way at once is a mistake in the test.
    public static let inFlightMax = 1 << 18

    private let network: Network
    private var random: Seeded
    private var isBad = false
    private var stall = 0
    private var outage = 0
    private var flight = Heap()
    private var order = 0
    private var lastArrival = Int64.min
    private var lastSent = WallTime(nanoseconds: .min)
    private var again: [SSRC: UInt16] = [:]
    /// Most packets that were on their way at once.
    public private(set) var mostInFlight = 0

    public init(_ network: Network, seed: UInt64) {
        self.network = network
        random = Seeded(seed ^ 0xE0E0_1234)
    }

    @discardableResult public mutating func send(_ packet: SentPacket) -> Fate { send(packet.bytes, at: packet.sentAt) }

    /// `time` never falls.
    @discardableResult public mutating func send(_ bytes: [UInt8], at time: WallTime) -> Fate {
        precondition(time >= lastSent, "packets come in the order of sending")
        lastSent = time
        var fate = Fate(copies: 0, comesAgain: false, isCorrupt: false)
        if isLost(time) {
            if let retransmission = network.retransmission, !isLost(time), let packet = repeated(bytes) {
                arrive(packet, at: time + retransmission.after + delay(time), inOrder: false)
                fate.comesAgain = true
            }
            return fate
        }
        var copy = bytes
        if network.corruption > 0, chance(network.corruption), !copy.isEmpty {
            copy[Int.random(in: 0..<copy.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            fate.isCorrupt = true
        }
        let isHeldBack = network.reordering > 0 && chance(network.reordering)
        arrive(copy, at: time + delay(time) + (isHeldBack ? network.reorderDelay : .zero), inOrder: network.keepsOrder && !isHeldBack)
        fate.copies = 1
        if network.duplication > 0, chance(network.duplication) {
            arrive(copy, at: time + delay(time) + Nanoseconds(count: Int64.random(in: 0...50_000_000, using: &random)), inOrder: false)
            fate.copies = 2
        }
        return fate
    }

    /// The next packet that has arrived and that nothing sent later can overtake; nil: send more, or ``drain()``.
    public mutating func receive() -> (arrival: WallTime, bytes: [UInt8])? {
        guard let first = flight.first, first.arrival < (lastSent + network.leastDelay).nanoseconds else { return nil }
        return drain()
    }

    /// The next packet, when nothing more is sent.
    public mutating func drain() -> (arrival: WallTime, bytes: [UInt8])? {
        flight.pop().map { (WallTime(nanoseconds: $0.arrival), $0.bytes) }
    }

    private mutating func chance(_ share: Double) -> Bool { Double(random.next() >> 11) * 0x1p-53 < share }

    private mutating func isLost(_ time: WallTime) -> Bool {
        while outage < network.outages.count, network.outages[outage].to <= time { outage += 1 }
        if outage < network.outages.count, network.outages[outage].from <= time { return true }
        switch network.loss {
        case .none: return false
        case .bernoulli(let share): return chance(share)
        case .bursts(let enter, let leave, let loss):
            if chance(isBad ? leave : enter) { isBad.toggle() }
            return isBad && chance(loss)
        }
    }

    private mutating func delay(_ time: WallTime) -> Nanoseconds {
        let way = network.leastDelay + (network.detours.last { $0.from <= time }?.longer ?? .zero)
        func unit() -> Double { (Double(random.next() >> 11) + 1) * 0x1p-53 }
        switch network.jitter {
        case .none: return way
        case .uniform(let max): return way + Nanoseconds(count: Int64(Double(max.count) * unit()))
        case .gamma(let mean):
            let share = Swift.min(10, -log(unit() * unit()) / 2)
            return way + Nanoseconds(count: Int64(Double(mean.count) * share))
        }
    }

    private mutating func arrive(_ bytes: [UInt8], at time: WallTime, inOrder: Bool) {
        var arrival = time.nanoseconds
        while stall < network.stalls.count, network.stalls[stall].to <= lastSent { stall += 1 }
        // By the time of sending: what is delayed further must not be held while those behind it pass.
        if stall < network.stalls.count, network.stalls[stall].from <= lastSent { arrival = max(arrival, network.stalls[stall].to.nanoseconds) }
        if inOrder {
            arrival = max(arrival, lastArrival)
            lastArrival = arrival
        }
        order += 1
        flight.push(.init(arrival: arrival, order: order, bytes: bytes))
        mostInFlight = max(mostInFlight, flight.count)
        precondition(flight.count <= Self.inFlightMax, "too many packets on their way")
    }

    /// The packet as a retransmission (RFC 4588 section 4): its number before its payload.
    private mutating func repeated(_ bytes: [UInt8]) -> [UInt8]? {
        let header = bytes.withUnsafeBytes { DatagramClass($0) == .rtp ? try? RTPHeader($0) : nil }  // reports are not repeated
        guard let header else { return nil }
        let number = again[header.ssrc, default: UInt16(truncatingIfNeeded: header.ssrc.rawValue)] &+ 1
        again[header.ssrc] = number
        var packet: [UInt8] = []
        packet.reserveCapacity(bytes.count + 2)
        packet += [bytes[0], bytes[1] & 0x80 | header.payloadType + 1]
        packet.append(be: number)
        packet += bytes[4..<8]
        packet.append(be: Network.Retransmission.ssrc(for: header.ssrc).rawValue)
        packet += bytes[12..<header.payload.lowerBound] + bytes[2..<4] + bytes[header.payload.lowerBound...]
        return packet
    }

    /// By arrival; what arrives at the same moment, in the order of sending.
    private struct Heap {
        struct Entry {
            var arrival: Int64
            var order: Int
            var bytes: [UInt8]
        }

        private var entries: [Entry] = []
        var count: Int { entries.count }
        var first: Entry? { entries.first }

        private func precedes(_ a: Int, _ b: Int) -> Bool { (entries[a].arrival, entries[a].order) < (entries[b].arrival, entries[b].order) }

        mutating func push(_ entry: Entry) {
            entries.append(entry)
            var place = entries.count - 1
            while place > 0, precedes(place, (place - 1) / 2) {
                entries.swapAt(place, (place - 1) / 2)
                place = (place - 1) / 2
            }
        }

        mutating func pop() -> Entry? {
            guard !entries.isEmpty else { return nil }
            entries.swapAt(0, entries.count - 1)
            let last = entries.removeLast()
            var place = 0
            while true {
                var least = place
                for child in [2 * place + 1, 2 * place + 2] where child < entries.count && precedes(child, least) { least = child }
                guard least != place else { return last }
                entries.swapAt(place, least)
                place = least
            }
        }
    }
}
