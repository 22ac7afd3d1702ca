import Foundation
import Glibc
import GRDB
import Media
import SealedFile

/// Destruction in two steps: rows are removed, then the file is written anew, once for all that were removed since the last time.
///
/// | step | a search of the file finds | counts as destroyed |
/// |---|---|---|
/// | removed (one transaction; secure_delete) | perhaps copies that the B-tree left when it moved cells | no |
/// | rewritten (VACUUM) | nothing | yes, from this moment |
///
/// That a rewriting is owed is written with the removal (`user_version`, which VACUUM keeps), so that a kill in between cannot forget it.
extension KeyStore {
    /// A key that there was, and what its receipt calls it.
    public struct Named: Hashable, Sendable {
        public var id: String
        public var fingerprint: String
    }

    /// Recordings' keys and those below them, with their fingerprints, or ``unreadable``; a recording that has none is left out.
    public func families(of recordings: [RecordingID]) async throws -> [RecordingID: [Named]] {
        let root = root
        var families: [RecordingID: [Named]] = [:]
        // Not all in one: whoever wants a key meanwhile waits for the end of a part.
        for start in stride(from: 0, to: recordings.count, by: Self.readAtOnceMax) {
            let part = recordings[start..<min(start + Self.readAtOnceMax, recordings.count)]
            let found = try await queue.read { db in try part.map { ($0, try Self.family(Self.recording($0), root, db)) } }
            for (recording, named) in found where !named.isEmpty { families[recording] = named }
        }
        return families
    }
    private static let readAtOnceMax = 200

    /// Opens the key at the top once, and each below it.
    private static func family(_ id: String, _ root: DataKey, _ db: Database) throws -> [Named] {
        let rows = try Row.fetchAll(db.cachedStatement(sql: "SELECT id, parent, wrapped FROM wrapped_key WHERE id = ?1 UNION ALL SELECT id, parent, wrapped FROM wrapped_key WHERE parent = ?1"),
                                    arguments: [id])
        var top: DataKey?
        return try rows.map { row in
            let (member, wrapped) = (row["id"] as String, WrappedKey(bytes: row["wrapped"]))
            let key: DataKey?
            // What does not open any more is destroyed all the same.
            if member == id {
                do { key = try Self.key(id, root, db) } catch is SealedFileError { key = nil }
                top = key
            } else {
                key = top.flatMap { try? wrapped.unwrapped(under: $0, id: member) }
            }
            return Named(id: member, fingerprint: key?.fingerprint(under: root) ?? unreadable)
        }
    }

    /// Removes keys and all below them, in one transaction; the fingerprints of those that were there, by id. They count as destroyed when
    /// ``rewrite()`` has returned.
    public func remove(_ ids: [String]) async throws -> [String: String] {
        let root = root
        return try await queue.write { db in
            var fingerprints: [String: String] = [:]
            for id in ids {
                for member in try Self.family(id, root, db) { fingerprints[member.id] = member.fingerprint }
                try db.execute(sql: "DELETE FROM wrapped_key WHERE id = ?", arguments: [id])
            }
            if !fingerprints.isEmpty { try db.execute(sql: "PRAGMA user_version = 1") }
            return fingerprints
        }
    }

    /// The same without looking at them: for a batch whose fingerprints are in receipts already.
    public func removeUnread(_ ids: [String]) async throws {
        try await queue.write { db in
            var hasRemoved = false
            for id in ids {
                try db.run("DELETE FROM wrapped_key WHERE id = ?", arguments: [id])
                hasRemoved = hasRemoved || db.changesCount > 0
            }
            if hasRemoved { try db.execute(sql: "PRAGMA user_version = 1") }
        }
    }

    /// Writes the file anew if anything was removed since the last time: afterwards no byte of it is in the file, and it counts as destroyed.
    ///
    /// So it does where a kill left a journal that SQLite does not need and would keep until the next change: copies of pages are in it.
    public func rewrite() async throws {
        let journal = queue.path + "-journal"
        try await queue.writeWithoutTransaction { db in
            guard try Self.isRewriteOwed(db) || access(journal, F_OK) == 0 else { return }
            try Self.rewrite(db)
        }
    }

    static func isRewriteOwed(_ db: Database) throws -> Bool { try Int.fetchOne(db, sql: "PRAGMA user_version") != 0 }

    /// Killed between the two statements it is written anew once more.
    static func rewrite(_ db: Database) throws { try db.execute(sql: "VACUUM; PRAGMA user_version = 0") }

    /// Destroys keys and all below them; the fingerprints of those that were there, by id.
    public func destroy(_ ids: [String]) async throws -> [String: String] {
        let fingerprints = try await remove(ids)
        try await rewrite()
        return fingerprints
    }

    /// Renditions' keys, each with its recording.
    public func renditions() async throws -> [(rendition: RenditionID, recording: RecordingID)] {
        try await queue.read { db in
            try Row.fetchAll(db, sql: "SELECT id, parent FROM wrapped_key WHERE id LIKE 'rendition:%'").compactMap { row in
                guard let rendition = RenditionID(rawValue: String((row["id"] as String).dropFirst("rendition:".count))),
                      let recording = RecordingID(rawValue: String((row["parent"] as String? ?? "").dropFirst("recording:".count))) else { return nil }
                return (rendition, recording)
            }
        }
    }
}
