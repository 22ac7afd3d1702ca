/// Ids are 64 characters: lists show how they begin, and commands take that.
enum ShortID {
    private static let shown = 12

    static func of(_ id: String) -> String { String(id.prefix(shown)) }

    /// The one id of `known` that begins so; a whole one is not looked up. Throws where it is none, or more than one.
    static func find(_ text: String, of what: String, hint: String, known: () async throws -> [String]) async throws -> String {
        guard text.count < 64 || !text.allSatisfy(\.isHexDigit) else { return text }
        let found = text.isEmpty ? [] : Set(try await known().filter { $0.hasPrefix(text.lowercased()) })
        guard let id = found.first else { throw CommandError(what: "there is no \(what) '\(text.prefix(64))'", hint: hint) }
        guard found.count == 1 else { throw CommandError(what: "\(found.count) ids of a \(what) begin with '\(text)'", hint: "give more of it") }
        return id
    }
}
