import Crypto
import Foundation
import GRDB
import Media
import SealedFile

/// Who did what, when: append-only, chained, and covered by a Merkle tree whose root is signed now and then.
///
/// Entries name pseudonyms and object ids, never names, addresses or topics. An entry is a salted commitment: its content can be erased
/// (``erase(_:actor:why:now:_:)``) and everything else still verifies.
public enum AuditLog {
    /// A checkpoint is made this long after the one before, if anything was written since; and at start, at shutdown and with each receipt.
    public static let checkpointInterval = Nanoseconds.seconds(900)

    static let keyAction = "audit.key"
    static let erasedAction = "audit.erased"
    static let migratedAction = "audit.migrated"
    static let consentPrefix = "consent."
    static let consentHistoryAction = "consent.history"

    /// Appends an entry; its place in the log is returned.
    @discardableResult
    public static func append(actor: String, action: String, object: String, detail: String = "", now: WallTime, _ db: Database) throws -> Int {
        try add(actor, action, object, detail, now, db).record.sequence
    }

    private static func add(_ actor: String, _ action: String, _ object: String, _ detail: String, _ now: WallTime, _ db: Database) throws
        -> (record: AuditRecord, before: MerkleFrontier) {
        let last = try Row.fetchOne(db.cachedStatement(sql: "SELECT sequence, hash FROM audit_event ORDER BY sequence DESC LIMIT 1"))
        let before = try frontier(size: last?["sequence"] ?? 0, db)
        let salt = SymmetricKey(size: .bits128).withUnsafeBytes { Array($0) }
        let entry = AuditEntry(sequence: before.size + 1, at: now, actor: actor, action: action, object: object, detail: detail)
        let record = AuditRecord(entry, salt: salt, after: try last.map { try hash($0["hash"]) })
        var after = before
        let node = after.append(record.leaf)
        try db.run("INSERT INTO audit_event (sequence, at, actor, action, object, detail, salt, leaf, node, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   arguments: [entry.sequence, now.nanoseconds, actor, action, object, detail, Hexadecimal.text(salt), record.leaf.hex, node.hex, record.hash.hex])
        return (record, before)
    }

    /// What the database holds where a hash should be.
    public struct Damaged: Error, CustomStringConvertible {
        public var description: String { "the audit log is damaged: `mitschnitt audit verify` names the entry" }
    }

    static func hash(_ hex: String) throws -> AuditHash {
        guard let hash = AuditHash(hex: hex) else { throw Damaged() }
        return hash
    }

    /// The right edge of the tree over the first `size` entries: each entry keeps the root of the largest whole subtree that ends with it.
    static func frontier(size: Int, _ db: Database) throws -> MerkleFrontier {
        let ends = MerkleFrontier.ends(size)
        let nodes = try String.fetchAll(db.cachedStatement(sql: "SELECT node FROM audit_event WHERE sequence IN (\(databaseQuestionMarks(count: ends.count))) ORDER BY sequence"),
                                        arguments: StatementArguments(ends))
        guard let frontier = MerkleFrontier(size: size, peaks: try nodes.map(hash)) else { throw Damaged() }
        return frontier
    }

    // MARK: Checkpoints and proofs

    public static func lastCheckpoint(_ db: Database) throws -> AuditCheckpoint? {
        guard let note = try String.fetchOne(db.cachedStatement(sql: "SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")) else { return nil }
        guard let checkpoint = AuditCheckpoint(note) else { throw Damaged() }
        return checkpoint
    }

    /// Whether a checkpoint should be made by now.
    public static func isCheckpointDue(now: WallTime, _ db: Database) throws -> Bool {
        let size = try Int.fetchOne(db, sql: "SELECT MAX(sequence) FROM audit_event") ?? 0
        guard let last = try lastCheckpoint(db) else { return size > 0 }
        return size > last.size && now - WallTime(nanoseconds: last.time &* 1_000_000_000) >= checkpointInterval
    }

    /// Signs the log as it is; where nothing was written since, the last checkpoint is given back.
    @discardableResult
    public static func checkpoint(_ signer: NoteSigner, now: WallTime, _ db: Database) throws -> AuditCheckpoint {
        try introduce(signer, now, db)
        let size = try Int.fetchOne(db.cachedStatement(sql: "SELECT MAX(sequence) FROM audit_event")) ?? 0
        if let last = try lastCheckpoint(db), last.size == size { return last }
        let checkpoint = AuditCheckpoint(size: size, root: try frontier(size: size, db).root, now: now, by: signer)
        try db.run("INSERT INTO audit_checkpoint (size, note) VALUES (?, ?)", arguments: [size, checkpoint.note.whole])
        return checkpoint
    }

    /// The log itself names the keys that sign it.
    private static func introduce(_ signer: NoteSigner, _ now: WallTime, _ db: Database) throws {
        let last = try String.fetchOne(db.cachedStatement(sql: "SELECT detail FROM audit_event WHERE action = '\(keyAction)' ORDER BY sequence DESC LIMIT 1"))
        guard last != signer.verifier.text else { return }
        try append(actor: "system", action: keyAction, object: signer.verifier.name, detail: signer.verifier.text, now: now, db)
    }

    /// Appends an entry, signs the log with it, and proves that it is in there.
    public static func attest(actor: String, action: String, object: String, detail: String, now: WallTime, by signer: NoteSigner, _ db: Database) throws -> AuditProof {
        try introduce(signer, now, db)
        let (record, before) = try add(actor, action, object, detail, now, db)
        let checkpoint = try checkpoint(signer, now: now, db)
        guard let content = record.content else { preconditionFailure("it was written just now") }
        return AuditProof(content, path: before.pathOfNext, checkpoint: checkpoint, key: signer.verifier)
    }

    // MARK: Erasure

    /// Erases the content and salt of entries, and says so in an entry of its own. Entries about the log itself stay, and those that name
    /// consents stay as long as the consents.
    @discardableResult
    public static func erase(_ entries: ClosedRange<Int>, actor: String, why: String, now: WallTime, _ db: Database) throws -> Int {
        try db.execute(sql: """
            UPDATE audit_event SET at = NULL, actor = NULL, action = NULL, object = NULL, detail = NULL, salt = NULL
            WHERE sequence BETWEEN ? AND ? AND salt IS NOT NULL AND action NOT LIKE 'audit.%'
            AND NOT (action LIKE 'consent.%' AND EXISTS (SELECT 1 FROM consent_event WHERE recording = audit_event.object))
            """, arguments: [entries.lowerBound, entries.upperBound])
        let erased = db.changesCount
        guard erased > 0 else { return 0 }
        try append(actor: actor, action: erasedAction, object: "\(entries.lowerBound)-\(entries.upperBound)", detail: why, now: now, db)
        return erased
    }

    // MARK: Looking

    /// The first entry that does not fit, or nil. Signatures are checked by ``AuditVerifier``.
    public static func firstBroken(_ db: Database) throws -> Int? {
        var (previous, frontier) = (nil as AuditHash?, MerkleFrontier())
        let rows = try Row.fetchCursor(db, sql: "SELECT * FROM audit_event ORDER BY sequence")
        while let row = try rows.next() {
            let expected = frontier.size + 1
            guard let record = record(row), record.fault(expected: expected, after: previous) == nil, frontier.append(record.leaf).hex == row.found("node") else { return expected }
            previous = record.hash
        }
        return nil
    }

    /// A row as a record; nil where it holds no hashes.
    static func record(_ row: Row) -> AuditRecord? {
        func text(_ column: String) -> String? { row.found(column) }
        guard let leaf = text("leaf").flatMap(AuditHash.init(hex:)), let hash = text("hash").flatMap(AuditHash.init(hex:)), let sequence: Int = row.found("sequence") else { return nil }
        guard !(row["salt"] as DatabaseValue).isNull else { return AuditRecord(sequence: sequence, entry: nil, salt: [], leaf: leaf, hash: hash) }
        guard let bytes = text("salt").flatMap(Hexadecimal.bytes), let at: Int64 = row.found("at"), let actor = text("actor"), let action = text("action"), let object = text("object"),
              let detail = text("detail") else { return nil }
        let entry = AuditEntry(sequence: sequence, at: WallTime(nanoseconds: at), actor: actor, action: action, object: object, detail: detail)
        return AuditRecord(sequence: sequence, entry: entry, salt: bytes, leaf: leaf, hash: hash)
    }
}
