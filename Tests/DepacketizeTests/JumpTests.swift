@testable import Depacketize
import Media
import RTP
import TestSupport
import Testing

/// Cases of other recorders' bug trackers, and rules about clocks that cannot be seen from the outside of one packet.
@Suite("Clocks that jump, queues that do not")
struct JumpTests {
    private static let format = TrackFormat(kind: .audio, codecs: [0: Codec(name: "PCMU", clockRate: 8_000)])

    /// A packet of 20 ms for each (arrival, RTP time in packets).
    private func units(_ packets: [(arrival: Double, place: Int)], reports: [TrackRecord] = []) -> (times: [Double], verdict: TrackVerdict, timeline: TrackTimeline) {
        let sent = packets.enumerated().map { number, packet in
            TrackRecord.rtp(arrival: WallTime(seconds: packet.arrival), bytes: rtp(UInt16(truncatingIfNeeded: number), UInt32(truncatingIfNeeded: packet.place * 160), payloadType: 0,
                                                                                  payload: [UInt8](repeating: 0xFF, count: 160)))
        }
        let records = (sent + reports).sorted { $0.time < $1.time }
        var survey = TrackSurvey(format: Self.format)
        for record in records { survey.observe(record) }
        let timeline = survey.finish()
        var depacketizer = Depacketizer(format: Self.format, timeline: timeline)
        var times: [Double] = []
        func take(_ event: TrackEvent) { if case .accessUnit(let unit) = event { times.append(unit.time.seconds) } }
        for record in records { depacketizer.push(record, emit: take) }
        depacketizer.finish(emit: take)
        return (times, depacketizer.verdict, timeline)
    }

    @Test("a sender whose clock stood still for five seconds is five seconds later from then on")
    func stopped() {
        let (times, verdict, timeline) = units((0..<3_000).map { (1_000 + Double($0) * 0.02 + ($0 < 500 ? 0 : 5) + 0.03, $0) })
        #expect(timeline.epochs.count == 2 && verdict.accessUnits == 3_000)
        #expect(abs(times[2_999] - times[0] - (2_999 * 0.02 + 5)) < 0.001)
        #expect(verdict.gaps.count == 1)
    }

    @Test("a queue that grows and drains over a minute is no jump")
    func queue() {
        // Up to eight seconds late, in a triangle: later packets arrive later.
        let late = { (i: Int) in (1_000..<3_000).contains(i) ? Double(i - 1_000) * 0.004 : (3_000..<5_000).contains(i) ? 8 - Double(i - 3_000) * 0.004 : 0 }
        let (times, verdict, timeline) = units((0..<8_000).map { (1_000 + Double($0) * 0.02 + 0.03 + late($0), $0) })
        #expect(timeline.epochs.count == 1)
        #expect(verdict.accessUnits == 8_000 && verdict.outliers == 0)
        #expect(zip(times, times.dropFirst()).allSatisfy { abs($1 - $0 - 0.02) < 0.000_1 })
    }

    /// A sender report that says `ntp` seconds for RTP time `media` seconds, at `arrival`.
    private func report(ntp: Double, media: Double, arrival: Double) -> TrackRecord {
        func be<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
        let time = UInt64((ntp * 4_294_967_296).rounded())
        return .rtcp(arrival: WallTime(seconds: arrival), bytes: [0x80, 200, 0, 6] + be(UInt32(7)) + be(time) + be(UInt32((media * 8_000).rounded())) + be(UInt32(1)) + be(UInt32(1)))
    }

    @Test("reports place the sound where the sender's clock says, though every packet was held back for 80 ms before it left")
    func reports() {
        let packets = (0..<3_000).map { (arrival: 1_000 + Double($0) * 0.02 + 0.02 + 0.08, place: $0) }
        let reports = stride(from: 1.0, to: 60, by: 5).map { report(ntp: 3_900_000_000 + $0, media: $0, arrival: 1_000 + $0) }
        let (times, verdict, _) = units(packets, reports: reports)
        #expect(verdict.clock == "sender-reports")
        #expect(abs((verdict.reportsLessArrivalMs ?? 0) + 80) < 1)
        #expect(abs(times[0] - 1_000) < 0.001 && abs(times[2_999] - 1_059.98) < 0.001)
    }

    /// (seconds, milliseconds by which the sender's NTP clock is ahead of its RTP clock): the reports of three browsers' synthesised sound.
    private static let leaping: [[(at: Double, ahead: Double)]] = [
        [(0, 0), (6.2, 12.6), (13, 6.5), (19.2, 10.6), (23.5, 8.7), (27.4, 5.9)], [(0, 0), (6.7, 3.5), (11.3, 4.7), (18, -2.7), (21.2, 3.3), (27.5, -1.9)],
        [(0, 0), (5, -0.8), (9.5, -1.4), (15.7, 1.4), (19.2, -2.3), (24.2, -0.9), (27.4, -3.7)],
    ]

    @Test("a few reports of sound that comes in leaps show no drift; as few of sound that drifts do", arguments: 0..<3)
    func leaps(browser: Int) throws {
        func slope(_ ahead: ((at: Double, ahead: Double)) -> Double) throws -> Double? {
            var fit = ReportFit()
            for report in Self.leaping[browser] { fit.observe(media: report.at, ntp: report.at + ahead(report), arrival: report.at + ahead(report) + 0.01) }
            return try #require(fit.mapping()).slope
        }
        #expect(try slope { $0.ahead / 1_000 } == 0)
        let drifts = try #require(try slope { 300e-6 * $0.at + ($0.ahead > 0 ? 0.000_4 : 0) })
        #expect(abs(drifts - 300e-6) < 20e-6)
    }

    @Test("reports of a box that rewrites RTP and forgets them are not believed", arguments: [40.0, -3.0])
    func forgotten(shift: Double) {
        let packets = (0..<3_000).map { (arrival: 1_000 + Double($0) * 0.02 + 0.03, place: $0) }
        // Their own clock is right; what is wrong is which RTP time they name.
        let reports = stride(from: 10.0, to: 60, by: 5).map { report(ntp: 3_900_000_000 + $0, media: $0 + shift, arrival: 1_000 + $0) }
        let (times, verdict, _) = units(packets, reports: reports)
        #expect(verdict.clock == "arrival")
        #expect(abs(times[0] - 1_000.01) < 0.001)
    }

    @Test("a clock that wanders by parts in a million is followed over two hours, without a step")
    func wandering() {
        // Up to 40 ppm, there and back within forty minutes.
        let wander = { (t: Double) in 0.015 * (1 - (t / 1_200).truncatingRemainder(dividingBy: 2)).magnitude }
        let packets = (0..<72_000).map { place -> (arrival: Double, place: Int) in
            let t = Double(place) * 0.1
            return (1_000 + t + wander(t) + 0.02 + (place % 7 == 0 ? 0 : 0.004), place * 5)
        }
        let (times, verdict, _) = units(packets)
        #expect(verdict.epochs == 1)
        let errors = times.enumerated().map { $1 - 1_000 - Double($0) * 0.1 - wander(Double($0) * 0.1) }
        #expect((errors.max() ?? 1) - (errors.min() ?? 0) < 0.006)
        #expect(zip(times, times.dropFirst()).allSatisfy { abs($1 - $0 - 0.1) < 0.000_1 })
    }
}
