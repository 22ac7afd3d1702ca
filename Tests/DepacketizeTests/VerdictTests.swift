@testable import Depacketize
import Foundation
import Media
import Testing

@Suite("Verdicts")
struct VerdictTests {
    @Test("a verdict of an earlier version is read, and what it did not know is at its default")
    func earlier() throws {
        let stored = #"{"packets":7,"lost":1,"duplicates":0,"late":0,"malformed":0,"outliers":0,"accessUnits":6,"droppedUnits":0,"keyFrames":0,"longestKeyFrameGapMs":0,"gaps":[],"clock":"arrival","epochs":1,"resolutions":[],"speech":[]}"#
        let verdict = try JSONDecoder().decode(TrackVerdict.self, from: Data(stored.utf8))
        var expected = TrackVerdict()
        (expected.packets, expected.lost, expected.accessUnits, expected.epochs) = (7, 1, 6, 1)
        #expect(verdict == expected)
    }

    @Test("what is written is read again whole")
    func whole() throws {
        var verdict = TrackVerdict()
        verdict.freezes = [.init(start: WallTime(seconds: 1), end: WallTime(seconds: 2))]
        verdict.rotations = [.init(at: WallTime(seconds: 1), degrees: 90)]
        (verdict.first, verdict.driftPPM, verdict.reportsLessArrivalMs, verdict.unsupported) = (WallTime(seconds: 3), 12.5, -4, "H266/90000")
        (verdict.recoveredByFEC, verdict.concealedMs, verdict.clock) = (3, 40, "sender-reports")
        #expect(try JSONDecoder().decode(TrackVerdict.self, from: JSONEncoder().encode(verdict)) == verdict)
    }

    @Test("H.264 that interleaves its units is named as what cannot be read")
    func interleaved() {
        let codec = Codec(name: "H264", clockRate: 90_000)
        let verdict = { (mode: String) in
            Depacketizer(format: TrackFormat(kind: .video, codecs: [102: codec], parameters: [102: "packetization-mode=\(mode)"]), timeline: TrackTimeline(epochs: [])).verdict
        }
        #expect(verdict("2").unsupported == "H264/90000")
        #expect(verdict("1").unsupported == nil)
    }
}
