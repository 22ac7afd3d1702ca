import Catalog
import Consent
import Foundation
import GRDB
import Logging
import Media
import RTP
import Synchronization

/// What is kept beside recordings ends on its date, too: the list of downloads with what the log says of it, messages, technical data of
/// connections, access codes, proofs of consent and the names behind them.
extension Recorder {
    /// Part of each sweep. A failure is told and tried again; it closes no gate.
    func keepRecords() async {
        let parts: [(String, () async throws -> Void)] = [
            ("the list of downloads", endReadings), ("technical data", endTechnicalData), ("access codes", endAccess), ("proofs of consent", endProofs), ("names", endIdentities),
            ("warnings of expiry", warnOfExpiry),
        ]
        for (what, part) in parts {
            do { try await part() } catch { logger.error("what has to end or be told could not be", metadata: ["what": "\(what)", "error": "\(error)"]) }
        }
    }

    private func days(_ count: Int, before now: WallTime) -> WallTime { now - .seconds(Int64(count) * 86_400) }

    /// Downloads, who was told of what, and the audit log's entries on both, past `downloadLogDays`.
    func endReadings() async throws {
        let now = clock.now
        let (cutoff, why) = (days(configuration.retention.downloadLogDays, before: now), "download log, \(configuration.retention.downloadLogDays) days")
        let isDue = try await catalog.read { db in
            try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM download WHERE at < ?1) OR EXISTS (SELECT 1 FROM notification WHERE created_at < ?1)", arguments: [cutoff.nanoseconds]) ?? false
                || AuditLog.oldestReading(db).map { $0 < cutoff } ?? false
        }
        guard isDue else { return }
        try await catalog.write { db in
            try db.execute(sql: "DELETE FROM download WHERE at < ?", arguments: [cutoff.nanoseconds])
            try db.execute(sql: "DELETE FROM notification WHERE created_at < ?", arguments: [cutoff.nanoseconds])
            while try AuditLog.eraseReadings(before: cutoff, why: why, now: now, db) == AuditLog.erasedAtOnceMax {}
        }
        try await catalog.checkpoint()
    }

    /// Where media came from: addresses that were allowed to send, those in the SDP, and the sealed copy of it that a restart needs.
    func endTechnicalData() async throws {
        let now = clock.now
        let cutoff = days(configuration.retention.technicalDataDays, before: now)
        let due = try await catalog.read { try String.fetchAll($0, sql: TechnicalData.due, arguments: [cutoff.nanoseconds]) }
        guard !due.isEmpty else { return }
        let tracks = try await catalog.write { db in
            try due.flatMap { recording in
                let streams = try db.streams(of: recording).map(\.stream)
                for stream in streams where !stream.isFile {
                    try db.execute(sql: "UPDATE stream SET sdp = ? WHERE id = ?", arguments: [TechnicalData.removed(from: stream.sdp), stream.id])
                }
                try db.execute(sql: "UPDATE recording SET sources = '[]' WHERE id = ?", arguments: [recording])
                return streams.compactMap { TrackID(rawValue: $0.track) }
            }
        }
        try await keys.forgetSecrets(of: tracks)
        // Last: a kill before it does all of it again.
        try await catalog.write { db in
            for recording in due { try db.execute(sql: "UPDATE recording SET technical_erased_at = ? WHERE id = ?", arguments: [now.nanoseconds, recording]) }
        }
        try await catalog.checkpoint()
    }

    /// Codes that have run out, and addresses of moderators who have none any more.
    func endAccess() async throws {
        let cutoff = days(configuration.retention.technicalDataDays, before: clock.now)
        guard try await catalog.read({ try Bool.fetchOne($0, sql: "SELECT EXISTS (SELECT 1 FROM access_token WHERE expires_at < ?)", arguments: [cutoff.nanoseconds]) ?? false }) else { return }
        try await catalog.write { db in
            try db.execute(sql: "DELETE FROM access_token WHERE expires_at < ?", arguments: [cutoff.nanoseconds])
            try db.execute(sql: "DELETE FROM contact WHERE participant IS NULL AND NOT EXISTS (SELECT 1 FROM access_token WHERE access_token.subject = contact.subject)")
        }
        identitiesLookedAt.withLock { $0 = nil }
        try await catalog.checkpoint()
    }
}

/// What of a recording tells where somebody's device is.
enum TechnicalData {
    /// Recordings that are over and whose technical data is older than the argument.
    static let due = """
        SELECT id FROM recording WHERE technical_erased_at IS NULL AND stopped_at < ?1
        UNION ALL SELECT id FROM recording WHERE technical_erased_at IS NULL AND stopped_at IS NULL AND (state IN ('expired','erased') OR state NOT IN ('recording','paused') AND started_at < ?1)
        LIMIT 500
        """

    /// What says how media is coded; the rest names hosts, sessions and people (RFC 8866: `o=`, `c=`, `e=`, `p=`; candidates, CNAMEs, ICE, fingerprints).
    private static let kept = ["v=", "m=", "a=rtpmap:", "a=fmtp:", "a=extmap:", "a=rtcp-fb:", "a=rtcp-mux", "a=mid:", "a=rid:", "a=simulcast:", "a=ptime:", "a=framerate:", "a=crypto:"]

    static func removed(from sdp: String) -> String {
        let lines = sdp.split(whereSeparator: \.isNewline).filter { line in kept.contains { line.hasPrefix($0) } }
        return lines.map { $0 + "\r\n" }.joined()
    }
}
