import Foundation
import SealedFile

/// That nothing up to an older checkpoint was changed or cut off until a newer one; without any entry.
///
/// As text: `mitschnitt-audit-consistency 1`, the number of hashes, the hashes in hexadecimal, one a line; then the older note, then the newer.
public struct AuditConsistency: Hashable, Sendable {
    public static let head = "mitschnitt-audit-consistency 1"

    public let old: AuditCheckpoint
    public let new: AuditCheckpoint
    let path: [AuditHash]

    init(old: AuditCheckpoint, new: AuditCheckpoint, path: [AuditHash]) { (self.old, self.new, self.path) = (old, new, path) }

    /// Reads one; nil where a byte of it is out of place.
    public init?(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard lines.count > 2, lines[0] == Self.head, let count = Int(lines[1]), (0...MerkleTree.pathCountMax).contains(count), lines.count == 2 + count + 13 else { return nil }
        let path = lines[2..<2 + count].compactMap(AuditHash.init(hex:))
        let notes = lines[(2 + count)...]
        guard path.count == count, let old = AuditCheckpoint(notes.prefix(6).joined(separator: "\n") + "\n"),
              let new = AuditCheckpoint(notes.dropFirst(6).joined(separator: "\n")) else { return nil }
        self.init(old: old, new: new, path: path)
        guard Array(self.text.utf8) == Array(text.utf8) else { return nil }
    }

    public var text: String { ([Self.head, String(path.count)] + path.map(\.hex)).joined(separator: "\n") + "\n" + old.note.whole + new.note.whole }

    /// What is wrong with it, in words; nil where nothing is.
    public func fault(trusting keys: [VerifierKey]) -> String? {
        for (which, checkpoint) in [("older", old), ("newer", new)] where !keys.contains(where: checkpoint.note.isSigned) {
            return "the \(which) checkpoint is not signed by a key that you trust"
        }
        guard MerkleTree.isConsistent(old.root, firstSize: old.size, new.root, secondSize: new.size, path: path) else {
            return "the log at \(new.size) entries does not hold the one at \(old.size): entries were changed or cut off"
        }
        return nil
    }
}
