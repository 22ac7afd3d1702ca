@testable import Depacketize
import Media
import TestSupport
import Testing

/// An Opus sender whose packets of 20 ms go through a network.
struct Sender {
    var start = 1_000.0
    var packets = 3_000
    /// The sender's clock against ours.
    var ppm = 0.0
    var firstTimestamp: UInt32 = 0xFFFF_F000
    /// Delay of the packet with this number, in seconds.
    var delay: (Int, inout Seeded) -> Double? = { _, random in 0.005 + Double.random(in: 0...0.01, using: &random) }
    var timestampShift: (Int) -> UInt32 = { _ in 0 }

    static let format = TrackFormat(kind: .audio, codecs: [111: .opus])

    /// Records in the order of arrival; with each, when its first sample was captured.
    func records(seed: UInt64) -> [(record: TrackRecord, captured: Double)] {
        var random = Seeded(seed)
        return (0..<packets).compactMap { i -> (record: TrackRecord, captured: Double)? in
            let captured = start + Double(i) * 0.02 * (1 + ppm * 1e-6)
            guard let delay = delay(i, &random) else { return nil }
            let bytes = rtp(UInt16(truncatingIfNeeded: 65_000 + i), firstTimestamp &+ UInt32(i * 960) &+ timestampShift(i), payloadType: 111, payload: [0x78, UInt8(truncatingIfNeeded: i)])
            return (.rtp(arrival: WallTime(seconds: captured + 0.02 + delay), bytes: bytes), captured)
        }.sorted { $0.record.time < $1.record.time }
    }
}

@Suite("Clocks and order")
struct ClockTests {
    private func run(_ records: [TrackRecord], _ format: TrackFormat = Sender.format) -> (units: [AccessUnit], blanks: [WallTime], verdict: TrackVerdict) {
        var survey = TrackSurvey(format: format)
        for record in records { survey.observe(record) }
        var depacketizer = Depacketizer(format: format, timeline: survey.finish())
        var (units, blanks): ([AccessUnit], [WallTime]) = ([], [])
        func take(_ event: TrackEvent) {
            switch event {
            case .accessUnit(let unit): units.append(unit)
            case .blank(let time): blanks.append(time)
            }
        }
        for record in records { depacketizer.push(record, emit: take) }
        depacketizer.finish(emit: take)
        return (units, blanks, depacketizer.verdict)
    }

    private func worst(_ units: [AccessUnit], _ captured: [Double]) -> Double { zip(units, captured).map { abs($0.time.seconds - $1) }.max() ?? .infinity }

    @Test("the fastest arrivals place every sample where it was captured, over both wraps")
    func fastest() {
        let sent = Sender().records(seed: 1)
        let (units, _, verdict) = run(sent.map(\.record))
        #expect(units.count == 3_000)
        #expect(verdict.lost == 0 && verdict.outliers == 0 && verdict.epochs == 1)
        #expect(worst(units, sent.map(\.captured).sorted()) < 0.006)
    }

    @Test("a stall of ten seconds and the burst behind it do not move the time line")
    func stall() {
        var sender = Sender()
        sender.delay = { i, random in (500..<1_000).contains(i) ? 10 - Double(i - 500) * 0.02 + 0.005 : 0.005 + Double.random(in: 0...0.01, using: &random) }
        let sent = sender.records(seed: 2)
        let (units, _, verdict) = run(sent.map(\.record))
        #expect(verdict.epochs == 1)
        #expect(worst(units, sent.map(\.captured).sorted()) < 0.006)
    }

    @Test("a clock that drifts is followed over ten minutes", arguments: [300.0, -200])
    func drift(ppm: Double) {
        var sender = Sender()
        (sender.packets, sender.ppm) = (30_000, ppm)
        let sent = sender.records(seed: 3)
        let (units, _, verdict) = run(sent.map(\.record))
        #expect(abs((verdict.driftPPM ?? 0) - ppm) < 5)
        #expect(worst(units, sent.map(\.captured).sorted()) < 0.008)
    }

    @Test("one time stamp that is hours away is an outlier, and never hours of media")
    func outlier() {
        var sender = Sender()
        sender.timestampShift = { $0 == 700 ? 48_000 * 3_600 * 5 : 0 }
        let (units, _, verdict) = run(sender.records(seed: 4).map(\.record))
        #expect(units.count == 2_999)
        #expect((verdict.outliers, verdict.epochs) == (1, 1))
        #expect((units.last!.time - units.first!.time).seconds < 61)
    }

