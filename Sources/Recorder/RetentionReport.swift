import Catalog
import Consent
import Foundation
import GRDB
import Media

/// Everything that has a date: how much of it there is, what ends next, and what is past its date, which must be nothing.
public struct RetentionReport: Codable, Sendable {
    /// One kind of thing that is kept (a retention class of DIN 66398): from when, for how long.
    public struct Kind: Codable, Sendable {
        public var name: String
        /// Start event and period, in words.
        public var rule: String
        public var count: Int
        public var pastDate: Int
        /// The date of the oldest that is past it; seconds since 1970.
        public var oldestPastDate: Double?
        /// The next date that is to come.
        public var next: Double?
    }
    public struct Ending: Codable, Sendable {
        public var recording: String
        public var expiresAt: Double
    }

    /// For which moment it is; seconds since 1970.
    public var at: Double
    public var kinds: [Kind]
    /// Recordings past their date that a restriction keeps (Art. 18): they end with it.
    public var held: Int
    /// The next recordings to end.
    public var endingNext: [Ending]
    /// Keys and folders of what is erased or unknown.
    public var leftovers: [String]

    public var isClean: Bool { leftovers.isEmpty && kinds.allSatisfy { $0.pastDate == 0 } }

    static let endingShownMax = 10
    static let leftoversShownMax = 100

    /// Reads a data folder, whether a server runs on it or not, and changes nothing.
    public static func read(data: URL, policy: RetentionPolicy, at now: WallTime) throws -> RetentionReport {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { try $0.execute(sql: "PRAGMA temp_store = MEMORY") }
        let catalog = try DatabaseQueue(path: data.appending(path: "catalog.sqlite").path, configuration: configuration)
        guard try catalog.read({ try $0.tableExists("recording") && $0.columns(in: "recording").contains { $0.name == "erased_at" } }) else {
            throw RecorderError(.unsupported, "the catalog was written by an earlier version", hint: "start the server once, it brings it up to date")
        }
        let keys = try DatabaseQueue(path: data.appending(path: "keys.sqlite").path, configuration: configuration)
        let ids = try keys.read { try String.fetchAll($0, sql: "SELECT id FROM wrapped_key") }
        let names = try FileManager.default.contentsOfDirectory(atPath: data.appending(path: "recordings").path)
        return try catalog.read { db in
            var report = RetentionReport(at: now.seconds, kinds: try kinds(policy, now, db), held: try held(now, db), endingNext: try ending(now, db), leftovers: [])
            report.leftovers = try leftovers(ids, names, db)
            return report
        }
    }

    /// Nothing keeps the recording at this moment.
    private static let isFree = "NOT EXISTS (SELECT 1 FROM restriction WHERE restriction.recording = recording.id AND settled_at IS NULL AND lifted_at IS NULL AND until > ?1)"
    /// Past its date, or its end was begun, and not erased; not what is restricted.
    static let isPast = "recording.state <> 'erased' AND (recording.state = 'expired' OR recording.expires_at <= ?1) AND \(isFree)"

