import Catalog
import Consent
import Foundation
import GRDB
import JobQueue
import Media
import Renditions

/// Many recordings made again, for the operator: no names and no contents.
public protocol BatchesAPI: Sendable {
    /// Has recordings made again when there is time for it.
    func startBatch(_ request: BatchRequest, as principal: Principal) async throws -> BatchView
    /// The newest first.
    func batches(as principal: Principal) async throws -> [BatchView]
    func batch(_ id: String, as principal: Principal) async throws -> BatchView
    /// Begins nothing more of it; what is being made is made.
    func cancelBatch(_ id: String, as principal: Principal) async throws -> BatchView
}

public struct BatchRequest: Codable, Sendable {
    /// What they are made by from then on; nothing: each by its own.
    public var pipeline: String?
    /// Nothing: all that are ready or failed.
    public var recordings: [RecordingID]?

    public init(pipeline: String? = nil, recordings: [RecordingID]? = nil) {
        self.pipeline = pipeline
        self.recordings = recordings
    }
}

public struct BatchView: Codable, Hashable, Sendable {
    public struct Recording: Codable, Hashable, Sendable {
        public var recording: RecordingID
        public var state: String
        /// Why it failed or was left out.
        public var reason: String?
        /// Share done, 0...1.
        public var progress: Double
    }

    public var id: String
    public var pipeline: String?
    public var createdAt: Double
    public var isCancelled: Bool
    /// Share of all recordings, 0...1; what failed or was left out counts as done.
    public var progress: Double
    public var waiting: Int
    public var begun: Int
    public var done: Int
    public var failed: Int
    public var skipped: Int
    /// Why nothing is begun just now; nil where it is.
    public var waitsFor: String?
    public var recordings: [Recording]
}

extension Recorder {
    /// Most recordings of one batch.
    static let batchMax = 10_000
    static let batchesListedMax = 50

    public func startBatch(_ request: BatchRequest, as principal: Principal) async throws -> BatchView {
        try require([.operator], principal)
        if let name = request.pipeline { try requireUsable(name) }
        if let count = request.recordings?.count, !(1...Self.batchMax).contains(count) {
            throw RecorderError(.invalid, "\(count) recordings", hint: "1 to \(Self.batchMax)", pointer: "/recordings")
        }
        let id = RecordingID.random().rawValue
        let now = clock.now
        try await catalog.write { db in
            let all = try String.fetchAll(db, sql: "SELECT id FROM recording WHERE state IN ('ready','failed') ORDER BY started_at LIMIT ?", arguments: [Self.batchMax + 1])
            let wanted = try request.recordings.map { asked in
                for recording in asked {
                    guard let state = try String.fetchOne(db, sql: "SELECT state FROM recording WHERE id = ?", arguments: [recording.rawValue]) else { throw Self.notFound }
                    guard ["ready", "failed"].contains(state) else { throw RecorderError(.conflict, "a recording that is \(state) cannot be made again", pointer: "/recordings") }
                }
                return Array(Set(asked.map(\.rawValue))).sorted { (all.firstIndex(of: $0) ?? .max, $0) < (all.firstIndex(of: $1) ?? .max, $1) }
            } ?? all
            guard !wanted.isEmpty else { throw RecorderError(.conflict, "there is nothing to make again", hint: "a recording has to be ready or failed") }
            guard wanted.count <= Self.batchMax else { throw RecorderError(.invalid, "more than \(Self.batchMax) recordings", hint: "name the recordings, in several batches") }
            try db.execute(sql: "INSERT INTO batch (id, pipeline, created_at) VALUES (?, ?, ?)", arguments: [id, request.pipeline, now.nanoseconds])
            for (place, recording) in wanted.enumerated() {
                try db.execute(sql: "INSERT INTO batch_recording (batch, recording, position, state) VALUES (?, ?, ?, 'waiting')", arguments: [id, recording, place])
            }
            try AuditLog.append(actor: principal.subject, action: "batch.started", object: id, detail: "\(wanted.count) recordings", now: now, db)
        }
        return try await batch(id, as: principal)
    }

