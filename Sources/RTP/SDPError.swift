/// A fault in an SDP, with its line counted from 1. It never repeats what may be a key.
public struct SDPError: Error, Hashable, Sendable, CustomStringConvertible {
    public var line: Int
    public var what: String
    public var hint: String

    public init(line: Int, what: String, hint: String) {
        self.line = line
        self.what = what
        self.hint = hint
    }

    public var description: String { "SDP line \(line): \(what); \(hint)" }

    /// As much of `text` as an error may show: nothing of a line in which there may be a key, whose Base64 is long and has no breaks.
    static func excerpt(_ text: Substring) -> String {
        var run = 0
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                 UInt8(ascii: "+"), UInt8(ascii: "/"): run += 1
            default: run = 0
            }
            if run >= runMax { return "…" }
        }
        return text.lowercased().contains("inline") ? "…" : String(text.prefix(60))
    }

    private static let runMax = 24
}
