import Foundation
import GRDB
import Media
import SealedFile

extension KeyStore {
    /// Keys that sign the audit log: 32-byte Ed25519 seeds, wrapped under the root key. They name nobody and go with nothing.
    static let signingKeys = """
        CREATE TABLE IF NOT EXISTS signing_key (
          position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
          name TEXT NOT NULL UNIQUE,
          wrapped BLOB NOT NULL CHECK (length(wrapped) = 60)
        )
        """

    static func signing(_ name: String) -> String { "signing:\(name)" }

    /// The newest signing key that this root opens; a new one where there is none. Blocks.
    public func noteSigner() throws -> NoteSigner {
        let root = root
        return try queue.write { db in
            for row in try Row.fetchAll(db, sql: "SELECT name, wrapped FROM signing_key ORDER BY position DESC") {
                let (name, wrapped) = (row["name"] as String, WrappedKey(bytes: row["wrapped"]))
                // One of another root stays where it is, and `keys check` names it.
                if let seed = try? wrapped.unwrapped(under: root, id: Self.signing(name)) { return NoteSigner(name: name, seed: seed) }
            }
            let (name, seed) = ("mitschnitt-audit-" + RecordingID.random().rawValue.prefix(16), DataKey.random())
            try db.execute(sql: "INSERT INTO signing_key (name, wrapped) VALUES (?, ?)", arguments: [name, WrappedKey(seed, under: root, id: Self.signing(name)).bytes])
            return NoteSigner(name: name, seed: seed)
        }
    }
}
