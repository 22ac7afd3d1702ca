import Crypto
import Foundation
import GRDB
import Media

/// Who did what, when: append-only, each entry hashed with the one before it over a salted commitment.
///
/// Entries name pseudonyms and object ids, never names, addresses or topics.
public enum AuditLog {
    /// Appends an entry; its place in the log is returned.
    @discardableResult
    public static func append(actor: String, action: String, object: String, detail: String = "", now: WallTime, _ db: Database) throws -> Int {
        let last = try Row.fetchOne(db, sql: "SELECT sequence, hash FROM audit_event ORDER BY sequence DESC LIMIT 1")
        let sequence = (last?["sequence"] ?? 0) + 1
        let salt = hex(SymmetricKey(size: .bits128).withUnsafeBytes { Array($0) })
        let hash = entryHash(previous: last?["hash"] ?? "", sequence: sequence, at: now.nanoseconds, actor: actor, action: action, object: object,
                             detail: detail, salt: salt)
        try db.execute(sql: "INSERT INTO audit_event (sequence, at, actor, action, object, detail, salt, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                       arguments: [sequence, now.nanoseconds, actor, action, object, detail, salt, hash])
        return sequence
    }

    /// The first entry that does not fit the chain, or nil.
    public static func firstBroken(_ db: Database) throws -> Int? {
        var previous = ""
        var expected = 1
        let rows = try Row.fetchCursor(db, sql: "SELECT * FROM audit_event ORDER BY sequence")
        while let row = try rows.next() {
            let sequence: Int = row["sequence"]
            let hash = entryHash(previous: previous, sequence: sequence, at: row["at"], actor: row["actor"], action: row["action"], object: row["object"],
                                 detail: row["detail"], salt: row["salt"])
            guard sequence == expected, hash == row["hash"] else { return expected }
            previous = hash
            expected += 1
        }
        return nil
    }

    private static func entryHash(previous: String, sequence: Int, at: Int64, actor: String, action: String, object: String, detail: String, salt: String) -> String {
        var leaf = SHA256()
        for field in [salt, String(sequence), String(at), actor, action, object, detail] {
            let bytes = Data(field.utf8)
            leaf.update(data: withUnsafeBytes(of: UInt32(bytes.count).bigEndian) { Data($0) })
            leaf.update(data: bytes)
        }
        return hex(SHA256.hash(data: Data(previous.utf8) + Data(leaf.finalize())))
    }

    private static func hex(_ bytes: some Sequence<UInt8>) -> String { bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() }
}
