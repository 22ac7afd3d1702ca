/// The value of `a=fmtp` read as `name=value` pairs with semicolons between them, which most payload formats use.
public struct FormatParameters: Sendable {
    private let pairs: [(name: Substring, value: Substring)]
    static let pairsMax = 128

    public init(_ text: String) {
        pairs = text.split(separator: ";").prefix(Self.pairsMax).map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (Self.trimmed(parts[0]), parts.count > 1 ? Self.trimmed(parts[1]) : "")
        }
    }

    /// The first value of that name, whatever its case; a name without a value has an empty one.
    public subscript(name: String) -> String? { pairs.first { $0.name.lowercased() == name.lowercased() }.map { String($0.value) } }

    private static func trimmed(_ text: Substring) -> Substring {
        let start = text.drop { $0 == " " || $0 == "\t" }
        return start.lastIndex { $0 != " " && $0 != "\t" }.map { start[...$0] } ?? ""
    }
}
