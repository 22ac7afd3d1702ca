import Media
import SealedFile

/// That one entry is in the log, for whoever holds nothing but this and a public key: the entry, its salt, its path to a signed root.
public struct AuditProof: Hashable, Codable, Sendable {
    public var sequence: Int
    /// Nanoseconds since 1970.
    public var at: Int64
    public var actor: String
    public var action: String
    public var object: String
    public var detail: String
    /// 16 bytes in hexadecimal.
    public var salt: String
    /// Hashes from the leaf to the root (RFC 9162 section 2.1.3), in hexadecimal.
    public var path: [String]
    /// The signed checkpoint whose root the path leads to.
    public var checkpoint: String
    /// The public key that it is signed with, `NAME+ID+KEY`.
    public var key: String

    init(_ record: (entry: AuditEntry, salt: [UInt8]), path: [AuditHash], checkpoint: AuditCheckpoint, key: VerifierKey) {
        let entry = record.entry
        (sequence, at, actor, action, object, detail) = (entry.sequence, entry.at.nanoseconds, entry.actor, entry.action, entry.object, entry.detail)
        salt = Hexadecimal.text(record.salt)
        self.path = path.map(\.hex)
        self.checkpoint = checkpoint.note.whole
        self.key = key.text
    }

    public var entry: AuditEntry {
        AuditEntry(sequence: sequence, at: WallTime(nanoseconds: at), actor: actor, action: action, object: object, detail: detail)
    }

    /// What is wrong with it, in words; nil where nothing is. Without `keys` the key that came with it is believed.
    public func fault(trusting keys: [VerifierKey] = []) -> String? {
        guard let own = VerifierKey(key) else { return "its key is none" }
        guard let checkpoint = AuditCheckpoint(checkpoint) else { return "its checkpoint cannot be read" }
        guard (keys.isEmpty ? [own] : keys).contains(where: checkpoint.note.isSigned) else {
            return keys.isEmpty ? "its checkpoint is not signed by its key" : "its checkpoint is not signed by the key that you trust"
        }
        let hashes = path.compactMap(AuditHash.init(hex:))
        guard let salt = Hexadecimal.bytes(salt), salt.count == AuditRecord.saltBytes, hashes.count == path.count else { return "its salt or its path cannot be read" }
        guard sequence > 0, MerkleTree.root(leaf: entry.leaf(salt: salt), index: sequence - 1, size: checkpoint.size, path: hashes) == checkpoint.root else {
            return "the entry, as it stands here, is not in the log that the checkpoint signs"
        }
        return nil
    }
}
