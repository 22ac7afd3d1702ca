import GRDB

// SQLite opens a file for reading only where it could not be opened for writing, if only for a moment, and says nothing. Every write would be
// refused from then on, for as long as the program runs.

extension Database {
    /// Throws where this connection reads only. Writes the header's `user_version` as it is.
    fileprivate func requireWritable() throws {
        let version = try Int.fetchOne(self, sql: "PRAGMA user_version") ?? 0
        try execute(sql: "PRAGMA user_version = \(version)")
    }
}

extension Catalog {
    /// Throws where nothing can be written: for who is going to. Blocks.
    public func requireWritable() throws { try pool.write { try $0.requireWritable() } }
}

extension KeyStore {
    /// Throws where nothing can be written: for who is going to. Blocks.
    public func requireWritable() throws { try queue.write { try $0.requireWritable() } }
}
