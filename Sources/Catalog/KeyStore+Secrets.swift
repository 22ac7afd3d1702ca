import GRDB
import Media

extension KeyStore {
    /// Forgets what was kept with tracks' keys for a restart; the keys themselves stay.
    public func forgetSecrets(of tracks: [TrackID]) async throws {
        let gone = try await queue.write { db in
            var gone = 0
            for track in tracks {
                try db.execute(sql: "DELETE FROM wrapped_secret WHERE id = ?", arguments: [Self.track(track)])
                gone += db.changesCount
            }
            return gone
        }
        if gone > 0 { try await queue.writeWithoutTransaction { try $0.execute(sql: "VACUUM") } }
    }
}
