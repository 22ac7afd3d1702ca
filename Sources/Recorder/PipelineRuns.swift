import Catalog
import Consent
import Foundation
import GRDB
import JobQueue
import Logging
import Media
import PacketLog
import Renditions

extension Recorder {
    /// Plans the pipeline for the tracks that have anything in them, and enqueues it as the recording's next run.
    func enqueuePipeline(_ id: RecordingID) async throws {
        guard let planned = try await plannedRun(of: id) else { return }
        for (stream, verdict) in planned.verdicts.sorted(by: { $0.key < $1.key }) { try await setVerdict(verdict, stream: stream) }
        let now = clock.now
        let orphans = try await catalog.write { [self] db in try enqueue(planned, of: id, now: now, db) }
        try await shred(orphans, of: id)
    }

    /// Plans a run again whose picture is in one piece only because a finished file did not tell how long it is before its tracks were made.
    ///
    /// To be called when one of the run's tracks was made. Nothing is lost where this is not reached: the picture comes in one piece.
    func divide(_ id: RecordingID, run: Int) async throws {
        let isDue = try await catalog.read { [jobs] db in try Self.isUndivided(jobs.currentJobs(owner: id.rawValue, in: db), run) && db.streams(of: id.rawValue).contains { $0.stream.isFile } }
        guard isDue, let planned = try await plannedRun(of: id), planned.plan.jobs.contains(where: { $0.kind == .composePart }) else { return }
        let now = clock.now
        let orphans = try await catalog.write { [self] db -> [String] in
            guard try Self.isUndivided(jobs.currentJobs(owner: id.rawValue, in: db), run), try RecordingRecord.fetchOne(db, key: id.rawValue)?.state == "processing" else { return [] }
            try jobs.cancel(owner: id.rawValue, now: now, in: db)
            return try enqueue(planned, of: id, now: now, db)
        }
        try await shred(orphans, of: id)
    }

    /// All tracks of that run are made, and its picture, which is not, is in one piece.
    private static func isUndivided(_ jobs: [Job], _ run: Int) -> Bool {
        func those(_ kind: StageKind) -> [Job] { jobs.filter { $0.kind == StageWorker.kind(of: kind) } }
        return jobs.first?.run == run && those(.depacketize).allSatisfy { $0.state == .done } && those(.composePart).isEmpty && those(.compose).contains { !$0.state.isFinal }
    }

    private struct PlannedRun {
        var plan: Plan
        var jobs: [NewJob]
        /// On streams that nothing is made of, by stream.
        var verdicts: [String: String]
    }

    private func plannedRun(of id: RecordingID) async throws -> PlannedRun? {
        guard let record = try await catalog.read({ try RecordingRecord.fetchOne($0, key: id.rawValue) }) else { return nil }
        let pipeline = try pipeline(named: record.pipeline)
        let (tracks, verdicts, seconds) = try await plannedTracks(of: id)
        // What is being rendered while it runs comes in one piece; what that was given up for does not.
        let live = liveRenditions.run(of: id)
        let plan = Plan(pipeline, tracks: tracks, seconds: live?.isSpent ?? true ? seconds : 0)
        // Of jobs as old as each other the queue takes that of the lowest id first: ids that rise make it the plan's order, the longest parts first.
        let ids = plan.jobs.map { _ in JobID.random() }.sorted { $0.rawValue < $1.rawValue }
        let jobs = try zip(ids, plan.jobs).map { jobID, job in
            let payload = StagePayload(recording: id, purpose: pipeline.purpose(of: job.stageName), job: job, pipelineDigest: pipeline.digest, retentionDays: retentionDays(job))
            return NewJob(id: jobID, kind: StageWorker.kind(of: job.kind), name: job.name, payload: String(decoding: try JSONEncoder().encode(payload), as: UTF8.self),
                          lane: StageWorker.lane(of: job.kind), priority: StageWorker.lane(of: job.kind) == .heavy ? 0 : 10, dependencies: job.dependencies,
                          furthest: live?.share(of: job.name) ?? 0)
        }
        return PlannedRun(plan: plan, jobs: jobs, verdicts: verdicts)
    }

