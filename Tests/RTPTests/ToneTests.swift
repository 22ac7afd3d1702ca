import Media
import RTP
import TestSupport
import Testing

@Suite("Keys of a telephone")
struct ToneTests {
    private struct Report {
        var at: Int64
        var code: UInt8 = 4
        var duration: UInt16
        var isEnd = false
        var marker = false
        var payload: [UInt8] { [code, isEnd ? 0x8A : 0x0A, UInt8(duration >> 8), UInt8(duration & 255)] }
    }

    private func tones(_ reports: [Report]) -> [Tone] {
        var collector = ToneCollector()
        var tones = reports.compactMap { report in report.payload.withUnsafeBytes { collector.push(timestamp: report.at, payload: $0, marker: report.marker) } }
        while let tone = collector.finish() { tones.append(tone) }
        return tones
    }

    /// A key held for 280 ms at 8 kHz: seven reports, then the end three times.
    private func press(_ at: Int64, _ code: UInt8 = 4, ends: Int = 3) -> [Report] {
        let held = (0..<7 as Range<UInt16>).map { Report(at: at, code: code, duration: $0 * 320, marker: $0 == 0) }
        return held + Array(repeating: Report(at: at, code: code, duration: 2_240, isEnd: true), count: ends)
    }

    @Test("an event's four bytes are read, and each key has its sign (RFC 4733 section 2.3, 3.2)")
    func event() {
        func event(_ bytes: [UInt8]) -> TelephoneEvent? { bytes.withUnsafeBytes { TelephoneEvent($0) } }
        #expect(event([1, 0x8A, 0x03, 0xC0]) == TelephoneEvent(code: 1, isEnd: true, volume: 10, duration: 960))
        #expect(event([1, 0x4A, 0x03]) == nil)
        #expect(String((0...16 as ClosedRange<UInt8>).compactMap { TelephoneEvent(code: $0, isEnd: false, volume: 0, duration: 0).digit }) == "0123456789*#ABCD")
    }

    @Test("one key press is one tone, though its end comes three times")
    func once() {
        #expect(tones(press(1_000)) == [Tone(digit: "4", timestamp: 1_000, duration: 2_240)])
        #expect(tones(press(1_000, 11) + press(9_000, 11)) == [Tone(digit: "#", timestamp: 1_000, duration: 2_240), Tone(digit: "#", timestamp: 9_000, duration: 2_240)])
    }

    @Test("a press whose end is lost is known by the next press, or when nothing more comes")
    func lostEnd() {
        #expect(tones(press(1_000, ends: 0) + press(9_000, 5)) == [Tone(digit: "4", timestamp: 1_000, duration: 1_920), Tone(digit: "5", timestamp: 9_000, duration: 2_240)])
        #expect(tones(press(1_000, ends: 0)) == [Tone(digit: "4", timestamp: 1_000, duration: 1_920)])
    }

    @Test("of whatever is lost of a press, as long as one packet arrives it is one tone", arguments: 1..<1_024)
    func anyLoss(kept: Int) {
        let all = press(1_000) + press(9_000, 4)
        let arrived = all.enumerated().filter { kept >> ($0.offset % 10) & 1 == 1 }.map(\.element)
        #expect(tones(arrived).map(\.timestamp) == [1_000, 9_000])
    }

    @Test("only the ends of two presses arrive: both are there, in their order")
    func endsAlone() {
        let open = Report(at: 500, code: 1, duration: 80, marker: true)
        let found = tones([open, Report(at: 1_000, code: 2, duration: 2_240, isEnd: true), Report(at: 9_000, code: 3, duration: 2_240, isEnd: true)])
        #expect(found.map(\.digit) == ["1", "2", "3"])
    }

    @Test("a key held for longer than one packet can say is one tone (section 2.5.1.3)")
    func long() {
        let first = (0...40 as ClosedRange<UInt16>).map { Report(at: 1_000, duration: $0 * 1_600, marker: $0 == 0) } + [Report(at: 1_000, duration: 0xFFFF)]
        let second = ([1_600, 3_200, 4_800] as [UInt16]).map { Report(at: 1_000 + 0xFFFF, duration: $0) }
        let end = Array(repeating: Report(at: 1_000 + 0xFFFF, duration: 6_000, isEnd: true), count: 3)
        #expect(tones(first + second + end) == [Tone(digit: "4", timestamp: 1_000, duration: 0xFFFF + 6_000)])
        // The turn of the segment is lost.
        #expect(tones(first.dropLast(5) + end) == [Tone(digit: "4", timestamp: 1_000, duration: 0xFFFF + 6_000)])
    }

    @Test("a marker begins a new press, whatever the time stamp")
    func marked() {
        let reports = [Report(at: 1_000, duration: 0xFFFF, marker: true), Report(at: 1_000 + 0xFFFF, duration: 160, marker: true), Report(at: 1_000 + 0xFFFF, duration: 320, isEnd: true)]
        #expect(tones(reports) == [Tone(digit: "4", timestamp: 1_000, duration: 0xFFFF), Tone(digit: "4", timestamp: 1_000 + 0xFFFF, duration: 320)])
    }

    @Test("a sender that moves the time stamp while the key is down presses it once")
    func movingTimestamp() {
        let reports = (0..<6 as Range<Int64>).map { Report(at: 1_000 + $0 * 160, duration: UInt16($0 * 160 + 160), marker: $0 == 0) }
        let ends = [1_960, 2_120, 2_280].map { Report(at: $0, duration: 1_120, isEnd: true) }
        #expect(tones(reports + ends).map(\.digit) == ["4"])
    }

    @Test("packets that come late, events that are no key and broken ones change nothing")
    func ignored() {
        var reports = press(1_000) + press(9_000, 5)
        reports.insert(Report(at: 1_000, duration: 320), at: 15)
        reports.insert(Report(at: 9_100, code: 16, duration: 320, isEnd: true, marker: true), at: 14)
        #expect(tones(reports).map(\.digit) == ["4", "5"])
        var collector = ToneCollector()
        #expect([UInt8]().withUnsafeBytes { collector.push(timestamp: 0, payload: $0, marker: true) } == nil)
        #expect(collector.finish() == nil)
    }

    @Test("a clock that was set back far is no late packet")
    func setBack() { #expect(tones(press(10_000_000) + press(1_000)).count == 2) }

    @Test("comfort noise says how loud it is (RFC 3389 section 3)")
    func noise() {
        func level(_ bytes: [UInt8]) -> UInt8? { bytes.withUnsafeBytes { ComfortNoise.level($0) } }
        #expect([level([64, 1, 2]), level([0xFF]), level([])] == [64, 127, nil])
    }
}
