import Foundation
import GRDB
import SealedFile

extension KeyStore {
    /// How many keys of which kind there are, and how many of those that the root wraps itself it opens.
    public struct Census: Hashable, Sendable {
        public var recordings = 0
        public var tracks = 0
        public var renditions = 0
        public var secrets = 0
        public var signing = 0
        public var underRoot: Int { recordings + signing }
        public var opened = 0

        public var isOpen: Bool { opened == underRoot }
    }

    /// Blocks.
    public func census() throws -> Census {
        let root = root
        return try queue.read { db in
            func count(_ sql: String) throws -> Int { try Int.fetchOne(db, sql: sql) ?? 0 }
            return Census(recordings: try count("SELECT COUNT(*) FROM wrapped_key WHERE parent IS NULL"),
                          tracks: try count("SELECT COUNT(*) FROM wrapped_key WHERE id LIKE 'track:%'"),
                          renditions: try count("SELECT COUNT(*) FROM wrapped_key WHERE id LIKE 'rendition:%'"),
                          secrets: try count("SELECT COUNT(*) FROM wrapped_secret"), signing: try count("SELECT COUNT(*) FROM signing_key"),
                          opened: try Self.underRoot(db).count { id, wrapped in (try? wrapped.unwrapped(under: root, id: id)) != nil })
        }
    }

    /// What the root wraps itself: the keys of recordings and those that sign.
    private static func underRoot(_ db: Database) throws -> [(id: String, wrapped: WrappedKey)] {
        try Row.fetchAll(db, sql: "SELECT id, wrapped FROM wrapped_key WHERE parent IS NULL").map { ($0["id"], WrappedKey(bytes: $0["wrapped"])) }
            + Row.fetchAll(db, sql: "SELECT name, wrapped FROM signing_key").map { (signing($0["name"]), WrappedKey(bytes: $0["wrapped"])) }
    }

    /// The ids of all keys and secrets that do not open. Blocks.
    public func unopened() throws -> [String] {
        let root = root
        return try queue.read { db in
            var keys: [String: DataKey] = [:]
            var bad: [String] = []
            for (id, wrapped) in try Self.underRoot(db) {
                if let key = try? wrapped.unwrapped(under: root, id: id) { keys[id] = key } else { bad.append(id) }
            }
            for row in try Row.fetchAll(db, sql: "SELECT id, parent, wrapped FROM wrapped_key WHERE parent IS NOT NULL") {
                let (id, parent) = (row["id"] as String, row["parent"] as String)
                if let above = keys[parent], let key = try? WrappedKey(bytes: row["wrapped"]).unwrapped(under: above, id: id) { keys[id] = key } else { bad.append(id) }
            }
            for row in try Row.fetchAll(db, sql: "SELECT id, sealed FROM wrapped_secret") {
                let id: String = row["id"]
                if let key = keys[id], (try? SealedSecret(bytes: row["sealed"]).opened(under: key, id: id)) != nil { continue }
                bad.append("secret of \(id)")
            }
            return bad.sorted()
        }
    }

    /// Wraps everything that hangs from the root under another one, in one transaction; media and the keys below stay as they are.
    ///
    /// Throws `.wrongKeyOrContext`, with nothing changed, if anything does not open. This object still has the old root: make a new one. Blocks.
    func rewrap(under new: DataKey) throws {
        let root = root
        try queue.write { db in
            for row in try Row.fetchAll(db, sql: "SELECT id, wrapped FROM wrapped_key WHERE parent IS NULL") {
                let id: String = row["id"]
                let key = try WrappedKey(bytes: row["wrapped"]).unwrapped(under: root, id: id)
                try db.execute(sql: "UPDATE wrapped_key SET wrapped = ? WHERE id = ?", arguments: [WrappedKey(key, under: new, id: id).bytes, id])
            }
            for row in try Row.fetchAll(db, sql: "SELECT name, wrapped FROM signing_key") {
                let name: String = row["name"]
                let key = try WrappedKey(bytes: row["wrapped"]).unwrapped(under: root, id: Self.signing(name))
                try db.execute(sql: "UPDATE signing_key SET wrapped = ? WHERE name = ?", arguments: [WrappedKey(key, under: new, id: Self.signing(name)).bytes, name])
            }
        }
    }

    /// Writes the file anew: nothing that was replaced or deleted is in it. Blocks.
    func compact() throws { try queue.writeWithoutTransaction(Self.rewrite) }

    public func close() throws { try queue.close() }
}