    /// The parts of earlier runs that are nobody's now, to be shredded.
    private func enqueue(_ planned: PlannedRun, of id: RecordingID, now: WallTime, _ db: Database) throws -> [String] {
        let orphans = try Self.dropParts(of: id, besides: planned.plan, db)
        try jobs.enqueue(planned.jobs, owner: id.rawValue, now: now, in: db)
        if planned.jobs.isEmpty {
            let problems = String(decoding: try JSONEncoder().encode(["nothing was recorded: no packet passed a gate"]), as: UTF8.self)
            try db.execute(sql: "UPDATE recording SET state = 'ready', problems = ? WHERE id = ?", arguments: [problems, id.rawValue])
        }
        return orphans
    }

    /// Parts of earlier runs that this plan does not make.
    private static func dropParts(of id: RecordingID, besides plan: Plan, _ db: Database) throws -> [String] {
        let wanted = Set(plan.jobs.filter { $0.kind == .composePart }.flatMap { job in job.outputs.map { "\(job.stageName) \($0.name)" } })
        let there = try Row.fetchAll(db, sql: "SELECT id, stage, output FROM rendition WHERE recording = ? AND kind = ? AND state = 'ready'", arguments: [id.rawValue, StageKind.partKind])
        let orphans = there.filter { !wanted.contains("\($0["stage"] as String) \($0["output"] as String)") }.map { $0["id"] as String }
        for orphan in orphans { try db.execute(sql: "UPDATE rendition SET state = 'erased' WHERE id = ?", arguments: [orphan]) }
        return orphans
    }

    /// The tracks that a plan is made for, the verdicts on those that nothing is made of, by stream, and how long all together are: as far as it is
    /// known, which for a finished file is when its tracks are made (``divide(_:run:)``).
    func plannedTracks(of id: RecordingID) async throws -> (tracks: [PlannedTrack], verdicts: [String: String], seconds: Double) {
        var tracks: [PlannedTrack] = []
        var verdicts: [String: String] = [:]
        var times: [WallTime] = []
        let (streams, consents) = try await catalog.read { (try $0.streams(of: id.rawValue, recordedOnly: true), try $0.consentState(of: id)) }
        let now = clock.now
        for (stream, people) in streams {
            guard let track = TrackID(rawValue: stream.track), let kind = MediaKind(rawValue: stream.kind), stream.verdict != "erased" else { continue }
            let purposes = Set(Purpose.allCases.filter { Self.allow(people, kind, $0, consents, at: now) })
            let planned = PlannedTrack(id: track, kind: kind, isDepacketized: stream.summary != nil, purposes: purposes)
            if let summary: TrackSummary = Self.decoded(stream.summary) { times += [summary.startWall, summary.endWall] }
            if stream.isFile {
                guard stream.summary != nil || stream.source != nil else { continue }
                // A mixed source: everybody in it, or nothing of it.
                if stream.summary != nil || Self.mayRecord(stream, people, consents, at: now) { tracks.append(planned) } else { verdicts[stream.id] = "not-consented" }
                continue
            }
            let segments = try await segments(of: track, kind, in: id)
            guard segments.contains(where: { $0.packets > 0 }) else {
                verdicts[stream.id] = "empty"
                continue
            }
            tracks.append(planned)
            times += segments.flatMap { [$0.firstArrival, $0.lastArrival].compactMap(\.self) }
        }
        let seconds = if let first = times.min(), let last = times.max() { (last - first).seconds } else { 0.0 }
        return (tracks, verdicts, seconds)
    }

    private func segments(of track: TrackID, _ kind: MediaKind, in id: RecordingID) async throws -> [SegmentEntry] {
        let folder = configuration.trackFolder(id.rawValue, track.rawValue).path
        let identity = TrackLogIdentity(recording: id, track: track, kind: kind)
        let key = try await keys.key(KeyStore.track(track))
        let faults = try await BlockingWork.run { try TrackManifest.faults(directory: folder, identity: identity, key: key, isThorough: false) }
        if !faults.isEmpty { logger.error("a packet log is not what its manifest lists: somebody changed files", metadata: ["track": "\(track)", "segments": "\(faults.count)"]) }
        return try await BlockingWork.run { try TrackManifest.read(directory: folder, identity: identity, key: key) }
    }

    /// Days by output, where a class is named. One that is no longer configured counts as the shortest that is: nothing is kept longer for it.
    private func retentionDays(_ job: PlannedJob) -> [String: Int]? {
        let classes = configuration.retention.outputClasses
        let named = job.outputs.compactMap { output in output.retention.map { (output.name, classes[$0] ?? classes.values.min() ?? 1) } }
        return named.isEmpty ? nil : Dictionary(uniqueKeysWithValues: named)
    }
}
