import Media
import RTP
@testable import Tap
import TestSupport
import Testing

@Suite("How a stream comes in")
struct StreamHealthTests {
    private func facts(_ sequence: Int, _ time: Double, ssrc: UInt32 = 7, key: Bool = false) -> PacketFacts {
        PacketFacts(ssrc: SSRC(rawValue: ssrc), layer: 0, sequence: UInt16(truncatingIfNeeded: sequence), bytes: 125, arrival: WallTime(seconds: time), beginsKeyFrame: key)
    }

    private func opened(video: Bool = false, at time: Double = 1_000) -> StreamHealth {
        var health = StreamHealth(isVideo: video)
        health.opened(at: WallTime(seconds: time))
        return health
    }

    private func state(_ health: inout StreamHealth, _ time: Double) -> StreamHealth.State { health.report(at: WallTime(seconds: time)).state }

    @Test("nothing came: waiting; it comes: good, with its rates; nothing for three seconds: silent; again: good; gate closed: waiting")
    func silence() {
        var health = opened()
        #expect(state(&health, 1_100) == .waiting)
        for step in 0..<200 { health.take(facts(step, 1_100 + Double(step) * 0.02)) }
        let report = health.report(at: WallTime(seconds: 1_104))
        #expect(report.state == .good && report.lossPercent == 0 && report.keyFrameAge == nil)
        #expect(abs(report.packetsPerSecond - 50) <= 1 && abs(report.bitrate - 50_000) <= 1_000)
        #expect([1_106.9, 1_107].map { state(&health, $0) } == [.good, .silent])
        health.take(facts(200, 1_120))
        #expect(state(&health, 1_120.5) == .good)
        health.closed()
        #expect(state(&health, 1_121) == .waiting)
        health.opened(at: WallTime(seconds: 1_130))
        #expect(state(&health, 1_140) == .waiting)
    }

    @Test("sound in discontinuous transmission, a packet every 400 ms, is not silent")
    func discontinuous() {
        var health = opened()
        for step in 0..<100 {
            health.take(facts(step, 1_000 + Double(step) * 0.4))
            #expect(state(&health, 1_000 + Double(step) * 0.4 + 0.39) == .good)
        }
    }

    @Test("more than 5 % lost within three seconds is lossy, over the wrap; late packets are not lost; three seconds later it is good")
    func loss() {
        var health = opened()
        func run(_ from: Int, _ count: Int, _ keeps: (Int) -> Bool) { for step in from..<from + count where keeps(step) { health.take(facts(65_400 + step, 1_000 + Double(step) * 0.01)) } }
        run(0, 300) { $0 % 10 != 0 }
        let report = health.report(at: WallTime(seconds: 1_003))
        #expect(report.state == .lossy && abs(report.lossPercent - 10) < 1)
        run(300, 310) { $0 % 25 != 0 }
        #expect(state(&health, 1_006.1) == .good)
        // One of twenty late by 50 ms.
        for step in 620..<1_000 {
            let late = step - 5
            if step % 20 != 0 { health.take(facts(65_400 + step, 1_000 + Double(step) * 0.01)) }
            if late % 20 == 0 { health.take(facts(65_400 + late, 1_000 + Double(step) * 0.01)) }
        }
        #expect(health.report(at: WallTime(seconds: 1_010)).lossPercent < 1)
    }

    @Test("duplicates do not hide losses")
    func duplicates() {
        var health = opened()
        for step in 0..<300 where step % 5 != 0 { for _ in 0..<2 { health.take(facts(step, 1_000 + Double(step) * 0.01)) } }
        #expect(abs(health.report(at: WallTime(seconds: 1_003)).lossPercent - 20) < 1)
    }

    @Test("what is sent again fills the gap (RFC 4588)")
    func retransmitted() {
        var health = opened(video: true)
        for step in 0..<300 {
            if step % 5 != 0 { health.take(facts(step, 1_000 + Double(step) * 0.01, key: step == 1)) }
            guard step % 5 == 2 else { continue }
            var again = facts(step, 1_000 + Double(step) * 0.01, ssrc: 8)
            (again.isRepair, again.repaired) = (true, UInt16(step - 2))
            health.take(again)
        }
        #expect(health.report(at: WallTime(seconds: 1_003)).lossPercent < 1)
        #expect(health.dueRequests(at: WallTime(seconds: 1_003)).isEmpty)
    }

    @Test("a picture without a key frame for three seconds since one was needed is told apart from one that has it")
    func keyFrame() {
        var health = opened(video: true)
        var states: [StreamHealth.State] = []
        for step in 0..<90 {
            health.take(facts(step, 1_000 + Double(step) * 0.1, key: step == 50))
            if [29, 30, 49, 51].contains(step) { states.append(state(&health, 1_000.05 + Double(step) * 0.1)) }
        }
        #expect(states == [.good, .noKeyFrame, .noKeyFrame, .good])
        let age = health.report(at: WallTime(seconds: 1_009)).keyFrameAge
        #expect(age.map { abs($0 - 4) < 0.001 } == true)
        // Another source: its picture needs one of its own. While the first goes on, something can be shown.
        for step in 90..<130 {
            health.take(facts(step, 1_000 + Double(step) * 0.1, ssrc: 9))
            health.take(facts(step, 1_000 + Double(step) * 0.1))
        }
        #expect(state(&health, 1_013) == .good)
        for step in 130..<170 { health.take(facts(step, 1_000 + Double(step) * 0.1, ssrc: 9)) }
        #expect(state(&health, 1_017) == .noKeyFrame)
    }

