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
        guard let record = try await catalog.read({ try RecordingRecord.fetchOne($0, key: id.rawValue) }) else { return }
        let pipeline = try pipeline(named: record.pipeline)
        let (tracks, verdicts, seconds) = try await plannedTracks(of: id)
        for (stream, verdict) in verdicts.sorted(by: { $0.key < $1.key }) { try await setVerdict(verdict, stream: stream) }
        // What is being rendered while it runs comes in one piece.
        let plan = Plan(pipeline, tracks: tracks, seconds: liveRenditions.run(of: id) == nil ? seconds : 0)
        // Of jobs as old as each other the queue takes that of the lowest id first: ids that rise make it the plan's order, the longest parts first.
        let ids = plan.jobs.map { _ in JobID.random() }.sorted { $0.rawValue < $1.rawValue }
        let jobs = try zip(ids, plan.jobs).map { jobID, job in
            let payload = StagePayload(recording: id, purpose: pipeline.purpose(of: job.stageName), job: job, pipelineDigest: pipeline.digest, retentionDays: retentionDays(job))
            return NewJob(id: jobID, kind: StageWorker.kind(of: job.kind), name: job.name, payload: String(decoding: try JSONEncoder().encode(payload), as: UTF8.self),
                          lane: StageWorker.lane(of: job.kind), priority: StageWorker.lane(of: job.kind) == .heavy ? 0 : 10, dependencies: job.dependencies)
        }
        let now = clock.now
        let orphans = try await catalog.write { [queue = self.jobs] db in
            let orphans = try Self.dropParts(of: id, besides: plan, db)
            try queue.enqueue(jobs, owner: id.rawValue, now: now, in: db)
            if jobs.isEmpty {
                let problems = String(decoding: try JSONEncoder().encode(["nothing was recorded: no packet passed a gate"]), as: UTF8.self)
                try db.execute(sql: "UPDATE recording SET state = 'ready', problems = ? WHERE id = ?", arguments: [problems, id.rawValue])
            }
            return orphans
        }
        try await shred(orphans, of: id)
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
    /// known, which for a finished file is when its tracks are made.
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
