import Depacketize
import Media

extension EmulatedTrack {
    /// One of all the senders and networks there may be, by `seed`, with `packets` packets.
    ///
    /// Every sixteenth network flips bits, every fourth loses nothing; the others lose, repeat, reorder, stall and break off.
    public static func random(seed: UInt64, packets: Int) -> Self {
        var random = Seeded(seed &* 0xD134_2543 &+ 11)
        func pick<Value>(_ values: [Value]) -> Value { values[Int.random(in: 0..<values.count, using: &random)] }
        let content = pick(Self.contents.filter { Depacketizer.isSupported(PacketSource($0, seconds: 0, seed: 0).codec) })
        // The slowest send some four packets a second (discontinuous transmission).
        var source = PacketSource(content, seconds: Double(packets) / 4, seed: seed)
        source.packetsMax = packets
        source.driftPPM = .random(in: -450...450, using: &random)
        if Bool.random(using: &random) {
            source.reportSeconds = 5
            source.reportOffset = Nanoseconds(count: Int64.random(in: -3_600_000_000_000...3_600_000_000_000, using: &random))
            source.reportDriftPPM = .random(in: -50...50, using: &random)
        }
        if case .opus = content, seed % 3 == 0 { source.redundancy = pick([1, 2]) }
        // At fifty packets a second something happens about ten times; at least seconds of quiet are between.
        let quiet = min(2_000, max(20, Double(packets) / 50 / 10))
        var at = 0.0
        while source.events.count < 50, at < source.seconds {
            at += .random(in: 0.3 * quiet...1.7 * quiet, using: &random)
            let event: PacketSource.Event = switch Int.random(in: 0..<4, using: &random) {
            case 0: .rejoin(after: .random(in: 2...60, using: &random))
            case 1: .jump(ticks: Int64.random(in: -1 << 31 ... 1 << 31, using: &random))
            default: .mute(seconds: .random(in: 0.5...quiet / 3, using: &random))
            }
            source.events.append((at, event))
        }
        return Self(source, network(seed, source, quiet, &random), seed: seed)
    }

    static let contents: [PacketSource.Content] = [
        .opus(), .opus(isDiscontinuous: true, hasLevels: true), .opus(frameMs: 60), .opus(frameMs: 40, hasLevels: true), .pcmu,
        .vp8(), .vp8(framesPerSecond: 30, keySeconds: 5, hasLayers: true), .h264(),
    ]

    private static func network(_ seed: UInt64, _ source: PacketSource, _ quiet: Double, _ random: inout Seeded) -> Network {
        var network = Network()
        network.leastDelay = .milliseconds(.random(in: 1...200, using: &random))
        switch Int.random(in: 0..<3, using: &random) {
        case 0: network.jitter = .uniform(max: .milliseconds(.random(in: 1...100, using: &random)))
        case 1: network.jitter = .gamma(mean: .milliseconds(.random(in: 1...20, using: &random)))
        default: break
        }
        network.keepsOrder = Bool.random(using: &random)
        var at = 0.0
        func spans(_ length: ClosedRange<Double>) -> [Network.Span] {
            at = 0
            var all: [Network.Span] = []
            while all.count < 50, at < source.seconds {
                at += .random(in: 0.3 * quiet...1.7 * quiet, using: &random)
                let length = Double.random(in: length, using: &random)
                all.append(.init(from: source.start + Nanoseconds(seconds: at), to: source.start + Nanoseconds(seconds: at + length)))
                at += length
            }
            return all
        }
        if Bool.random(using: &random) { network.stalls = spans(0.5...min(10, quiet / 4)) }
        if Bool.random(using: &random) { network.duplication = .random(in: 0...0.05, using: &random) }
        if seed % 4 == 0 { return network }
        if Bool.random(using: &random) { network.reordering = .random(in: 0...0.05, using: &random) }
        if Bool.random(using: &random) { network.outages = spans(0.1...min(30, quiet / 4)) }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: break
        case 1: network.loss = .bursts(enter: .random(in: 0.001...0.01, using: &random), leave: .random(in: 0.05...0.5, using: &random), loss: .random(in: 0.2...1, using: &random))
        default: network.loss = .bernoulli(.random(in: 0.001...0.1, using: &random))
        }
        if source.isPicture, seed % 3 == 0 { network.retransmission = .init(after: .milliseconds(.random(in: 20...200, using: &random))) }
        if seed % 16 == 7 { network.corruption = 0.01 }
        return network
    }
}
