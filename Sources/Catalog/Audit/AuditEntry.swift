import Crypto
import Foundation
import Media
import SealedFile

/// Who did what to which object, when. Pseudonyms and ids only.
public struct AuditEntry: Hashable, Sendable {
    public var sequence: Int
    public var at: WallTime
    public var actor: String
    public var action: String
    public var object: String
    public var detail: String

    public init(sequence: Int, at: WallTime, actor: String, action: String, object: String, detail: String) {
        (self.sequence, self.at, self.actor, self.action, self.object, self.detail) = (sequence, at, actor, action, object, detail)
    }

    /// Sequence and time (nanoseconds) in decimal, actor, action, object, detail: each as UTF-8 behind its length in four bytes, big-endian.
    var canonicalBytes: [UInt8] {
        [String(sequence), String(at.nanoseconds), actor, action, object, detail].flatMap { field in
            withUnsafeBytes(of: UInt32(truncatingIfNeeded: field.utf8.count).bigEndian, Array.init) + Array(field.utf8)
        }
    }

    /// The entry's leaf: SHA-256(0x00 ‖ salt ‖ canonical entry). Without the 16 bytes of the salt nothing can be guessed from it.
    public func leaf(salt: [UInt8]) -> AuditHash { MerkleTree.leaf(salt + canonicalBytes) }
}

/// An entry as it is stored: its content and salt, or neither after it was erased; its leaf and its place in the chain stay.
public struct AuditRecord: Hashable, Sendable {
    public static let saltBytes = 16

    public var sequence: Int
    private var entry: AuditEntry?
    private var salt: [UInt8]
    public var content: (entry: AuditEntry, salt: [UInt8])? { entry.map { ($0, salt) } }
    public var leaf: AuditHash
    /// SHA-256(hash of the entry before ‖ leaf); nothing stands before the first.
    public var hash: AuditHash

    public init(sequence: Int, entry: AuditEntry?, salt: [UInt8], leaf: AuditHash, hash: AuditHash) {
        (self.sequence, self.entry, self.salt, self.leaf, self.hash) = (sequence, entry, salt, leaf, hash)
    }

    /// A new entry behind the one with the hash `previous`.
    init(_ entry: AuditEntry, salt: [UInt8], after previous: AuditHash?) {
        let leaf = entry.leaf(salt: salt)
        self.init(sequence: entry.sequence, entry: entry, salt: salt, leaf: leaf, hash: Self.chained(previous, leaf))
    }

    static func chained(_ previous: AuditHash?, _ leaf: AuditHash) -> AuditHash { AuditHash(SHA256.hash(data: (previous?.bytes ?? []) + leaf.bytes)) }

    /// What is wrong with it behind the entry with the hash `previous`; nil where nothing is.
    func fault(expected: Int, after previous: AuditHash?) -> String? {
        if sequence != expected { return "entry \(sequence) stands here: entries are missing, doubled, inserted or out of order" }
        if let content {
            guard content.entry.sequence == sequence, content.salt.count == Self.saltBytes, content.entry.leaf(salt: content.salt) == leaf else {
                return "its content is not what it was when it was written"
            }
        }
        return Self.chained(previous, leaf) == hash ? nil : "it does not follow the entry before it: one of the two was changed, inserted or removed"
    }
}
