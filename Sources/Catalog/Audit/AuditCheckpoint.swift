import Media

/// What the log was at one moment: a signed note of four lines: the log's name, the number of entries, the root of the tree over them in
/// base64, and `time SECONDS` since 1970 (C2SP tlog-checkpoint with one extension line).
public struct AuditCheckpoint: Hashable, Sendable {
    public let origin: String
    public let size: Int
    public let root: AuditHash
    /// Whole seconds since 1970.
    public let time: Int64
    public let note: SignedNote

    public init(size: Int, root: AuditHash, now: WallTime, by signer: NoteSigner) {
        (origin, self.size, self.root, time) = (signer.verifier.name, size, root, now.nanoseconds / 1_000_000_000)
        note = signer.sign(Self.text(origin, size, root, time))
    }

    /// Reads a checkpoint; nil where a byte of it is out of place.
    public init?(_ whole: String) {
        guard let note = SignedNote(whole) else { return nil }
        let lines = note.text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard lines.count == 5, lines[0] == note.name, let size = Int(lines[1]), size > 0, let root = AuditHash(base64: lines[2]), lines[3].hasPrefix("time "),
              let time = Int64(lines[3].dropFirst(5)), Array(Self.text(note.name, size, root, time).utf8) == Array(note.text.utf8)
        else { return nil }
        (origin, self.size, self.root, self.time, self.note) = (note.name, size, root, time, note)
    }

    private static func text(_ origin: String, _ size: Int, _ root: AuditHash, _ time: Int64) -> String { "\(origin)\n\(size)\n\(root.base64)\ntime \(time)\n" }
}
