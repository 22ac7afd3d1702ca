/// An e-mail address that can stand in an envelope and in a header without being quoted (RFC 5321 section 4.1.2, dot-strings only).
public struct MailAddress: Hashable, Sendable, RawRepresentable {
    /// Longest path less its brackets (RFC 5321 section 4.5.3.1.3).
    public static let bytesMax = 254

    public let rawValue: String

    /// Nil for what is no address, and for the few forms that are none of ours: quoted local parts, address literals, other than ASCII.
    public init?(rawValue: String) {
        let parts = rawValue.split(separator: "@", omittingEmptySubsequences: false)
        guard rawValue.utf8.count <= Self.bytesMax, parts.count == 2, (1...64).contains(parts[0].utf8.count) else { return nil }
        func isDotted(_ text: Substring, _ isAllowed: (UInt8) -> Bool) -> Bool {
            text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy(isAllowed) }
        }
        let atoms = Set("!#$%&'*+-/=?^_`{|}~".utf8)
        func isLetterOrDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) }
        guard isDotted(parts[0], { isLetterOrDigit($0) || atoms.contains($0) }), isDotted(parts[1], { isLetterOrDigit($0) || $0 == 45 }) else { return nil }
        self.rawValue = rawValue
    }

    public var domain: Substring { rawValue[rawValue.index(after: rawValue.lastIndex(of: "@") ?? rawValue.startIndex)...] }
}
