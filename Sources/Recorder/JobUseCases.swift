import Catalog
import Foundation
import GRDB
import JobQueue
import Media
import Synchronization

/// The queue as the operator sees it: kinds, states and figures, never what was said or by whom.
public protocol JobsAPI: Sendable {
    /// The newest first; all states where none is named.
    func jobs(states: [String], as principal: Principal) async throws -> JobListView
    func job(_ id: JobID, as principal: Principal) async throws -> JobView
    func control(_ id: JobID, _ command: JobCommand, as principal: Principal) async throws -> JobView
    /// Stops or resumes claiming for `all`, `lane:NAME` or `kind:NAME`; what runs goes on to its end. To resume `all` ends every pause.
    func pauseJobs(_ isPaused: Bool, scope: String, as principal: Principal) async throws -> QueueView
    /// The queue's figures and what runs, now and whenever they change, at most twice a second.
    func watchJobs(as principal: Principal) async throws -> AsyncThrowingStream<QueueView, any Error>
}

public enum JobCommand: String, Sendable, CaseIterable { case retry, cancel }

public struct JobView: Codable, Hashable, Sendable {
    public var id: JobID
    public var recording: String
    public var run: Int
    public var kind: String
    public var name: String
    /// SHA-256 of the pipeline file that the run was compiled from.
    public var pipelineDigest: String?
    public var lane: String
    public var state: String
    public var priority: Int
    /// Share done, 0...1.
    public var progress: Double
    /// Estimated from the progress so far; nil where nothing can be said yet.
    public var secondsLeft: Double?
    public var attempts: Int
    public var errors: Int
    public var crashes: Int
    /// Attempts during which the worker died.
    public var losses: Int
    public var releases: Int
    /// Why it last failed, in words.
    public var reason: String?
    public var waitsFor: Int
    public var runAfter: Double
    public var createdAt: Double
    public var startedAt: Double?
    public var finishedAt: Double?
}

/// How many jobs of a lane are in each state.
public struct LaneView: Codable, Hashable, Sendable {
    public var lane: String
    public var blocked = 0
    public var available = 0
    public var running = 0
    public var done = 0
    public var failed = 0
    public var quarantined = 0
    public var cancelled = 0
}

public struct QueueView: Codable, Hashable, Sendable {
    public var lanes: [LaneView]
    /// What is not claimed at present: `all`, `lane:NAME`, `kind:NAME`.
    public var paused: [String]
    public var running: [JobView]
}

public struct JobListView: Codable, Hashable, Sendable {
    public var lanes: [LaneView]
    public var paused: [String]
    public var jobs: [JobView]
}

public struct PauseRequest: Codable, Sendable {
    public var scope: String
    public init(scope: String) { self.scope = scope }
}

extension Recorder {
    static let jobsListedMax = 200

    public func jobs(states: [String], as principal: Principal) async throws -> JobListView {
        try require([.operator], principal)
        let wanted = try Set(states.map { name in
            guard let state = JobState(rawValue: name) else {
                throw RecorderError(.invalid, "the state '\(name.prefix(20))'", hint: "one of: " + JobState.allCases.map(\.rawValue).joined(separator: ", "), pointer: "/state")
            }
            return state
        })
        let now = clock.now
        return try await catalog.read { [jobs] db in
            JobListView(lanes: try Self.lanes(jobs, db), paused: try jobs.pauses(in: db).map(\.text).sorted(),
                        jobs: try jobs.list(states: wanted.isEmpty ? Set(JobState.allCases) : wanted, limit: Self.jobsListedMax, in: db).map { Self.view($0, now) })
        }
    }

    public func job(_ id: JobID, as principal: Principal) async throws -> JobView {
        try require([.operator], principal)
        guard let job = try await catalog.read({ [jobs] in try jobs.job(id, in: $0) }) else { throw Self.notFound }
        return Self.view(job, clock.now)
    }

