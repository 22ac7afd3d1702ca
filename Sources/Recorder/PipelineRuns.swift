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
        let (tracks, verdicts) = try await plannedTracks(of: id)
        for (stream, verdict) in verdicts.sorted(by: { $0.key < $1.key }) { try await setVerdict(verdict, stream: stream) }
        let jobs = try Plan(pipeline, tracks: tracks).jobs.map { job in
            let payload = StagePayload(recording: id, purpose: pipeline.purpose(of: job.stageName), job: job, pipelineDigest: pipeline.digest, retentionDays: retentionDays(job))
            return NewJob(id: .random(), kind: StageWorker.kind(of: job.kind), name: job.name, payload: String(decoding: try JSONEncoder().encode(payload), as: UTF8.self),
                          lane: StageWorker.lane(of: job.kind), priority: job.kind == .compose ? 0 : 10, dependencies: job.dependencies)
        }
        let now = clock.now
        try await catalog.write { [queue = self.jobs] db in
            try queue.enqueue(jobs, owner: id.rawValue, now: now, in: db)
            if jobs.isEmpty {
                let problems = String(decoding: try JSONEncoder().encode(["nothing was recorded: no packet passed a gate"]), as: UTF8.self)
                try db.execute(sql: "UPDATE recording SET state = 'ready', problems = ? WHERE id = ?", arguments: [problems, id.rawValue])
            }
        }
    }

    /// The tracks that a plan is made for, and the verdicts on those that nothing is made of, by stream.
    func plannedTracks(of id: RecordingID) async throws -> (tracks: [PlannedTrack], verdicts: [String: String]) {
        var tracks: [PlannedTrack] = []
        var verdicts: [String: String] = [:]
        let (streams, consents) = try await catalog.read { (try $0.streams(of: id.rawValue, recordedOnly: true), try $0.consentState(of: id)) }
        let now = clock.now
        for (stream, people) in streams {
            guard let track = TrackID(rawValue: stream.track), let kind = MediaKind(rawValue: stream.kind), stream.verdict != "erased" else { continue }
            let purposes = Set(Purpose.allCases.filter { Self.allow(people, kind, $0, consents, at: now) })
            let planned = PlannedTrack(id: track, kind: kind, isDepacketized: stream.summary != nil, purposes: purposes)
            if stream.isFile {
                guard stream.summary != nil || stream.source != nil else { continue }
                // A mixed source: everybody in it, or nothing of it.
                if stream.summary != nil || Self.mayRecord(stream, people, consents, at: now) { tracks.append(planned) } else { verdicts[stream.id] = "not-consented" }
            } else if try await packets(in: track, kind, of: id) > 0 {
                tracks.append(planned)
            } else {
                verdicts[stream.id] = "empty"
            }
        }
        return (tracks, verdicts)
    }

    private func packets(in track: TrackID, _ kind: MediaKind, of id: RecordingID) async throws -> Int {
        let folder = configuration.trackFolder(id.rawValue, track.rawValue).path
        let identity = TrackLogIdentity(recording: id, track: track, kind: kind)
        let key = try await keys.key(KeyStore.track(track))
        let faults = try await BlockingWork.run { try TrackManifest.faults(directory: folder, identity: identity, key: key, isThorough: false) }
        if !faults.isEmpty { logger.error("a packet log is not what its manifest lists: somebody changed files", metadata: ["track": "\(track)", "segments": "\(faults.count)"]) }
        return try await BlockingWork.run { try TrackManifest.read(directory: folder, identity: identity, key: key).reduce(0) { $0 + $1.packets } }
    }

    /// Days by output, where a class is named. One that is no longer configured counts as the shortest that is: nothing is kept longer for it.
    private func retentionDays(_ job: PlannedJob) -> [String: Int]? {
        let classes = configuration.retention.outputClasses
        let named = job.outputs.compactMap { output in output.retention.map { (output.name, classes[$0] ?? classes.values.min() ?? 1) } }
        return named.isEmpty ? nil : Dictionary(uniqueKeysWithValues: named)
    }
}
