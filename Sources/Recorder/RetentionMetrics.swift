import Catalog
import GRDB
import Media
import Synchronization

/// What the last sweeps were like.
struct SweepFigures {
    private(set) var duration: Duration?
    private(set) var lastSuccess: WallTime?

    mutating func succeed(after duration: Duration, at now: WallTime) { (self.duration, lastSuccess) = (duration, now) }
}

extension Recorder {
    /// What alarms on retention: what is past its date, how the sweep does, who was not told.
    func retentionMetrics() async -> [MetricSample] {
        var samples: [MetricSample] = []
        func gauge(_ name: String, _ help: String, _ value: Double, _ labels: [String: String] = [:]) {
            samples.append(MetricSample(name: "mitschnitt_\(name)", help: help, kind: .gauge, labels: labels, value: value))
        }
        let (sweep, now) = (sweeps.withLock { $0 }, clock.now)
        if let duration = sweep.duration { gauge("sweep_duration_seconds", "How long the last sweep that succeeded took.", duration / .seconds(1)) }
        if let last = sweep.lastSuccess { gauge("sweep_last_success_timestamp_seconds", "When a sweep last succeeded, seconds since 1970.", last.seconds) }
        do {
            let found = try await catalog.read { db in try RetentionFigures(now, db) }
            gauge("artefacts_past_date", "Recordings, tracks and renditions past their date and not erased; must return to 0 within a minute.", Double(found.artefacts))
            gauge("artefacts_past_date_oldest_seconds", "How long the oldest of them has been past its date.", found.oldest.map { max(0, (now - $0).seconds) } ?? 0)
            for state in RecordingView.State.allCases { gauge("recordings", "Recordings by state.", Double(found.recordings[state.rawValue] ?? 0), ["state": state.rawValue]) }
            gauge("erasures_pending", "Erasures that were begun or are due, and are not finished.", Double(found.erasures))
            gauge("erasures_held", "Restrictions that hold or are not settled: what they delay waits.", Double(found.restrictions))
            gauge("notices_undelivered", "Messages to people that no mail server took and nobody read on their page.", Double(found.undelivered))
        } catch {
            gauge("retention_unknown", "1 while what is past its date cannot be read.", 1)
        }
        return samples
    }
}

private struct RetentionFigures: Sendable {
    var artefacts: Int
    var oldest: WallTime?
    var recordings: [String: Int]
    var erasures: Int
    var restrictions: Int
    var undelivered: Int

    init(_ now: WallTime, _ db: Database) throws {
        func count(_ sql: String) throws -> Int { try Int.fetchOne(db, sql: "SELECT COUNT(*) \(sql)", arguments: [now.nanoseconds]) ?? 0 }
        let past = try count("FROM recording WHERE \(RetentionReport.isPast)")
        let tracks = past == 0 ? 0 : try count("FROM stream JOIN recording ON recording.id = stream.recording WHERE verdict IS NOT 'erased' AND \(RetentionReport.isPast)")
        let renditions = past == 0 ? 0 : try count("FROM rendition JOIN recording ON recording.id = rendition.recording WHERE rendition.state <> 'erased' AND \(RetentionReport.isPast)")
        artefacts = past + tracks + renditions
        oldest = try Int64.fetchOne(db, sql: "SELECT MIN(expires_at) FROM recording WHERE \(RetentionReport.isPast)", arguments: [now.nanoseconds]).map(WallTime.init(nanoseconds:))
        recordings = Dictionary(uniqueKeysWithValues: try Row.fetchAll(db, sql: "SELECT state, COUNT(*) AS count FROM recording GROUP BY state").map { ($0["state"], $0["count"]) })
        erasures = past + (try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM person_receipt WHERE finished_at IS NULL") ?? 0)
        restrictions = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM restriction WHERE settled_at IS NULL") ?? 0
        undelivered = try db.undeliveredNotifications()
    }
}
