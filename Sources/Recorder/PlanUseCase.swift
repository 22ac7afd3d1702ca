import Catalog
import Consent
import Foundation
import GRDB
import JobQueue
import Media
import Renditions

/// What a recording's pipeline would do now: which stages run, which are used again or left out, and why.
public struct PlanView: Codable, Hashable, Sendable {
    public enum Action: String, Codable, Sendable { case run, reuse, skip }

    public struct Stage: Codable, Hashable, Sendable {
        public var name: String
        public var kind: String
        public var purpose: Purpose
        public var action: Action
        /// Why, in words.
        public var reason: String
        /// Names of the stages that it reads from.
        public var after: [String]
        public var outputs: [Output]
        /// Seconds of work that are expected, from how long the last ones took here; 0 for what does not run.
        public var seconds: Double
    }

    public struct Output: Codable, Hashable, Sendable {
        public var name: String
        public var container: String
        /// Days after the recording's start, where its retention class is shorter than the recording.
        public var retentionDays: Int?
    }

    public var recording: RecordingID
    public var pipeline: String
    /// SHA-256 of the pipeline file.
    public var digest: String
    public var stages: [Stage]
    public var seconds: Double
}

extension Recorder {
    /// Plans without doing anything. What is planned for tracks that are still to be made is never a reuse: what they become is not known.
    public func plan(of id: RecordingID, as principal: Principal) async throws -> PlanView {
        try require([.moderator, .platform, .operator], principal)
        let record: RecordingRecord
        if principal.role == .operator {
            guard let found = try await catalog.read({ try RecordingRecord.fetchOne($0, key: id.rawValue) }) else { throw Self.notFound }
            record = found
        } else {
            record = try await recordingRecord(id, principal)
        }
        guard ["processing", "ready", "failed"].contains(record.state) else {
            throw RecorderError(.conflict, "a recording that is \(record.state) has no plan", hint: "it is made when the recording has stopped")
        }
        let pipeline = try pipeline(named: record.pipeline)
        let (tracks, _, length) = try await plannedTracks(of: id)
        let plan = Plan(pipeline, tracks: tracks, seconds: length)
        let costs = try await StageCosts(catalog)
        let work = StageWork(recorder: self)
        // Made again it would not come out the same to the byte, and it has no fingerprint.
        let madeLive = try await catalog.read { try String.fetchSet($0, sql: "SELECT DISTINCT stage FROM rendition WHERE recording = ? AND state = 'ready' AND fingerprint IS NULL", arguments: [id.rawValue]) }
        var reused: Set<String> = []
        var stages: [PlanView.Stage] = []
        for stage in pipeline.stages {
            let jobs = plan.jobs.filter { $0.stageName == stage.name }
            let purpose = pipeline.purpose(of: stage)
            var view = PlanView.Stage(
                name: stage.name, kind: stage.kind.rawValue, purpose: purpose, action: .run, reason: "", after: stage.inputs.map(\.stage).reduce(into: []) { if !$0.contains($1) { $0.append($1) } },
                outputs: stage.kind == .depacketize ? [] : stage.outputs.map { output in
                    PlanView.Output(name: output.name, container: output.container.rawValue, retentionDays: output.retention.flatMap { configuration.retention.outputClasses[$0] })
                }, seconds: 0)
            if stage.kind == .depacketize {
                let waiting = tracks.filter { !$0.isDepacketized }.count
                view.action = waiting > 0 ? .run : tracks.isEmpty ? .skip : .reuse
                view.reason = tracks.isEmpty ? "nothing was recorded" : waiting == 0 ? "all \(tracks.count) tracks are made" : "\(waiting) of \(tracks.count) tracks are still to be made"
                view.seconds = costs.seconds(stage.kind, length: length) * Double(waiting)
            } else if let skipped = plan.skipped.first(where: { $0.stage == stage.name }) {
                (view.action, view.reason) = (.skip, skipped.reason)
            } else if let job = jobs.last {
                let isSettled = view.after.allSatisfy { name in reused.contains(name) || !plan.jobs.contains { $0.stageName == name } }
                let isThere = isSettled ? try await work.isReusable(StagePayload(recording: id, purpose: purpose, job: job)) : false
                if isThere {
                    (view.action, view.reason) = (.reuse, "the same inputs, parameters and versions as what is there")
                    reused.insert(stage.name)
                } else {
                    view.reason = !isSettled ? "what it reads is made first" : madeLive.contains(stage.name) ? "what is there was made while the recording ran" : "inputs, parameters or versions have changed, or it was never made"
                    view.seconds = costs.seconds(job.isInParts ? .composePart : stage.kind, length: length)
                }
            }
            stages.append(view)
        }
        return PlanView(recording: id, pipeline: record.pipeline, digest: pipeline.digest, stages: stages, seconds: stages.reduce(0) { $0 + $1.seconds })
    }
}

/// How long stages take, per second of recording: the median of the last that ran here, or what is usual.
struct StageCosts: Sendable {
    static let remembered = 20
    /// Putting a picture's parts together, a second of recording.
    static let join = 0.01
    private var shares: [StageKind: Double] = [:]

    init(_ catalog: Catalog) async throws {
        let rows = try await catalog.read { db in
            try Row.fetchAll(db, sql: "SELECT kind, made_seconds / (duration / 1e9) AS share FROM rendition WHERE made_seconds IS NOT NULL AND duration > 0 ORDER BY created_at DESC LIMIT 500").map { (kind: $0["kind"] as String, share: $0["share"] as Double) }
        }
        for kind in StageKind.allCases {
            let last = rows.filter { $0.kind == kind.renditionKind }.prefix(Self.remembered).map(\.share).sorted()
            if !last.isEmpty { shares[kind] = last[last.count / 2] }
        }
    }

    init(shares: [StageKind: Double] = [:]) { self.shares = shares }

    func seconds(_ kind: StageKind, length: Double) -> Double { length * (shares[kind] ?? Self.usual(kind)) }

    /// On two cores, of a meeting of four.
    private static func usual(_ kind: StageKind) -> Double {
        switch kind {
        case .depacketize: 0.001
        case .mix: 0.02
        case .compose, .composePart: 0.3
        case .waveform: 0.003
        case .thumbnail: 0.002
        }
    }
}
