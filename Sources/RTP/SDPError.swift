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

    /// As much of `text` as an error may show.
    static func excerpt(_ text: Substring) -> String {
        text.lowercased().contains("inline") ? "…" : String(text.prefix(60))
    }
}