    public func batches(as principal: Principal) async throws -> [BatchView] {
        try require([.operator], principal)
        let ids = try await catalog.read { try String.fetchAll($0, sql: "SELECT id FROM batch ORDER BY created_at DESC, id LIMIT \(Self.batchesListedMax)") }
        var views: [BatchView] = []
        for id in ids { views.append(try await batch(id, as: principal)) }
        return views
    }

    public func batch(_ id: String, as principal: Principal) async throws -> BatchView {
        try require([.operator], principal)
        let refusal = batchRefusal()
        return try await catalog.read { [jobs] db in
            guard let batch = try Row.fetchOne(db, sql: "SELECT pipeline, created_at, cancelled_at FROM batch WHERE id = ?", arguments: [id]) else { throw Self.notFound }
            let recordings = try Row.fetchAll(db, sql: "SELECT recording, state, reason FROM batch_recording WHERE batch = ? ORDER BY position", arguments: [id]).compactMap { row -> BatchView.Recording? in
                guard let recording = RecordingID(rawValue: row["recording"]) else { return nil }
                let state: String = row["state"]
                var progress = state == "waiting" ? 0.0 : 1
                if state == "begun" {
                    let all = try jobs.currentJobs(owner: recording.rawValue, in: db)
                    progress = all.isEmpty ? 0 : all.reduce(0) { $0 + ($1.state.isFinal ? 1 : $1.progress) } / Double(all.count)
                }
                return BatchView.Recording(recording: recording, state: state, reason: row["reason"], progress: progress)
            }
            let count = { (state: String) in recordings.count { $0.state == state } }
            let isCancelled = batch["cancelled_at"] as Int64? != nil
            return BatchView(id: id, pipeline: batch["pipeline"], createdAt: WallTime(nanoseconds: batch["created_at"]).seconds, isCancelled: isCancelled,
                             progress: recordings.isEmpty ? 1 : recordings.reduce(0) { $0 + $1.progress } / Double(recordings.count), waiting: count("waiting"), begun: count("begun"),
                             done: count("done"), failed: count("failed"), skipped: count("skipped"), waitsFor: count("waiting") > 0 ? refusal : nil, recordings: recordings)
        }
    }

    public func cancelBatch(_ id: String, as principal: Principal) async throws -> BatchView {
        try require([.operator], principal)
        let now = clock.now
        try await catalog.write { db in
            try db.execute(sql: "UPDATE batch SET cancelled_at = ? WHERE id = ? AND cancelled_at IS NULL", arguments: [now.nanoseconds, id])
            guard db.changesCount == 1 else {
                guard try String.fetchOne(db, sql: "SELECT id FROM batch WHERE id = ?", arguments: [id]) != nil else { throw Self.notFound }
                return
            }
            try db.execute(sql: "UPDATE batch_recording SET state = 'skipped', reason = 'the batch was cancelled' WHERE batch = ? AND state = 'waiting'", arguments: [id])
            try AuditLog.append(actor: principal.subject, action: "batch.cancelled", object: id, now: now, db)
        }
        return try await batch(id, as: principal)
    }

    /// A pipeline that recordings may be made by: it is there, is not for publication, and its retention classes are known.
    @discardableResult
    func requireUsable(_ name: String) throws(RecorderError) -> Pipeline {
        let pipeline = try pipeline(named: name)
        guard !pipeline.purposes.union([pipeline.purpose]).contains(.publication) else {
            throw RecorderError(.invalid, "the pipeline '\(name)' is for publication, which nobody is asked for when they are asked to be recorded", hint: "publication is a later act of its own", pointer: "/pipeline")
        }
        let missing = pipeline.retentionClasses.subtracting(configuration.retention.outputClasses.keys)
        guard missing.isEmpty else {
            throw RecorderError(.invalid, "the pipeline '\(name)' names the retention class '\(missing.sorted()[0])', which this server does not know", hint: "the operator sets retention-classes", pointer: "/pipeline")
        }
        return pipeline
    }
}
