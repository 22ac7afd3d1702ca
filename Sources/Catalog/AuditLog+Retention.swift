import Foundation
import GRDB
import Media

extension AuditLog {
    public static let downloadAction = "download"
    /// Somebody has to be told something: entered with what causes it.
    public static let toldAction = "recipient.told"
    /// The mail server took charge of it, or refused it for good.
    public static let mailedAction = "recipient.mailed"
    /// Entries that are erased in one go, and named by one entry.
    public static let erasedAtOnceMax = 5_000

    /// As the index on them names them.
    private static let isReading = "action IN ('download','recipient.told','recipient.mailed')"

    /// When the oldest entry was written that goes with the list of downloads; nil where there is none.
    public static func oldestReading(_ db: Database) throws -> WallTime? {
        try Int64.fetchOne(db, sql: "SELECT MIN(at) FROM audit_event WHERE \(isReading)").map(WallTime.init(nanoseconds:))
    }

    public static func countOfReadings(before cutoff: WallTime, _ db: Database) throws -> Int {
        try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM audit_event WHERE \(isReading) AND at < ?", arguments: [cutoff.nanoseconds]) ?? 0
    }

    /// Erases the content of entries about downloads and about who was told that are older than `cutoff`, at most ``erasedAtOnceMax`` of them,
    /// and says in an entry of its own exactly which: tree and chain verify as before. Their number is returned.
    public static func eraseReadings(before cutoff: WallTime, why: String, now: WallTime, _ db: Database) throws -> Int {
        let sequences = try Int.fetchAll(db, sql: "SELECT sequence FROM audit_event WHERE \(isReading) AND at < ? ORDER BY at LIMIT \(erasedAtOnceMax)",
                                         arguments: [cutoff.nanoseconds]).sorted()
        guard !sequences.isEmpty else { return 0 }
        try blank(sequences, why: why, now: now, db)
        return sequences.count
    }

    /// Erases the content of entries that name consents to these recordings, whose proof has ended; an entry for each ``erasedAtOnceMax`` says which.
    static func eraseConsents(of recordings: [String], why: String, now: WallTime, _ db: Database) throws {
        let sequences = try recordings.flatMap { recording in
            try Int.fetchAll(db, sql: "SELECT sequence FROM audit_event WHERE action LIKE 'consent.%' AND object = ?", arguments: [recording])
        }.sorted()
        for start in stride(from: 0, to: sequences.count, by: erasedAtOnceMax) {
            try blank(Array(sequences[start..<min(start + erasedAtOnceMax, sequences.count)]), why: why, now: now, db)
        }
    }

    private static func blank(_ sequences: [Int], why: String, now: WallTime, _ db: Database) throws {
        for sequence in sequences {
            try db.execute(sql: "UPDATE audit_event SET at = NULL, actor = NULL, action = NULL, object = NULL, detail = NULL, salt = NULL WHERE sequence = ?", arguments: [sequence])
        }
        let places = IndexSet(sequences).rangeView.map { "\($0.lowerBound)-\($0.upperBound - 1)" }.joined(separator: ",")
        try append(actor: "retention", action: erasedAction, object: places, detail: why, now: now, db)
    }

    /// The entries that an entry says were erased, `FIRST-LAST`, several of them between commas; nil where it does not say so.
    static func erasedPlaces(_ entry: AuditEntry) -> IndexSet? {
        var places = IndexSet()
        for part in entry.object.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard ends.count == 2, let first = ends[0], let last = ends[1], first > 0, first <= last, last < entry.sequence else { return nil }
            places.insert(integersIn: first...last)
        }
        return places
    }
}
