import Foundation
import GRDB
import SealedFile

/// The audit log of a data folder, read in one consistent state and never written to; the server may be running.
public struct AuditReader {
    private let queue: DatabaseQueue

    public struct TooOld: Error, CustomStringConvertible {
        public var description: String { "the catalog was written before logs were signed: start the server once, it brings it up to date" }
    }

    /// `path`: the catalog's database.
    public init(path: String) throws {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        configuration.label = "audit"
        queue = try DatabaseQueue(path: path, configuration: configuration)
        guard try queue.read({ try $0.tableExists("audit_checkpoint") }) else { throw TooOld() }
    }

    /// Gives the lines of the export one after the other; in whatever state the log is, damage is left for the verifier to name.
    public func lines(_ body: (AuditLine) throws -> Void) throws {
        try queue.read { db in
            try body(.head)
            // Only notices that somebody decided under: each consent's wording, once.
            let notices = try String.fetchCursor(db, sql: """
                SELECT text FROM notice WHERE hash IN (SELECT json_extract(event, '$.noticeHash') FROM consent_event WHERE json_valid(event)) ORDER BY hash
                """)
            while let text = try notices.next() { try body(.notice(text)) }
            let consents = try String.fetchCursor(db, sql: "SELECT event FROM consent_event ORDER BY recording, sequence")
            while let event = try consents.next() { try body(.consent(event)) }
            var checkpoints = 0
            let notes = try Row.fetchCursor(db, sql: "SELECT size, note FROM audit_checkpoint ORDER BY size")
            var next = try notes.next()
            var entries = 0
            let rows = try Row.fetchCursor(db, sql: "SELECT * FROM audit_event ORDER BY sequence")
            while let row = try rows.next() {
                guard let record = AuditLog.record(row) else { throw AuditFault(place: .entry(entries + 1), why: "its hashes or its salt cannot be read") }
                try body(.record(record))
                entries += 1
                while let row = next, try Self.size(row) <= record.sequence {
                    try body(.checkpoint(Self.note(row)))
                    checkpoints += 1
                    next = try notes.next()
                }
            }
            while let row = next {
                try body(.checkpoint(Self.note(row)))
                checkpoints += 1
                next = try notes.next()
            }
            try body(.end(entries: entries, checkpoints: checkpoints))
        }
    }

    private static func size(_ row: Row) throws -> Int {
        guard let size: Int = row.found("size") else { throw AuditFault(place: .end, why: "a checkpoint's size cannot be read") }
        return size
    }

    private static func note(_ row: Row) throws -> String {
        guard let note: String = row.found("note") else { throw AuditFault(place: .checkpoint(size: try size(row)), why: "it cannot be read") }
        return note
    }

    /// Checks the log where it lies, the tree's nodes included. Throws ``AuditFault``.
    public func verify(keys: [VerifierKey] = [], held: [AuditCheckpoint] = []) throws -> AuditSummary {
        var verifier = AuditVerifier(keys: keys, held: held)
        try lines { try verifier.take(Array($0.text.utf8)) }
        let summary = try verifier.finish()
        if let broken = try queue.read(AuditLog.firstBroken) { throw AuditFault(place: .entry(broken), why: "the tree node that is kept with it is wrong") }
        return summary
    }

    public func lastCheckpoint() throws -> AuditCheckpoint? { try queue.read(AuditLog.lastCheckpoint) }

    /// The keys that the log names, oldest first.
    public func keys() throws -> [VerifierKey] {
        try queue.read { try String.fetchAll($0, sql: "SELECT detail FROM audit_event WHERE action = ? ORDER BY sequence", arguments: [AuditLog.keyAction]).compactMap(VerifierKey.init) }
    }

    /// That the log at the last checkpoint holds the log at `old`; nil where it has no checkpoint, or none that is as large.
    public func consistency(since old: AuditCheckpoint) throws -> AuditConsistency? {
        try queue.read { db in
            guard let new = try AuditLog.lastCheckpoint(db), new.size >= old.size else { return nil }
            let leaves = try String.fetchAll(db, sql: "SELECT leaf FROM audit_event WHERE sequence <= ? ORDER BY sequence", arguments: [new.size]).map(AuditLog.hash)
            guard leaves.count == new.size else { throw AuditLog.Damaged() }
            return AuditConsistency(old: old, new: new, path: MerkleTree.consistencyPath(old.size, leaves[...]))
        }
    }
}

extension Row {
    /// A column's value; nil where somebody put there what cannot be one. (`row[…]` ends the program then.)
    func found<Value: DatabaseValueConvertible>(_ column: String) -> Value? { Value.fromDatabaseValue(self[column] as DatabaseValue? ?? .null) }
}
