import Depacketize
import Media
import RTP

/// One sender through one network into the depacketizer, judged against what was sent.
///
/// Both passes draw the same packets from the same seed, so that no more is held than what is on its way: any number of packets may be sent.
public struct EmulatedTrack: Sendable {
    public var source: PacketSource
    public var network: Network
    public var seed: UInt64

    public init(_ source: PacketSource, _ network: Network, seed: UInt64) { (self.source, self.network, self.seed) = (source, network, seed) }

    public struct Outcome: Sendable {
        /// Each rule that did not hold, in words; at most ``brokenMax``.
        public var broken: [String] = []
        public var packetsSent = 0
        public var unitsSent = 0
        /// Units whose packets all arrived (or came again, or were carried by later ones), and all that they need.
        public var unitsDecodable = 0
        public var unitsOut = 0
        /// Time of what came out less true time and the constant part of the way (ms).
        public var error = ErrorHistogram()
        /// The same of the last minute.
        public var endError = ErrorHistogram()
        public var timeline: TrackTimeline
        public var verdict: TrackVerdict
        /// Most packets on their way, and most units that were sent and had not come out.
        public var mostInFlight = 0
        public var mostPending = 0

        public static let brokenMax = 20
        public var presence: Double { unitsDecodable == 0 ? 1 : Double(unitsOut) / Double(unitsDecodable) }
    }

    public func run() -> Outcome {
        let format = source.format(isRepeated: network.retransmission != nil)
        var survey = TrackSurvey(format: format)
        deliver { _, _ in } receive: { survey.observe($0) }
        let timeline = survey.finish()

        var depacketizer = Depacketizer(format: format, timeline: timeline)
        var ledger = UnitLedger(source: source, network: network, timeline: timeline, verdict: depacketizer.verdict)
        let inFlight = deliver { packet, fate in ledger.note(packet, fate) } receive: { record in
            depacketizer.push(record) { ledger.take($0) }
        }
        depacketizer.finish { ledger.take($0) }
        return ledger.finish(depacketizer.verdict, mostInFlight: inFlight)
    }

    /// Sends everything and receives it in the order of arrival; the most packets on their way.
    @discardableResult private func deliver(sent: (SentPacket, NetworkEmulator.Fate) -> Void, receive: (TrackRecord) -> Void) -> Int {
        var (source, emulator) = (source, NetworkEmulator(network, seed: seed))
        while let packet = source.next() {
            sent(packet, emulator.send(packet))
            while let (arrival, bytes) = emulator.receive() { receive(.received(bytes, at: arrival)) }
        }
        while let (arrival, bytes) = emulator.drain() { receive(.received(bytes, at: arrival)) }
        return emulator.mostInFlight
    }
}

extension TrackRecord {
    /// A datagram as the tap sorts it (RFC 5761 section 4).
    public static func received(_ bytes: [UInt8], at arrival: WallTime) -> Self {
        bytes.withUnsafeBytes { DatagramClass($0) } == .rtcp ? .rtcp(arrival: arrival, bytes: bytes) : .rtp(arrival: arrival, bytes: bytes)
    }
}

/// Errors in milliseconds, a tenth of one apart, up to ten seconds either way.
public struct ErrorHistogram: Hashable, Sendable {
    private static let most = 100_000
    private var counts: [Int] = []
    public private(set) var count = 0

    public init() {}

    mutating func add(_ error: Nanoseconds) {
        if counts.isEmpty { counts = [Int](repeating: 0, count: 2 * Self.most + 1) }
        counts[Int((error.milliseconds * 10).rounded().clamped(to: -Double(Self.most)...Double(Self.most))) + Self.most] += 1
        count += 1
    }

    /// The error that a share of all are below.
    public func quantile(_ share: Double) -> Double {
        var left = min(count - 1, Int(Double(count) * share))
        for (place, count) in counts.enumerated() {
            left -= count
            if left < 0 { return Double(place - Self.most) / 10 }
        }
        return counts.isEmpty ? 0 : Double(Self.most) / 10
    }

    public var median: Double { quantile(0.5) }
    /// The amount that a share of all errors do not exceed.
    public func absolute(_ share: Double) -> Double {
        var left = min(count - 1, Int(Double(count) * share))
        for distance in 0...Self.most where !counts.isEmpty {
            left -= counts[Self.most + distance] + (distance == 0 ? 0 : counts[Self.most - distance])
            if left < 0 { return Double(distance) / 10 }
        }
        return counts.isEmpty ? 0 : Double(Self.most) / 10
    }
}

extension Double {
    fileprivate func clamped(to range: ClosedRange<Double>) -> Double { Swift.min(Swift.max(self, range.lowerBound), range.upperBound) }
}
