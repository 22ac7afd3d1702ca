import Foundation
import Media
import TestSupport
import Testing

@Suite("Identifiers and times")
struct IdentifierTests {
    @Test("an id has 256 random bits in hexadecimal, and two are never the same")
    func random() {
        let ids = (0..<1000).map { _ in RecordingID.random().rawValue }
        #expect(Set(ids).count == 1000)
        #expect(ids.allSatisfy { $0.count == 64 && $0.allSatisfy { $0.isHexDigit } })
    }

    @Test("what could leave a folder or a log line is no id", arguments: ["", "../x", "a/b", "A", "a b", "a\n", "ä", String(repeating: "a", count: 65)])
    func refused(text: String) { #expect(MeetingID(rawValue: text) == nil) }

    @Test("an id that is refused is refused in JSON too")
    func decoding() { #expect(throws: DecodingError.self) { try JSONDecoder().decode([MeetingID].self, from: Data(#"["../x"]"#.utf8)) } }

    @Test("times add up to the nanosecond")
    func times() {
        let time = WallTime(nanoseconds: 1_795_478_532_165_000_001)
        #expect(time + .milliseconds(5) - time == Nanoseconds(count: 5_000_000))
        #expect(WallTime(seconds: 1.5).nanoseconds == 1_500_000_000)
    }
}
