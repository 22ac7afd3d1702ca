import Depacketize
import Media
import TestSupport
import Testing

@Suite("What was sent, through any network")
struct EmulatedNetworkTests {
    @Test("without loss everything sent comes out once, at its time, byte for byte")
    func lossless() {
        for (place, content) in contents.enumerated() {
            var source = PacketSource(content, seconds: 100, seed: 40 + UInt64(place))
            source.driftPPM = 100
            var network = Network()
            network.jitter = .uniform(max: .milliseconds(15))
            let outcome = EmulatedTrack(source, network, seed: 1).run()
            #expect(outcome.broken == [], "\(content)")
            #expect(outcome.unitsOut == outcome.unitsSent)
        }
    }
}

/// What the depacketizer can read of what the sources can send.
let contents: [PacketSource.Content] = [
    .opus(), .opus(frameMs: 60), .opus(isDiscontinuous: true, hasLevels: true), .pcmu, .vp8(), .vp8(hasLayers: true), .h264(),
].filter { Depacketizer.isSupported(PacketSource($0, seconds: 0, seed: 0).codec) }