    public func control(_ id: JobID, _ command: JobCommand, as principal: Principal) async throws -> JobView {
        try require([.operator], principal)
        let now = clock.now
        try await catalog.write { [jobs] db in
            guard let job = try jobs.job(id, in: db) else { throw Self.notFound }
            switch command {
            case .retry:
                guard try jobs.retry(id, now: now, in: db) else { throw RecorderError(.conflict, "a job that is \(job.state.rawValue) cannot be retried", hint: "only one that is failed or quarantined") }
                // Its recording is made after all, unless it has ended or another run has taken this one's place.
                if try jobs.currentJobs(owner: job.owner, in: db).first?.run == job.run {
                    try db.execute(sql: "UPDATE recording SET state = 'processing', problems = '[]' WHERE id = ? AND state = 'failed'", arguments: [job.owner])
                }
            case .cancel:
                guard try !jobs.cancel(id, now: now, in: db).isEmpty else { throw RecorderError(.conflict, "a job that is \(job.state.rawValue) cannot be cancelled") }
                try StageWork.settle(jobs.jobs(owner: job.owner, run: job.run, in: db), db)
            }
            try AuditLog.append(actor: principal.subject, action: "job.\(command.rawValue)", object: job.owner, detail: job.kind.rawValue, now: now, db)
        }
        return try await job(id, as: principal)
    }

    public func pauseJobs(_ isPaused: Bool, scope: String, as principal: Principal) async throws -> QueueView {
        try require([.operator], principal)
        guard let scope = PauseScope(scope) else {
            throw RecorderError(.invalid, "the scope '\(scope.prefix(40))'", hint: "all, lane:light, lane:heavy, or kind: and a stage's kind", pointer: "/scope")
        }
        try await catalog.write { [jobs] db in
            // Whoever resumes everything means everything.
            let all = try !isPaused && scope == .all ? jobs.pauses(in: db).union([.all]) : [scope]
            for scope in all { try jobs.setPaused(isPaused, scope, in: db) }
        }
        return try await queue()
    }

    func queue() async throws -> QueueView {
        let now = clock.now
        return try await catalog.read { [jobs] db in
            QueueView(lanes: try Self.lanes(jobs, db), paused: try jobs.pauses(in: db).map(\.text).sorted(),
                      running: try jobs.list(states: [.running], limit: Self.jobsListedMax, in: db).map { Self.view($0, now) })
        }
    }

    public func watchJobs(as principal: Principal) async throws -> AsyncThrowingStream<QueueView, any Error> {
        try require([.operator], principal)
        let watch = QueueWatch()
        return AsyncThrowingStream { [self] in try await watch.next(of: self) }
    }

    private static func lanes(_ jobs: SQLiteJobStore, _ db: Database) throws -> [LaneView] {
        let counts = try jobs.counts(in: db)
        return Lane.allCases.map { lane in
            let own = counts[lane] ?? [:]
            return LaneView(lane: lane.rawValue, blocked: own[.blocked] ?? 0, available: own[.available] ?? 0, running: own[.running] ?? 0, done: own[.done] ?? 0,
                            failed: own[.failed] ?? 0, quarantined: own[.quarantined] ?? 0, cancelled: own[.cancelled] ?? 0)
        }
    }

    static func view(_ job: Job, _ now: WallTime) -> JobView {
        JobView(id: job.id, recording: job.owner, run: job.run, kind: job.kind.rawValue, name: job.name,
                pipelineDigest: (decoded(job.payload) as StagePayload?)?.pipelineDigest, lane: job.lane.rawValue, state: job.state.rawValue, priority: job.priority,
                progress: job.progress, secondsLeft: job.secondsLeft(at: now), attempts: Int(job.standing.token), errors: job.standing.errors, crashes: job.standing.crashes,
                losses: job.standing.losses, releases: job.standing.releases, reason: job.standing.reason, waitsFor: job.standing.pendingDependencies, runAfter: job.runAfter.seconds,
                createdAt: job.createdAt.seconds, startedAt: job.startedAt?.seconds, finishedAt: job.finishedAt?.seconds)
    }

    /// Once an hour: what ended a week ago is forgotten, what is dead after a quarter of a year.
    func pruneJobsIfDue() async throws {
        let now = clock.now
        let isDue = jobsPrunedAt.withLock { last in
            guard now - last >= .seconds(3_600) else { return false }
            last = now
            return true
        }
        guard isDue else { return }
        _ = try await catalog.write { [jobs] in try jobs.prune(done: now - .seconds(7 * 86_400), dead: now - .seconds(90 * 86_400), in: $0) }
    }
}

/// Hands on the queue's figures when they have changed.
private actor QueueWatch {
    private var last: QueueView?

    /// Nil when the task is cancelled: whoever watched has gone. An unchanged view is sent every 15 s, so that a broken connection is found.
    func next(of recorder: Recorder) async throws -> QueueView? {
        for round in 0... {
            // Also before a view that has changed: while something runs each one has.
            if last != nil { do { try await Task.sleep(for: .milliseconds(500)) } catch { return nil } }
            let view = try await recorder.queue()
            if view != last || round >= 30 {
                last = view
                return view
            }
        }
        return nil
    }
}