    private func requests(_ health: inout StreamHealth, _ time: Double) -> [UInt32] { health.dueRequests(at: WallTime(seconds: time)).map(\.ssrc.rawValue) }

    @Test("each source is asked for a key frame: when it is new, after a gap that nobody filled within 200 ms, and when it begins anew")
    func asked() {
        var health = opened(video: true)
        #expect(requests(&health, 1_000).isEmpty)
        health.take(facts(1, 1_001))
        health.take(facts(1, 1_001, ssrc: 8))
        #expect(requests(&health, 1_001) == [7, 8])
        health.take(facts(2, 1_001.1, key: true))
        health.take(facts(2, 1_001.1, ssrc: 8, key: true))
        // A gap that is filled, and one that is not.
        for sequence in [4, 3, 6, 7] { health.take(facts(sequence, 1_004)) }
        #expect(requests(&health, 1_004.19).isEmpty)
        #expect(requests(&health, 1_004.2) == [7])
        health.take(facts(8, 1_004.3, key: true))
        #expect(requests(&health, 1_006.9).isEmpty)
        health.take(facts(30_000, 1_007))
        #expect(requests(&health, 1_007) == [7])
        health.closed()
        #expect(requests(&health, 1_009).isEmpty)
    }

    @Test("a source that sends nothing is not asked; with the gate opened again it is, once it sends")
    func inactive() {
        var health = opened(video: true)
        health.take(facts(1, 1_001, key: true))
        health.closed()
        health.opened(at: WallTime(seconds: 1_100))
        #expect(requests(&health, 1_100).isEmpty)
        health.take(facts(900, 1_101))
        #expect(requests(&health, 1_101) == [7])
    }

    @Test("ten packets that do not authenticate and none that does: undecryptable, gate open or not; the first that does ends it")
    func undecryptable() {
        var health = opened()
        func fail(_ count: Int, _ time: Double) { for _ in 0..<count { health.authenticated(false, at: WallTime(seconds: time)) } }
        fail(9, 1_001)
        #expect(state(&health, 1_001) == .waiting)
        fail(1, 1_001)
        #expect(state(&health, 1_001) == .undecryptable)
        health.authenticated(true, at: WallTime(seconds: 1_002))
        health.take(facts(1, 1_002))
        #expect(state(&health, 1_002) == .good)
        // Forged ones among the others change nothing.
        fail(20, 1_003)
        #expect(state(&health, 1_004.9) == .good)
        health.authenticated(true, at: WallTime(seconds: 1_004.95))
        #expect(state(&health, 1_006) == .silent || state(&health, 1_004.95) == .good)
    }

    @Test("whatever the numbers and times, memory is bounded and the figures are figures", arguments: 0..<20 as Range<UInt64>)
    func random(seed: UInt64) {
        var random = Seeded(seed)
        var health = opened(video: seed % 2 == 0)
        var time = 1_000.0
        for _ in 0..<5_000 {
            time += [0, 0.001, 0.02, 5, -3, -100_000].randomElement(using: &random)!
            switch Int.random(in: 0..<10, using: &random) {
            case 0: health.opened(at: WallTime(seconds: time))
            case 1: health.closed()
            case 2: health.authenticated(.random(using: &random), at: WallTime(seconds: time))
            default:
                var facts = facts(.random(in: 0...70_000, using: &random), time, ssrc: .random(in: 0..<40, using: &random), key: Int.random(in: 0..<9, using: &random) == 0)
                if Bool.random(using: &random) { (facts.isRepair, facts.repaired) = (true, .random(in: 0 ... .max, using: &random)) }
                health.take(facts)
            }
            let report = health.report(at: WallTime(seconds: time))
            #expect((0...100).contains(report.lossPercent) && report.bitrate >= 0 && report.packetsPerSecond >= 0 && report.keyFrameAge ?? 0 >= 0)
            _ = health.dueRequests(at: WallTime(seconds: time))
        }
    }

    @Test("gaps are told once, however many numbers are missing; a jump is a new beginning")
    func watch() {
        var watch = SequenceWatch()
        func at(_ time: Double) -> WallTime { WallTime(seconds: time) }
        #expect([10, 12, 11, 11, 2_900, 3_000, 40_000].map { watch.take($0, at: at(1)) }
            == [.next(skipped: 0), .next(skipped: 1), .filled, .known, .next(skipped: 2_887), .next(skipped: 99), .restart])
        _ = watch.take(40_100, at: at(2))
        #expect([2.1, 2.2, 2.3].map { watch.takeLoss(at: at($0)) } == [false, true, false])
        _ = watch.take(42_000, at: at(3))
        // More than can be remembered is a loss at once.
        #expect([3.0, 3.1, 3.2, 3.3].map { watch.takeLoss(at: at($0)) } == [true, false, true, false])
        // Old losses make room: where nobody asks, as with sound, what is late is still told from what came before.
        for step in 0..<600 { _ = watch.take(UInt16(truncatingIfNeeded: 42_002 + 2 * step), at: at(10 + Double(step))) }
        #expect([43_199, 43_199, 42_001].map { watch.take($0, at: at(610)) } == [.filled, .known, .known])
    }
}
