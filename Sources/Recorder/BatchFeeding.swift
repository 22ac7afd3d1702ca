import Catalog
import Foundation
import Glibc
import GRDB
import Logging
import Media
import Renditions

/// Batches are fed to the queue a few recordings at a time: what waits in a batch is still what it was, stays downloadable, and keeps nobody's
/// new recording waiting.
extension Recorder {
    /// Why nothing is begun at present; nil where it may be.
    func batchRefusal() -> String? {
        if let window = configuration.batchWindow {
            let parts = Calendar.current.dateComponents([.hour, .minute], from: Date(timeIntervalSince1970: clock.now.seconds))
            guard window.contains(minute: (parts.hour ?? 0) * 60 + (parts.minute ?? 0)) else { return "the hours of batches, \(window)" }
        }
        if let most = configuration.batchMaxLoad {
            var load = [0.0]
            guard getloadavg(&load, 1) == 1, load[0] <= most else { return "a load of at most \(most)" }
        }
        return nil
    }

    /// Notes what ended, and begins the next ones.
    func feedBatches() async throws {
        let isOpen = try await catalog.read { try Bool.fetchOne($0, sql: "SELECT EXISTS (SELECT 1 FROM batch_recording WHERE state IN ('waiting','begun'))") ?? false }
        guard isOpen else { return }
        let refusal = batchRefusal()
        let now = clock.now
        let most = max(1, configuration.workers)
        let (begun, failures, superseded) = try await catalog.write { [self] db in
            let superseded = try noteEnded(now, db)
            guard refusal == nil else { return ([String](), [String](), superseded) }
            let running = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM batch_recording WHERE state = 'begun'") ?? 0
            let next = try Row.fetchAll(db, sql: """
                SELECT batch_recording.batch, recording, batch.pipeline FROM batch_recording JOIN batch ON batch.id = batch_recording.batch
                WHERE batch_recording.state = 'waiting' ORDER BY batch.created_at, batch_recording.batch, position LIMIT ?
                """, arguments: [max(0, most - running)])
            var (begun, failures): ([String], [String]) = ([], [])
            for row in next {
                let (batch, recording): (String, String) = (row["batch"], row["recording"])
                let reason = try self.begin(recording, row["pipeline"], now, db)
                try db.execute(sql: "UPDATE batch_recording SET state = ?, reason = ? WHERE batch = ? AND recording = ?", arguments: [reason == nil ? "begun" : "skipped", reason, batch, recording])
                if reason == nil { begun.append(recording) } else { failures.append(recording) }
            }
            return (begun, failures, superseded)
        }
        // First what is begun: a file that cannot be removed keeps no recording waiting for its run.
        for id in begun.compactMap(RecordingID.init) { try await enqueueBegun(id) }
        for (recording, renditions) in superseded.sorted(by: { $0.key < $1.key }) {
            if let id = RecordingID(rawValue: recording) { try await shred(renditions, of: id) }
        }
        if !failures.isEmpty { logger.notice("recordings of a batch were left out", metadata: ["count": "\(failures.count)"]) }
    }

    /// Nil where the recording is to be made again; else why not.
    private func begin(_ recording: String, _ pipeline: String?, _ now: WallTime, _ db: Database) throws -> String? {
        guard let record = try RecordingRecord.fetchOne(db, key: recording), ["ready", "failed"].contains(record.state), record.expiresAt > now.nanoseconds else { return "it ended, or is being made already" }
        guard try db.restriction(of: recording, settled: clock.settled) == nil else { return "it is restricted" }
        if let pipeline {
            do { try requireUsable(pipeline) } catch { return error.detail }
            try db.execute(sql: "UPDATE recording SET pipeline = ? WHERE id = ?", arguments: [pipeline, recording])
        }
        guard let id = RecordingID(rawValue: recording) else { return "its id cannot be read" }
        try beginAgain(id, now: now, db)
        return nil
    }

    /// Gives back the versions, by recording, that its new pipeline does not make any more: they stayed until what takes their place was there.
    private func noteEnded(_ now: WallTime, _ db: Database) throws -> [String: [String]] {
        var superseded: [String: [String]] = [:]
        for row in try Row.fetchAll(db, sql: """
            SELECT batch, recording, recording.state AS now, recording.pipeline AS pipeline, problems FROM batch_recording JOIN recording ON recording.id = recording
            WHERE batch_recording.state = 'begun' AND recording.state <> 'processing'
            """) {
            let (recording, ended): (String, String) = (row["recording"], row["now"])
            let problems = Self.list(row["problems"]).joined(separator: "; ")
            let (state, reason): (String, String?) = switch ended {
            case "ready": ("done", nil)
            case "failed": ("failed", problems.isEmpty ? "it failed" : problems)
            default: ("skipped", "it ended")
            }
            try db.execute(sql: "UPDATE batch_recording SET state = ?, reason = ? WHERE batch = ? AND recording = ?", arguments: [state, reason, row["batch"] as String, recording])
            guard ended == "ready", let pipeline = pipelines[row["pipeline"] as String] else { continue }
            let made = Set(pipeline.stages.flatMap { stage in stage.outputs.map { "\(stage.name) \($0.name)" } })
            let gone = try Row.fetchAll(db, sql: "SELECT id, stage, output FROM rendition WHERE recording = ? AND state = 'ready'", arguments: [recording])
                .filter { !made.contains("\($0["stage"] as String) \($0["output"] as String)") }.map { $0["id"] as String }
            for id in gone { try db.execute(sql: "UPDATE rendition SET state = 'erased' WHERE id = ?", arguments: [id]) }
            if !gone.isEmpty {
                try AuditLog.append(actor: "worker", action: "rendition.superseded", object: recording, detail: "\(gone.count)", now: now, db)
                superseded[recording] = gone
            }
        }
        return superseded
    }
}
