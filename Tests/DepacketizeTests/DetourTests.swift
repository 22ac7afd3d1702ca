@testable import Depacketize
import Media
import TestSupport
import Testing

/// Packets of 20 ms on a sender's clock that drifts, through a way that changes.
@Suite("A way that becomes longer or shorter")
struct DetourTests {
    enum Jitter: CaseIterable { case none, little, usual }

    struct Way: CustomStringConvertible {
        var description: String
        /// From that share of the time on, so much longer, in seconds.
        var steps: [(at: Double, longer: Double)]
    }

    static let ways = [
        Way(description: "longer", steps: [(0.5, 0.015)]), Way(description: "shorter", steps: [(0, 0.015), (0.5, 0)]),
        Way(description: "longer, early", steps: [(0.05, 0.015)]), Way(description: "much longer", steps: [(0.3, 0.2)]),
        Way(description: "several", steps: [(0.2, 0.015), (0.45, 0.007), (0.7, 0.027), (0.85, 0.007)]),
    ]

    /// The envelope of `seconds` of sound; `clock` says by how much the sender's clock is behind, in seconds.
    private func fit(_ seconds: Double, _ jitter: Jitter = .little, stall: ClosedRange<Double>? = nil, seed: UInt64 = 1, way: (Double) -> Double = { _ in 0 },
                     clock: (Double) -> Double) -> ClockFit {
        var (fit, random, last) = (ClockFit(), Seeded(seed), 0.0)
        for packet in 0..<Int(seconds * 50) {
            let media = Double(packet) * 0.02
            let late: Double = switch jitter {
            case .none: 0
            case .little: .random(in: 0...0.005, using: &random)
            case .usual: (0..<2).reduce(0) { sum, _ in sum + .random(in: 0...0.006, using: &random) }
            }
            var arrival = media + clock(media) + 0.03 + way(media) + late
            if let stall, stall.contains(media) { arrival = max(arrival, stall.upperBound) }
            last = max(last, arrival)
            fit.observe(media: media, arrival: last)
        }
        return fit
    }

    private func longer(_ way: Way, _ seconds: Double) -> (Double) -> Double {
        { media in way.steps.last { $0.at * seconds <= media }?.longer ?? 0 }
    }

    private func line(_ fit: ClockFit) -> ClockFit.Line { fit.withoutDetours(fit.steps()).line() }

    @Test("whatever its steps, the clock's drift is seen as it is", arguments: ways, [0, 300e-6, -300e-6])
    func drift(way: Way, drift: Double) {
        for seconds in [100.0, 300] {
            for jitter in Jitter.allCases {
                for stall in [nil, 0.6 * seconds...0.6 * seconds + 5] {
                    let found = line(fit(seconds, jitter, stall: stall, way: longer(way, seconds)) { drift * $0 })
                    // Within 3 ms from the beginning to the end.
                    #expect(abs((found.slope ?? 0) - drift) * seconds < 0.003, "\(seconds) s, \(jitter), stall \(stall != nil)")
                }
            }
        }
    }

    @Test("all is placed as if it had come by the shortest way", arguments: ways)
    func shortest(way: Way) {
        let least = way.steps[0].at == 0 ? way.steps.map(\.longer).min()! : 0
        let found = line(fit(300, way: longer(way, 300)) { 300e-6 * $0 })
        for media in [1.0, 100, 200, 299] { #expect(abs(found.delay(media) - 300e-6 * media - 0.03 - least) < 0.0015) }
    }

    @Test("a clock is not mistaken for steps, however it drifts or wanders, and neither is a queue", arguments: [100.0, 600, 3_600], Jitter.allCases)
    func none(seconds: Double, jitter: Jitter) {
        let clocks: [(Double) -> Double] = [
            { _ in 0 }, { 500e-6 * $0 }, { -500e-6 * $0 }, { 200e-6 * $0 * $0 / seconds }, { -200e-6 * $0 + 200e-6 * $0 * $0 / seconds },
            // Up to 40 ppm, there and back within twenty minutes.
            { 0.012 * (1 - ($0 / 600).truncatingRemainder(dividingBy: 2)).magnitude },
        ]
        for (place, clock) in clocks.enumerated() { #expect(fit(seconds, jitter, clock: clock).steps() == [], "clock \(place)") }
        guard seconds > 100 else { return }
        let queue = fit(seconds, jitter, way: { 0.03 * (1 - ($0 / 60).truncatingRemainder(dividingBy: 2)).magnitude }) { _ in 0 }
        #expect(abs(line(queue).slope ?? 0) < 5e-6)
    }

    @Test("steps that go on in one direction are the network's or the clock's, whichever leaves the smaller drift")
    func oneWay() {
        // A queue that grows for half a minute and empties at once, and a way that becomes longer three times.
        let queue = fit(180, way: { 0.010 * ($0 / 30).truncatingRemainder(dividingBy: 1) }) { _ in 0 }
        #expect(abs(line(queue).slope ?? 0) < 5e-6)
        let stairs = fit(180, way: { 0.015 * ($0 / 45).rounded(.down) }) { _ in 0 }
        #expect(abs(line(stairs).slope ?? 0) < 5e-6)
    }

    @Test("a few packets that came faster than all others do not tilt the clock")
    func faster() {
        for seconds in [100.0, 150] {
            let found = line(fit(seconds, way: { $0 < 3 ? 0 : 0.015 }) { 300e-6 * $0 })
            #expect(abs((found.slope ?? 0) - 300e-6) < 20e-6)
        }
    }

    @Test("through the network and with reports: the way's steps move neither sound nor picture", arguments: [false, true], [0.0, 300])
    func through(hasReports: Bool, ppm: Double) {
        for content in [PacketSource.Content.opus(), .vp8()] {
            var source = PacketSource(content, seconds: 200, seed: 71)
            source.driftPPM = ppm
            if hasReports { (source.reportSeconds, source.reportOffset) = (5, .seconds(90)) }
            var network = Network()
            network.jitter = .uniform(max: .milliseconds(hasReports ? 1 : 5))
            network.detours = [(source.start + .seconds(100), .milliseconds(17))]
            let outcome = EmulatedTrack(source, network, seed: 5).run()
            #expect(outcome.broken == [])
            #expect(outcome.timeline.epochs.map(\.isByReports) == [hasReports])
            #expect(abs((outcome.verdict.driftPPM ?? 0) - ppm) < 20, "\(content)")
            #expect(abs(outcome.endError.median - outcome.error.median) < 2, "\(content)")
        }
    }
}
