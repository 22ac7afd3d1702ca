import Foundation
import Glibc
import GRDB
import SealedFile

/// A consistent copy of a store, taken while others write to it.
public enum StoreCopy {
    /// Writes one consistent state of the database at `source` to the new file `target` (VACUUM INTO: no free page, no journal comes along),
    /// durable, with mode 0600. Blocks.
    public static func make(of source: String, to target: String) throws {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(30)
        configuration.prepareDatabase { try $0.execute(sql: "PRAGMA temp_store = MEMORY") }
        OwnerOnly.prepare(target)
        let queue = try DatabaseQueue(path: source, configuration: configuration)
        try queue.inDatabase { try $0.execute(sql: "VACUUM INTO ?", arguments: [target]) }
        try queue.close()
        let descriptor = open(target, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw SealedFileError.system(call: "open", errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw SealedFileError.system(call: "fsync", errno: errno) }
    }

    /// Ids of the recordings in a copy that still have files, with whether their packet logs were being written.
    public static func recordings(in catalog: String) throws -> [(id: String, isLive: Bool)] {
        var configuration = Configuration()
        configuration.readonly = true
        return try DatabaseQueue(path: catalog, configuration: configuration).read { db in
            try Row.fetchAll(db, sql: "SELECT id, state FROM recording WHERE state NOT IN ('expired','erased') ORDER BY id")
                .map { (id: $0["id"], isLive: ["recording", "paused"].contains($0["state"] as String)) }
        }
    }
}
