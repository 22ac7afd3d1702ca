import Foundation
import GRDB
import Media
import SealedFile

/// The wrapped keys of recordings, tracks and renditions, in a file of their own, apart from the catalog and its backups.
///
/// root key → recording key → track and rendition keys. Destroying a row shreds what it sealed; the file is then rewritten (VACUUM), once for
/// all that were removed together, so that the wrapped bytes are nowhere in it. Rollback journal instead of WAL: nothing stays behind in a
/// second file.
public final class KeyStore: Sendable {
    let queue: DatabaseQueue
    let root: DataKey

    public init(path: String, root: DataKey) throws {
        self.root = root
        var configuration = Configuration()
        configuration.foreignKeysEnabled = true
        configuration.busyMode = .timeout(5)
        configuration.label = "keys"
        configuration.prepareDatabase { db in
            // 32 MiB of pages: the keys of 15,000 recordings, which a sweep reads, removes and writes anew.
            try db.execute(sql: "PRAGMA journal_mode = DELETE; PRAGMA secure_delete = ON; PRAGMA synchronous = EXTRA; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768")
        }
        OwnerOnly.prepare(path)
        queue = try DatabaseQueue(path: path, configuration: configuration)
        try queue.write { db in
            try db.execute(sql: """
                CREATE TABLE IF NOT EXISTS wrapped_key (
                  id TEXT NOT NULL PRIMARY KEY,
                  parent TEXT REFERENCES wrapped_key (id) ON DELETE CASCADE,
                  wrapped BLOB NOT NULL CHECK (length(wrapped) = 60),
                  created_at INTEGER NOT NULL
                ) WITHOUT ROWID
                """)
            // What a live track needs to go on after a restart (its sender's SRTP keys), sealed under the track's key; goes with it.
            try db.execute(sql: """
                CREATE TABLE IF NOT EXISTS wrapped_secret (
                  id TEXT NOT NULL PRIMARY KEY REFERENCES wrapped_key (id) ON DELETE CASCADE,
                  sealed BLOB NOT NULL CHECK (length(sealed) >= 28)
                ) WITHOUT ROWID
                """)
            try db.execute(sql: Self.signingKeys)
            // Without it each recording's end would look through all keys for those below it.
            try db.execute(sql: "CREATE INDEX IF NOT EXISTS wrapped_key_parent ON wrapped_key (parent)")
        }
    }

    public static func recording(_ id: RecordingID) -> String { "recording:\(id)" }
    public static func track(_ id: TrackID) -> String { "track:\(id)" }
    public static func rendition(_ id: RenditionID) -> String { "rendition:\(id)" }

    /// The key was destroyed, or never made.
    public struct Missing: Error, CustomStringConvertible {
        public var id: String
        public var description: String { "the key \(id) does not exist (any more)" }
    }

    /// Makes a recording's key and those of its tracks, in one transaction; a track's secret is kept under its key.
    public func create(recording: RecordingID, tracks: [TrackID], secrets: [TrackID: Data] = [:], now: WallTime) async throws {
        let root = root
        try await queue.write { db in
            let key = DataKey.random()
            try Self.insert(Self.recording(recording), nil, key, root, now, db)
            for track in tracks {
                let (id, own) = (Self.track(track), DataKey.random())
                try Self.insert(id, Self.recording(recording), own, key, now, db)
                guard let secret = secrets[track] else { continue }
                try db.execute(sql: "INSERT INTO wrapped_secret (id, sealed) VALUES (?, ?)", arguments: [id, SealedSecret(secret, under: own, id: id).bytes])
            }
        }
    }

    /// Makes the keys of many recordings, tracks and renditions at once, in one transaction.
    public func create(_ recordings: [(recording: RecordingID, tracks: [TrackID], renditions: [RenditionID])], now: WallTime) async throws {
        let root = root
        try await queue.write { db in
            for (recording, tracks, renditions) in recordings {
                let key = DataKey.random()
                try Self.insert(Self.recording(recording), nil, key, root, now, db)
                for id in tracks.map(Self.track) + renditions.map(Self.rendition) { try Self.insert(id, Self.recording(recording), .random(), key, now, db) }
            }
        }
    }

    /// What was kept with a track's key; nil where there is nothing.
    public func secret(of track: TrackID) async throws -> Data? {
        let root = root
        return try await queue.read { db in
            let id = Self.track(track)
            guard let sealed = try Data.fetchOne(db, sql: "SELECT sealed FROM wrapped_secret WHERE id = ?", arguments: [id]) else { return nil }
            return try SealedSecret(bytes: sealed).opened(under: Self.key(id, root, db), id: id)
        }
    }

    /// Makes a rendition's key.
    public func create(rendition: RenditionID, of recording: RecordingID, now: WallTime) async throws -> DataKey {
        let root = root
        return try await queue.write { db in
            let key = DataKey.random()
            try Self.insert(Self.rendition(rendition), Self.recording(recording), key, Self.key(Self.recording(recording), root, db), now, db)
            return key
        }
    }

    private static func insert(_ id: String, _ parent: String?, _ key: DataKey, _ under: DataKey, _ now: WallTime, _ db: Database) throws {
        try db.execute(sql: "INSERT INTO wrapped_key (id, parent, wrapped, created_at) VALUES (?, ?, ?, ?)",
                       arguments: [id, parent, WrappedKey(key, under: under, id: id).bytes, now.nanoseconds])
    }

    public func key(_ id: String) async throws -> DataKey {
        let root = root
        return try await queue.read { try Self.key(id, root, $0) }
    }

    static func key(_ id: String, _ root: DataKey, _ db: Database) throws -> DataKey {
        guard let row = try Row.fetchOne(db.cachedStatement(sql: "SELECT parent, wrapped FROM wrapped_key WHERE id = ?"), arguments: [id]) else { throw Missing(id: id) }
        let parent: String? = row["parent"]
        let above = try parent.map { try key($0, root, db) } ?? root
        return try WrappedKey(bytes: row["wrapped"]).unwrapped(under: above, id: id)
    }

    /// What stands for the fingerprint of a key that does not open any more (damaged, or wrapped under another root key).
    public static let unreadable = "unreadable"

    /// The key's fingerprint for a receipt, or ``unreadable``: what cannot be opened is destroyed all the same. Throws ``Missing``.
    public func fingerprint(_ id: String) async throws -> String {
        let root = root
        return try await queue.read { try Self.fingerprint(id, root, $0) }
    }

    private static func fingerprint(_ id: String, _ root: DataKey, _ db: Database) throws -> String {
        do { return try key(id, root, db).fingerprint(under: root) } catch is SealedFileError { return unreadable }
    }

    public func count() async throws -> Int { try await queue.read { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM wrapped_key") ?? 0 } }
    public func ids(below recording: RecordingID) async throws -> [String] {
        try await queue.read { try String.fetchAll($0, sql: "SELECT id FROM wrapped_key WHERE id = ? OR parent = ?", arguments: [Self.recording(recording), Self.recording(recording)]) }
    }
}
