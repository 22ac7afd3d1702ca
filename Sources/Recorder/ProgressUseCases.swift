import Catalog
import Foundation
import GRDB
import JobQueue
import Media
import Renditions
import Synchronization

/// What moderators see of recordings that are being made.
public protocol ProgressAPI: Sendable {
    /// What is recorded or made, now and whenever it changes, at most twice a second; each view is whole. Ends by itself after
    /// ``Recorder/watchSecondsMax``. Throws `.unavailable` where too many watch already.
    func watchProgress(as principal: Principal) async throws -> AsyncThrowingStream<ProgressView, any Error>
}

/// Everything that is recorded or made just now, and what was when the watch began.
public struct ProgressView: Codable, Hashable, Sendable {
    public struct Recording: Codable, Hashable, Sendable {
        public var recording: RecordingID
        public var state: RecordingView.State
        public var making: [RenditionProgressView]
    }
    public var recordings: [Recording]
}

extension Recorder {
    /// Whoever watches longer asks again, and is asked again who they are.
    public static let watchSecondsMax = 600.0
    static let watchersMax = 200
    static let watchedMax = 100
    private static let costsKeptSeconds = 60.0

    /// What is made of a recording, from its present run and from what is there.
    func making(of record: RecordingRecord) async throws -> [RenditionProgressView] {
        let costs = try await stageCosts()
        return try await catalog.read { [self] db in try making(of: record, costs, db) }
    }

    private func making(of record: RecordingRecord, _ costs: StageCosts, _ db: Database) throws -> [RenditionProgressView] {
        let there = try Row.fetchAll(db, sql: "SELECT DISTINCT stage, kind FROM rendition WHERE recording = ? AND state = 'ready' AND kind <> ?", arguments: [record.id, StageKind.partKind])
        let now = clock.now
        var progress = RenditionProgress(items: [], there: Dictionary(there.map { ($0["stage"], $0["kind"]) }) { first, _ in first }, costs: costs,
                                         slots: [.light: max(2, configuration.workers), .heavy: configuration.workers], now: now)
        progress.live = RecordingID(rawValue: record.id).flatMap { liveRenditions.run(of: $0) }?.making ?? [:]
        guard !["recording", "paused"].contains(record.state) else { return running(record, progress) + progress.views() }
        progress.items = try jobs.currentJobs(owner: record.id, in: db).compactMap { job in (Self.decoded(job.payload) as StagePayload?).map { .init(job: job, plan: $0.job) } }
        progress.pauses = try jobs.pauses(in: db)
        if progress.items.contains(where: { !$0.job.state.isFinal }) { progress.seconds = try Self.length(of: record, db) }
        return progress.views()
    }

    /// What is made while the recording runs: the mix and the picture beside it.
    private func running(_ record: RecordingRecord, _ progress: RenditionProgress) -> [RenditionProgressView] {
        guard let pipeline = pipelines[record.pipeline] else { return [] }
        return pipeline.stages.filter { $0.kind != .depacketize }.compactMap { stage in
            guard let reached = progress.live[stage.name], progress.there[stage.name] == nil else { return nil }
            return RenditionProgressView(stage: stage.name, kind: stage.kind.renditionKind, state: .live, progress: 0, madeSeconds: reached.map { ($0.to - $0.from).seconds } ?? 0, isThere: false)
        }
    }

    /// As far as its tracks say; while those are still to be made, from its start to its stop.
    private static func length(of record: RecordingRecord, _ db: Database) throws -> Double {
        let summaries = try db.streams(of: record.id, recordedOnly: true).compactMap { decoded($0.stream.summary) as TrackSummary? }
        if let start = summaries.map(\.startWall).min(), let end = summaries.map(\.endWall).max(), end > start { return (end - start).seconds }
        return record.stoppedAt.map { max(0, Double($0 - record.startedAt) / 1e9) } ?? 0
    }

    /// Looked up once a minute: estimates need no more.
    private func stageCosts() async throws -> StageCosts {
        let now = ContinuousClock.now
        if let kept = costsKept.withLock({ $0 }), now - kept.at < .seconds(Self.costsKeptSeconds) { return kept.costs }
        let costs = try await StageCosts(catalog)
        costsKept.withLock { $0 = (now, costs) }
        return costs
    }

    public func watchProgress(as principal: Principal) async throws -> AsyncThrowingStream<ProgressView, any Error> {
        try require([.moderator, .platform], principal)
        guard let watch = ProgressWatch(self) else {
            throw RecorderError(.unavailable, "\(Self.watchersMax) pages watch already", hint: "GET /v1/recordings/ID says the same at each time")
        }
        return AsyncThrowingStream { try await watch.next() }
    }

    /// Of what is recorded or made, and of `known`: those that a watch has shown before.
    fileprivate func progress(_ known: Set<String>) async throws -> ProgressView {
        let costs = try await stageCosts()
        return try await catalog.read { [self] db in
            let marks = databaseQuestionMarks(count: known.count)
            let records = try RecordingRecord.fetchAll(db, sql: """
                SELECT * FROM recording WHERE state IN ('recording','paused','processing') OR id IN (\(marks)) AND state IN ('ready','failed') ORDER BY started_at DESC LIMIT \(Self.watchedMax)
                """, arguments: StatementArguments(Array(known)))
            return ProgressView(recordings: try records.compactMap { record in
                guard let id = RecordingID(rawValue: record.id), let state = RecordingView.State(rawValue: record.state) else { return nil }
                return ProgressView.Recording(recording: id, state: state, making: try making(of: record, costs, db))
            })
        }
    }
}

/// Hands on what is made when it has changed.
private actor ProgressWatch {
    private let recorder: Recorder
    private let begun = ContinuousClock.now
    private var last: ProgressView?
    private var known: Set<String> = []

    /// Nil where too many watch.
    init?(_ recorder: Recorder) {
        let isLet = recorder.watchers.withLock { count in
            guard count < Recorder.watchersMax else { return false }
            count += 1
            return true
        }
        guard isLet else { return nil }
        self.recorder = recorder
    }

    deinit { recorder.watchers.withLock { $0 -= 1 } }

    /// Nil at the end, or when the task is cancelled: whoever watched has gone. An unchanged view is sent every 15 s, so that a broken
    /// connection is found.
    func next() async throws -> ProgressView? {
        for round in 0... {
            guard ContinuousClock.now - begun < .seconds(Recorder.watchSecondsMax) else { return nil }
            let view = try await recorder.progress(known)
            if view != last || round >= 30 {
                known = Set(view.recordings.map(\.recording.rawValue))
                last = view
                return view
            }
            do { try await Task.sleep(for: .milliseconds(500)) } catch { return nil }
        }
        return nil
    }
}