    @Test("a clock that jumped and goes on from there is a new epoch on the same time line")
    func jump() {
        var sender = Sender()
        sender.timestampShift = { $0 >= 700 ? 48_000 * 3_600 : 0 }
        let sent = sender.records(seed: 5)
        let (units, _, verdict) = run(sent.map(\.record))
        #expect(verdict.epochs == 2)
        #expect(units.count > 2_990)
        #expect((units.last!.time - units.first!.time).seconds < 61)
    }

    @Test("silence that is not sent (DTX) stays time and counts as no loss")
    func dtx() {
        var sender = Sender()
        sender.packets = 1_000
        var records = sender.records(seed: 6).map(\.record)
        // The sender goes on numbering where it stopped; only the time stamps tell of the pause.
        sender.firstTimestamp = 0xFFFF_F000 &+ 960 * 1_000 &+ 48_000 * 3
        sender.start = 1_000 + 1_000 * 0.02 + 3
        records += sender.records(seed: 7).map { record -> TrackRecord in
            guard case .rtp(let arrival, var bytes) = record.record else { return record.record }
            let number = (UInt16(bytes[2]) << 8 | UInt16(bytes[3])) &+ 1_000
            (bytes[2], bytes[3]) = (UInt8(number >> 8), UInt8(number & 255))
            return .rtp(arrival: arrival, bytes: bytes)
        }
        let (units, _, verdict) = run(records)
        #expect(units.count == 2_000)
        #expect(verdict.lost == 0)
        #expect(verdict.gaps.count == 1)
        #expect(abs((verdict.gaps[0].end - verdict.gaps[0].start).seconds - 3) < 0.001)
    }

    @Test("what did not pass the gate is not lost, and the placeholder begins where it closed")
    func gate() {
        let all = Sender().records(seed: 8).map(\.record)
        let closed = all[1_000].time
        let records = Array(all[..<1_000]) + [.mark(at: closed, .gateClosed), .mark(at: all[1_500].time, .gateOpened)] + all[1_500...]
        let (units, blanks, verdict) = run(records)
        #expect(units.count == 2_500)
        #expect(verdict.lost == 0)
        #expect(blanks == [closed])
    }

    @Test("packets of an unknown type and latch packets are counted and begin nothing")
    func latch() {
        let zero = TrackRecord.rtp(arrival: WallTime(seconds: 900), bytes: [0x80] + [UInt8](repeating: 0, count: 11))
        let (units, _, verdict) = run([zero, zero] + Sender().records(seed: 9).map(\.record))
        #expect((units.count, verdict.malformed, verdict.epochs) == (3_000, 2, 1))
    }

    @Test("an unsupported codec is named")
    func unsupported() {
        let format = TrackFormat(kind: .video, codecs: [96: Codec(name: "H266", clockRate: 90_000)])
        #expect(Depacketizer(format: format, timeline: TrackSurvey(format: format).finishedEmpty).verdict.unsupported == "H266/90000")
    }

    @Test("whatever the network does, time goes forward, nothing comes twice and every packet is accounted for", arguments: 0..<30 as Range<UInt64>)
    func emulated(seed: UInt64) {
        var sender = Sender()
        sender.packets = 4_000
        sender.delay = { i, random in
            if Double.random(in: 0...1, using: &random) < 0.05 { return nil }
            return i % 997 < 40 ? 0.4 : Double.random(in: 0...0.12, using: &random)
        }
        var records = sender.records(seed: seed).map(\.record)
        var random = Seeded(seed &+ 99)
        let sent = records.count
        for _ in 0..<200 { records.insert(records[Int.random(in: 0..<records.count - 50, using: &random)], at: Int.random(in: 0..<records.count, using: &random)) }
        records.sort { $0.time < $1.time }
        let (units, _, verdict) = run(records)
        #expect(zip(units, units.dropFirst()).allSatisfy { $0.time < $1.time })
        #expect(Set(units.map(\.time)).count == units.count)
        #expect(verdict.packets == sent + 200)
        #expect(verdict.accessUnits + verdict.duplicates + verdict.late + verdict.outliers + verdict.droppedUnits == verdict.packets)
        #expect(verdict.duplicates == 200)
        #expect(verdict.accessUnits + verdict.lost <= 4_000)
    }
}

extension TrackSurvey {
    fileprivate var finishedEmpty: TrackTimeline {
        var copy = self
        return copy.finish()
    }
}
