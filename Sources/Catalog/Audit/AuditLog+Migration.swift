import Crypto
import Foundation
import GRDB
import Media
import SealedFile

extension AuditLog {
    /// Migration 006 (a shipped migration is never edited, so neither is what it calls): the plain chain becomes leaves of a tree. Entries and salts stay as they are; an entry behind them says what the last
    /// hash of the old chain was and whether it was whole, and others name the consent histories so far.
    static func migrate(_ db: Database) throws {
        try db.execute(sql: """
            DROP TRIGGER audit_event_update; DROP TRIGGER audit_event_delete; DROP TRIGGER audit_event_insert;
            ALTER TABLE audit_event RENAME TO audit_event_before;
            """)
        try db.execute(sql: tables)
        let (broken, last) = try takeOver(db)
        try db.execute(sql: "DROP TABLE audit_event_before")
        try db.execute(sql: triggers)
        if let last {
            let detail = last.hash + (broken.map { " broken at \($0)" } ?? " whole")
            try append(actor: "system", action: migratedAction, object: "1-\(last.sequence)", detail: detail, now: WallTime(nanoseconds: last.at), db)
        }
        let histories = try Row.fetchAll(db, sql: """
            SELECT recording, sequence, hash, event FROM consent_event AS latest
            WHERE sequence = (SELECT MAX(sequence) FROM consent_event WHERE recording = latest.recording) ORDER BY recording
            """)
        for row in histories {
            let (recording, sequence, hash) = (row["recording"] as String, row["sequence"] as Int, row["hash"] as String)
            try append(actor: "system", action: consentHistoryAction, object: recording, detail: "\(sequence) \(hash)", now: WallTime(nanoseconds: last?.at ?? 0), db)
        }
    }

    private static func takeOver(_ db: Database) throws -> (broken: Int?, last: (sequence: Int, at: Int64, hash: String)?) {
        var (broken, before, previous) = (nil as Int?, "", nil as AuditHash?)
        var frontier = MerkleFrontier()
        var last: (sequence: Int, at: Int64, hash: String)?
        let rows = try Row.fetchCursor(db, sql: "SELECT * FROM audit_event_before ORDER BY sequence")
        while let row = try rows.next() {
            let sequence = frontier.size + 1
            let entry = AuditEntry(sequence: sequence, at: WallTime(nanoseconds: row["at"]), actor: row["actor"], action: row["action"], object: row["object"], detail: row["detail"])
            let (salt, hash) = (row["salt"] as String, row["hash"] as String)
            if broken == nil, row["sequence"] != sequence || hashBefore006(before, entry, salt) != hash { broken = sequence }
            // A salt of another form can only be in a chain that was broken.
            let bytes = Hexadecimal.bytes(salt).flatMap { $0.count == AuditRecord.saltBytes ? $0 : nil } ?? [UInt8](repeating: 0, count: AuditRecord.saltBytes)
            let record = AuditRecord(entry, salt: bytes, after: previous)
            let node = frontier.append(record.leaf)
            try db.execute(sql: "INSERT INTO audit_event (sequence, at, actor, action, object, detail, salt, leaf, node, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", arguments: [
                sequence, entry.at.nanoseconds, entry.actor, entry.action, entry.object, entry.detail, Hexadecimal.text(bytes), record.leaf.hex, node.hex, record.hash.hex,
            ])
            (previous, before, last) = (record.hash, hash, (sequence, entry.at.nanoseconds, hash))
        }
        return (broken, last)
    }

    /// How entries were hashed before: SHA-256(hash before in hexadecimal ‖ SHA-256(salt and fields behind their lengths)).
    static func hashBefore006(_ previous: String, _ entry: AuditEntry, _ salt: String) -> String {
        let lengthAndSalt = withUnsafeBytes(of: UInt32(truncatingIfNeeded: salt.utf8.count).bigEndian, Array.init) + Array(salt.utf8)
        return Hexadecimal.text(SHA256.hash(data: Data(previous.utf8) + Data(SHA256.hash(data: lengthAndSalt + entry.canonicalBytes))))
    }

    private static let tables = """
        CREATE TABLE audit_event (
          sequence INTEGER NOT NULL PRIMARY KEY CHECK (sequence > 0),
          at INTEGER,
          actor TEXT,
          action TEXT,
          object TEXT,
          detail TEXT,
          salt TEXT CHECK (length(salt) = 32),
          leaf TEXT NOT NULL CHECK (length(leaf) = 64),
          -- Root of the largest whole subtree that ends with this entry: the tree's right edge is read from these.
          node TEXT NOT NULL CHECK (length(node) = 64),
          hash TEXT NOT NULL CHECK (length(hash) = 64),
          -- All of the content, or none of it.
          CHECK ((salt IS NULL) + (at IS NULL) + (actor IS NULL) + (action IS NULL) + (object IS NULL) + (detail IS NULL) IN (0, 6))
        );
        CREATE TABLE audit_checkpoint (
          size INTEGER NOT NULL PRIMARY KEY CHECK (size > 0),
          note TEXT NOT NULL
        );
        """

    /// Content can go, as a whole; nothing else changes.
    private static let triggers = """
        CREATE TRIGGER audit_event_update BEFORE UPDATE ON audit_event
        WHEN NEW.salt IS NOT NULL OR NEW.sequence <> OLD.sequence OR NEW.leaf <> OLD.leaf OR NEW.node <> OLD.node OR NEW.hash <> OLD.hash OR OLD.action LIKE 'audit.%'
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
        CREATE TRIGGER audit_event_delete BEFORE DELETE ON audit_event BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
        CREATE TRIGGER audit_event_insert BEFORE INSERT ON audit_event
        WHEN NEW.salt IS NULL OR NEW.sequence <> (SELECT COALESCE(MAX(sequence), 0) + 1 FROM audit_event)
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
        CREATE TRIGGER audit_checkpoint_insert BEFORE INSERT ON audit_checkpoint
        WHEN NEW.size <= (SELECT COALESCE(MAX(size), 0) FROM audit_checkpoint) OR NEW.size > (SELECT COALESCE(MAX(sequence), 0) FROM audit_event)
        BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
        CREATE TRIGGER audit_checkpoint_update BEFORE UPDATE ON audit_checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
        CREATE TRIGGER audit_checkpoint_delete BEFORE DELETE ON audit_checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
        """
}
