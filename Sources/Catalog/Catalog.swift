import Foundation
import Glibc
import GRDB
import JobQueue
import Media

/// The catalog: meetings, people, recordings, consents, renditions, jobs and the audit log, in one SQLite database.
///
/// Constraints live in the schema. `synchronous` is FULL, so what was answered is on the disk; erased values are overwritten
/// (`secure_delete`). Calls run on GRDB's own threads, never on the cooperative pool.
public final class Catalog: Sendable {
    let pool: DatabasePool
    /// The queue, in the same database: a job ends and what it made is entered in one transaction.
    public let jobs: SQLiteJobStore
    /// For what asks for a recording's consents again and again.
    public let consents = ConsentFolds()
    private let path: String
    /// Device and inode of the file that was opened.
    private let file: [UInt64]

    public init(path: String) throws {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = true
        configuration.busyMode = .timeout(5)
        configuration.label = "catalog"
        // What a query sorts, names among it, stays in memory: no temporary file outside the data folder. 8 MiB of pages for each connection: with
        // SQLite's 2 a sweep reads most of its pages again and again.
        configuration.prepareDatabase { db in try db.execute(sql: "PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192") }
        OwnerOnly.prepare(path)
        pool = try DatabasePool(path: path, configuration: configuration)
        self.path = path
        file = Self.file(path)
        // GRDB sets NORMAL for WAL after `prepareDatabase`.
        try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
        guard try pool.read({ try !CatalogSchema.migrator.hasBeenSuperseded($0) }) else { throw WrittenByNewerVersion() }
        try CatalogSchema.migrator.migrate(pool)
        jobs = SQLiteJobStore(pool, changes: try JobChanges(folder: URL(filePath: path).deletingLastPathComponent().appending(path: "jobs")))
        try assertDurability()
    }

    /// An older program would misread what a newer one wrote.
    public struct WrittenByNewerVersion: Error, CustomStringConvertible {
        public var description: String { "the catalog was written by a newer version of this program: start that one, or restore a backup made before it" }
    }

    public struct NotDurable: Error, CustomStringConvertible {
        public var description: String
    }

    /// Checks at boot that the database really promises what we promise.
    public func assertDurability() throws {
        let settings = try durability()
        guard settings == ["journal_mode": "wal", "synchronous": "2", "secure_delete": "1", "foreign_keys": "1"] else {
            throw NotDurable(description: "the catalog's settings are \(settings.sorted { $0.key < $1.key }), not WAL, FULL, secure_delete and foreign_keys")
        }
    }

    public func durability() throws -> [String: String] {
        try pool.writeWithoutTransaction { db in
            var found: [String: String] = [:]
            for name in ["journal_mode", "synchronous", "secure_delete", "foreign_keys"] { found[name] = try String.fetchOne(db, sql: "PRAGMA \(name)") }
            return found
        }
    }

    private static func file(_ path: String) -> [UInt64] {
        var status = stat()
        return stat(path, &status) == 0 ? [UInt64(status.st_dev), UInt64(status.st_ino)] : []
    }

    /// The database was removed or replaced while it was open: SQLite goes on with a file that nobody finds again.
    public struct FileGone: Error, CustomStringConvertible {
        public var description: String { "the catalog's file is not the one that was opened: stop the server, restore the file, start again" }
    }

    /// Reads one consistent state.
    public func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value { try await pool.read(body) }

    /// One transaction: all of it, or nothing. Throws ``FileGone`` where it would be lost.
    public func write<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        try await pool.write { [path, file] db in
            guard Self.file(path) == file else { throw FileGone() }
            return try body(db)
        }
    }

    /// How far the clock had come; nil where it was never noted. Blocks.
    public func latestTime() throws -> WallTime? { try pool.read { try $0.latestTime() } }

    /// Moves the WAL into the database and empties it: after an erasure nothing of it stays there.
    public func checkpoint() async throws { try await pool.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) } }

    public func close() throws { try pool.close() }
}