    private static func kinds(_ policy: RetentionPolicy, _ now: WallTime, _ db: Database) throws -> [Kind] {
        func days(_ count: Int) -> Int64 { Int64(count) * 86_400_000_000_000 }
        let (downloads, technical) = (days(policy.downloadLogDays), days(policy.technicalDataDays))
        let reading = "FROM audit_event WHERE action IN ('download','recipient.told','recipient.mailed')"
        // From where, its date, and what is past it.
        let rows: [(name: String, rule: String, from: String, date: String, past: String)] = [
            ("recordings", "\(policy.recordingDays) days from the start unless set otherwise, at most \(policy.recordingDaysMax)", "FROM recording WHERE state <> 'erased'", "expires_at", isPast),
            ("renditions", "with their recording, or before", "FROM rendition JOIN recording ON recording.id = rendition.recording WHERE rendition.state = 'ready'", "rendition.expires_at",
             "(rendition.expires_at <= ?1 OR recording.state IN ('expired','erased')) AND \(isFree)"),
            ("tracks", "with their recording", "FROM stream JOIN recording ON recording.id = stream.recording WHERE recording.state <> 'erased' AND verdict IS NOT 'erased'", "recording.expires_at", isPast),
            ("downloads", "\(policy.downloadLogDays) days from the download", "FROM download WHERE 1", "at + \(downloads)", "at + \(downloads) < ?1"),
            ("entries on downloads and messages in the audit log", "\(policy.downloadLogDays) days from the entry", reading, "at + \(downloads)", "at + \(downloads) < ?1"),
            ("messages", "\(policy.downloadLogDays) days from their cause", "FROM notification WHERE 1", "created_at + \(downloads)", "created_at + \(downloads) < ?1"),
            ("technical data of recordings", "\(policy.technicalDataDays) days from the end of the recording", "FROM recording WHERE technical_erased_at IS NULL AND state NOT IN ('recording','paused')",
             "COALESCE(stopped_at, started_at) + \(technical)", "COALESCE(stopped_at, started_at) + \(technical) < ?1"),
            ("access codes", "\(policy.technicalDataDays) days after they ran out", "FROM access_token WHERE 1", "access_token.expires_at + \(technical)", "access_token.expires_at + \(technical) < ?1"),
            ("proofs of consent", "\(policy.consentProofYears) years from the end of the recording", "FROM consent_event JOIN recording ON recording.id = consent_event.recording WHERE 1",
             "erased_at + \(policy.consentProof.count)", "COALESCE(erased_at + \(policy.consentProof.count) <= ?1, 0)"),
            ("names and addresses", "with the person's last proof of consent, access code and recording", "FROM identity WHERE 1", "NULL", "?1 > 0 AND \(Database.isUnneededIdentity)"),
        ]
        return try rows.map { row in
            let found = try Row.fetchOne(db, sql: """
                SELECT COUNT(*) AS count, COALESCE(SUM(\(row.past)), 0) AS past, MIN(CASE WHEN \(row.past) THEN \(row.date) END) AS oldest, MIN(CASE WHEN NOT (\(row.past)) THEN \(row.date) END) AS next
                \(row.from)
                """, arguments: [now.nanoseconds])
            func seconds(_ column: String) -> Double? { (found?[column] as Int64?).map { WallTime(nanoseconds: $0).seconds } }
            return Kind(name: row.name, rule: row.rule, count: found?["count"] ?? 0, pastDate: found?["past"] ?? 0, oldestPastDate: seconds("oldest"), next: seconds("next"))
        }
    }

    private static func held(_ now: WallTime, _ db: Database) throws -> Int {
        try Int.fetchOne(db, sql: """
            SELECT COUNT(*) FROM recording WHERE state <> 'erased' AND expires_at <= ?1
            AND EXISTS (SELECT 1 FROM restriction WHERE recording = recording.id AND settled_at IS NULL AND lifted_at IS NULL AND until > ?1)
            """, arguments: [now.nanoseconds]) ?? 0
    }

    private static func ending(_ now: WallTime, _ db: Database) throws -> [Ending] {
        try Row.fetchAll(db, sql: "SELECT id, expires_at FROM recording WHERE state NOT IN ('erased') AND state <> 'expired' AND expires_at > ? ORDER BY expires_at LIMIT \(endingShownMax)",
                         arguments: [now.nanoseconds]).map { Ending(recording: $0["id"], expiresAt: WallTime(nanoseconds: $0["expires_at"]).seconds) }
    }

    /// Keys and folders that nothing in the catalog needs any more: of erased recordings, tracks and renditions, and of none at all.
    private static func leftovers(_ keys: [String], _ folders: [String], _ db: Database) throws -> [String] {
        let recordings = try Set(String.fetchAll(db, sql: "SELECT id FROM recording WHERE state <> 'erased'"))
        let tracks = try Set(String.fetchAll(db, sql: "SELECT track FROM stream JOIN recording ON recording.id = recording WHERE state <> 'erased' AND verdict IS NOT 'erased'"))
        let erased = try Set(String.fetchAll(db, sql: "SELECT rendition.id FROM rendition JOIN recording ON recording.id = recording WHERE rendition.state = 'erased' AND recording.state <> 'expired'"))
        var found = folders.filter { !recordings.contains($0) }.map { "folder recordings/\($0)" }
        for key in keys {
            let parts = key.split(separator: ":").map(String.init)
            guard parts.count == 2 else { continue }
            let isNeeded = switch parts[0] {
            case "recording": recordings.contains(parts[1])
            case "track": tracks.contains(parts[1])
            // One that is being made is in no table yet.
            case "rendition": !erased.contains(parts[1])
            default: true
            }
            if !isNeeded { found.append("key \(key)") }
        }
        return Array(found.sorted().prefix(leftoversShownMax))
    }
}
