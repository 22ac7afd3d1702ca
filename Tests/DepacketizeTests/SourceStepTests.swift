import Depacketize
import Media
import TestSupport
import Testing

/// A hundred seconds of sound in which something slips in the middle: at the source, or on the way.
@Suite("A source that loses a little sound")
struct SourceStepTests {
    private func source(_ content: PacketSource.Content = .opus(), seconds: Double = 100, slip: Nanoseconds = .zero, reports: Bool = false) -> PacketSource {
        var source = PacketSource(content, seconds: seconds, seed: 70)
        if slip != .zero { source.events = [(seconds / 2, .slip(slip))] }
        if reports { (source.reportSeconds, source.reportOffset) = (5, .seconds(90)) }
        return source
    }

    private func network(_ jitter: Network.Jitter = .uniform(max: .milliseconds(5))) -> Network {
        var network = Network()
        network.jitter = jitter
        return network
    }

    /// After the middle everything is longer on its way.
    private func detour(_ longer: Nanoseconds, of source: PacketSource, back: Double? = nil) -> Network {
        var network = network()
        let middle = source.start + Nanoseconds(seconds: source.seconds / 2)
        network.detours = [(middle, longer)] + (back.map { [(middle + Nanoseconds(seconds: $0), .zero)] } ?? [])
        return network
    }

    @Test("where the source slips by pieces of 10 ms, its sound is back at its time within two seconds", arguments: [10, 20, -10], [false, true])
    func followed(milliseconds: Int64, hasReports: Bool) {
        let outcome = EmulatedTrack(source(slip: .milliseconds(milliseconds), reports: hasReports), network(), seed: 1).run()
        #expect(outcome.broken == [])
        #expect(abs(outcome.endError.median) < 1.5)
        #expect(outcome.error.absolute(0.98) < 3)
        #expect(outcome.verdict.epochs == 1)
    }

    @Test("sender reports confirm a slip that is no whole pieces; without them it is taken for the network's")
    func reports() {
        let slips = [false, true].map { EmulatedTrack(source(slip: .milliseconds(7), reports: $0), network(), seed: 2).run().endError.median }
        #expect(abs(slips[0] + 7) < 1.5)
        #expect(abs(slips[1]) < 1.5)
    }

    @Test("slips are seen on a clock that drifts, and do not bend its drift", arguments: [300.0, -40])
    func drifting(ppm: Double) {
        var source = source(seconds: 600)
        source.driftPPM = ppm
        source.events = [(150, .slip(.milliseconds(10))), (200, .slip(.milliseconds(10))), (420, .slip(.milliseconds(10)))]
        let outcome = EmulatedTrack(source, network(), seed: 3).run()
        #expect(outcome.broken == [])
        #expect(abs((outcome.verdict.driftPPM ?? 0) - ppm) < 5)
        #expect(outcome.error.absolute(0.97) < 4)
    }

    @Test("a network's other path moves nothing: not in whole pieces, not for a while, not against the reports, and no pictures")
    func otherPath() {
        let plain = source()
        let reported = source(reports: true)
        let pictures = source(.vp8())
        let ways: [(PacketSource, Network)] = [
            (plain, detour(.milliseconds(7), of: plain)), (plain, detour(.milliseconds(15), of: plain)), (plain, detour(.milliseconds(10), of: plain, back: 12)),
            (plain, detour(.milliseconds(60), of: plain)), (reported, detour(.milliseconds(10), of: reported)), (pictures, detour(.milliseconds(10), of: pictures)),
        ]
        for (place, way) in ways.enumerated() {
            let outcome = EmulatedTrack(way.0, way.1, seed: 4).run()
            let (epoch, rate) = (outcome.timeline.epochs[0], Double(way.0.codec.clockRate))
            func wall(_ seconds: Double) -> WallTime { epoch.clock.wall(epoch.origin + Int64(seconds * rate)) }
            #expect(outcome.broken == [], "way \(place)")
            #expect(abs((wall(55) - wall(45)).seconds - 10) < 0.004, "way \(place)")
        }
    }

    @Test("stalls, bursts, loss and jitter are no slip, and where they hide one nothing is claimed", arguments: 0..<8 as Range<UInt64>)
    func unclear(seed: UInt64) {
        var source = source(.opus(isDiscontinuous: true))
        source.seconds = 300
        var network = network(.gamma(mean: .milliseconds(25)))
        network.loss = .bursts(enter: 0.02, leave: 0.2, loss: 0.7)
        network.stalls = [.init(from: source.start + .seconds(100), to: source.start + .seconds(104)), .init(from: source.start + .seconds(200), to: source.start + .seconds(212))]
        let outcome = EmulatedTrack(source, network, seed: seed).run()
        #expect(outcome.broken == [])
        let (first, last) = (outcome.timeline.epochs[0].origin, outcome.timeline.epochs[0].origin + 48_000 * 290)
        let clock = outcome.timeline.epochs[0].clock
        #expect(abs((clock.wall(last) - clock.wall(first)).seconds - 290) < 0.008)
    }
}
