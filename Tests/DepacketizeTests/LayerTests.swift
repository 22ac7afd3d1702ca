import Depacketize
import Media
import RTP
import TestSupport
import Testing

/// A VP8 sender of one simulcast layer: a picture every 40 ms in one packet, key pictures where asked for.
private struct Layer {
    var ssrc: UInt32
    var width: Int
    var keys: Set<Int>
    var missing: Set<Int> = []
    /// Pictures that it sends.
    var span = 0..<250
    var delay = 0.010
    static let format = TrackFormat(kind: .video, codecs: [96: .vp8])

    func packets(start: Double = 1_000) -> [(Double, [UInt8])] {
        span.filter { !missing.contains($0) }.map { number in
            let isKey = keys.contains(number)
            let body: [UInt8] = isKey ? [0x10, 0, 0, 0x9D, 1, 0x2A, UInt8(width & 255), UInt8(width >> 8), 0xF0, 0] : [0x11, 0, 0]
            let payload = [0x10] + body + [UInt8(truncatingIfNeeded: ssrc), UInt8(number)]
            return (start + Double(number) * 0.04 + delay, rtp(UInt16(number + 100), UInt32(number * 3_600), ssrc: ssrc, marker: true, payload: payload))
        }
    }
}

@Suite("Layers of one camera")
struct LayerTests {
    /// (layer, picture number) of each unit that came out.
    private func shown(_ layers: [Layer]) -> (pictures: [(ssrc: UInt8, number: Int, isKey: Bool)], verdict: TrackVerdict, times: [WallTime]) {
        let records = layers.flatMap { $0.packets() }.sorted { $0.0 < $1.0 }.map { TrackRecord.rtp(arrival: WallTime(seconds: $0.0), bytes: $0.1) }
        var survey = TrackSurvey(format: Layer.format)
        for record in records { survey.observe(record) }
        var depacketizer = Depacketizer(format: Layer.format, timeline: survey.finish())
        var units: [AccessUnit] = []
        func take(_ event: TrackEvent) { if case .accessUnit(let unit) = event { units.append(unit) } }
        for record in records { depacketizer.push(record, emit: take) }
        depacketizer.finish(emit: take)
        return (units.map { ($0.payload[$0.payload.count - 2], Int($0.payload[$0.payload.count - 1]), $0.isKey) }, depacketizer.verdict, units.map(\.time))
    }

    @Test("the largest layer is shown from its first key picture on")
    func largest() {
        let (pictures, verdict, times) = shown([Layer(ssrc: 1, width: 320, keys: [0]), Layer(ssrc: 2, width: 640, keys: [50], delay: 0.020)])
        // The moment of the switch is there in both sizes, some milliseconds apart.
        #expect(pictures.filter { $0.ssrc == 1 }.map(\.number) == Array(0...50))
        #expect(pictures.filter { $0.ssrc == 2 }.map(\.number) == Array(50..<250))
        #expect(zip(times, times.dropFirst()).allSatisfy { $0 < $1 })
        #expect(verdict.layers.map(\.width) == [640])
        #expect(verdict.resolutions.map(\.width) == [320, 640])
    }

    @Test("a layer that breaks is left at the next key picture of another, and taken up again at its own")
    func broken() {
        let low = Layer(ssrc: 1, width: 320, keys: [0, 110]), high = Layer(ssrc: 2, width: 640, keys: [0, 200], missing: [100])
        let (pictures, verdict, _) = shown([low, high])
        #expect(pictures.filter { $0.ssrc == 2 }.map(\.number) == Array(0..<100) + Array(200..<250))
        #expect(pictures.filter { $0.ssrc == 1 }.map(\.number) == [0] + Array(110...200))
        #expect(verdict.lost == 1)
        #expect(!verdict.isWhole)
    }

    @Test("a layer that ends is followed by one that goes on")
    func ended() {
        let (pictures, _, _) = shown([Layer(ssrc: 1, width: 320, keys: [0, 60]), Layer(ssrc: 2, width: 640, keys: [0], span: 0..<40)])
        #expect(pictures.filter { $0.ssrc == 2 }.map(\.number) == Array(0..<40))
        #expect(pictures.filter { $0.ssrc == 1 }.map(\.number) == [0] + Array(60..<250))
    }

    @Test("somebody who joined again goes on with the first key picture of the new source")
    func rejoined() {
        let (pictures, verdict, _) = shown([Layer(ssrc: 1, width: 640, keys: [0], span: 0..<100), Layer(ssrc: 2, width: 320, keys: [120], span: 120..<250)])
        #expect(pictures.map(\.number) == Array(0..<100) + Array(120..<250))
        #expect(verdict.lost == 0 && verdict.droppedUnits == 0 && verdict.freezes.isEmpty)
    }
}
