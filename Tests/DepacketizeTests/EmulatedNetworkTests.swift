import Depacketize
import Media
import TestSupport
import Testing

/// The same senders, networks and rules as `make torture`, with fewer packets.
@Suite("What was sent, through any network")
struct EmulatedNetworkTests {
    private static let contents: [PacketSource.Content] = [
        .opus(), .opus(frameMs: 60), .opus(isDiscontinuous: true, hasLevels: true), .pcmu, .vp8(), .vp8(hasLayers: true), .h264(),
    ].filter { Depacketizer.isSupported(PacketSource($0, seconds: 0, seed: 0).codec) }

    @Test("without loss everything sent comes out once, at its time, byte for byte", arguments: contents)
    func lossless(content: PacketSource.Content) {
        var source = PacketSource(content, seconds: 10, seed: 40, sequence: 65_000, timestamp: .max - 100_000)
        source.driftPPM = 100
        var network = Network()
        network.jitter = .uniform(max: .milliseconds(15))
        network.duplication = 0.02
        let outcome = EmulatedTrack(source, network, seed: 1).run()
        #expect(outcome.broken == [])
        #expect(outcome.unitsOut == outcome.unitsSent)
        #expect(outcome.error.absolute(1) < 25)
    }

    @Test("whatever a network does, the rules of time, order, bytes and sums hold", arguments: 0..<32 as Range<UInt64>)
    func any(seed: UInt64) {
        let outcome = EmulatedTrack.random(seed: seed, packets: 500).run()
        #expect(outcome.broken == [])
    }

    /// Two hours with sound of 120 ms and two pictures a second, so that it runs in a second or two; `make torture` takes the usual ones.
    @Test("two hours with both clocks wrong, loss and a stall: the lips still fit at the end", arguments: [false, true])
    func lipSync(hasReports: Bool) {
        let apart = EmulatedTrack.lipSync(.opus(frameMs: 120), .vp8(framesPerSecond: 2, keySeconds: 2), hasReports: hasReports)
        #expect(apart.broken == [])
        #expect(abs(apart.atEndMs) <= 40)
    }
}
