import Testing
@testable import Web

@Suite("Byte ranges (RFC 9110 section 14)")
struct ByteRangesTests {
    static let cases: [(String?, ByteRanges)] = [
        (nil, .whole), ("bytes=0-9", .parts([0..<10])), ("bytes=90-", .parts([90..<100])), ("bytes=-10", .parts([90..<100])), ("bytes=-1000", .parts([0..<100])),
        ("bytes=99-99", .parts([99..<100])), ("bytes=95-1000", .parts([95..<100])), ("bytes=100-", .unsatisfiable), ("bytes=-0", .unsatisfiable),
        ("bytes=0-0,-1", .parts([0..<1, 99..<100])), ("bytes=0-9, 5-19", .parts([0..<20])), ("bytes=50-59,0-9", .parts([0..<10, 50..<60])), ("bytes=0-9,200-300", .parts([0..<10])),
        ("items=0-9", .whole), ("bytes=9-0", .whole), ("bytes=a-b", .whole), ("bytes=-", .whole), ("bytes=", .whole), ("bytes=0-9;x", .whole), ("bytes=1-2-3", .whole),
        ("bytes=99999999999999999999-", .unsatisfiable), ("bytes=0-99999999999999999999", .parts([0..<100])), ("bytes=" + String(repeating: "0-0,", count: 16) + "1-1", .whole),
    ]

    @Test("a header means what the RFC says, and nonsense means the whole", arguments: cases)
    func parse(header: String?, expected: ByteRanges) { #expect(ByteRanges(header, length: 100) == expected) }

    @Test("of an empty file nothing can be asked for")
    func empty() { #expect(ByteRanges("bytes=0-", length: 0) == .unsatisfiable) }
}
