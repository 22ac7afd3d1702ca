import Catalog
import Consent
import Depacketize
import Foundation
import Glibc
import GRDB
import JobQueue
import Logging
import Media
import PacketLog
import Renditions
import SealedFile
import ServiceLifecycle
import Synchronization

/// The payload of a stage's job.
struct StagePayload: Codable, Sendable {
    var recording: RecordingID
    var purpose: Purpose
    var job: PlannedJob
    /// Which version of the pipeline file the run was compiled from; nil in payloads from before it was kept.
    var pipelineDigest: String?
    /// Days after the recording's start for which an output is kept, by its name, where its class is shorter than the recording.
    var retentionDays: [String: Int]?
}

/// Runs the queue's stages, each in a child process.
public final class StageWorker: Service {
    private let recorder: Recorder
    private let supervisor: JobSupervisor<StageWork>

    public init(recorder: Recorder) {
        self.recorder = recorder
        let configuration = recorder.configuration
        var options = configuration.jobs
        options.slots = [.light: max(2, configuration.workers), .heavy: configuration.workers]
        let data = configuration.data.path
        options.capacity = { Node.capacity(folder: data) }
        supervisor = JobSupervisor(StageWork(recorder: recorder), store: recorder.jobs, options: options) { recorder.clock.now }
    }

    /// Until the graceful shutdown, at which it claims nothing more, lets stages come to a boundary and gives the rest back; or until the task is
    /// cancelled, at which it gives everything back at once.
    public func run() async throws {
        await withTaskGroup { group in
            group.addTask { [self] in await withGracefulShutdownHandler { await supervisor.run() } onGracefulShutdown: { self.supervisor.drain() } }
            group.addTask { [recorder] in await recorder.liveRenditions.serve(recorder) }
            _ = await group.next()
            group.cancelAll()
        }
    }

    /// Runs until nothing is left to do: for `render`, which has no server around it.
    public func runUntilEmpty() async { await supervisor.run(untilEmpty: true) }

    /// Runs what is due now, one after the other. What is postponed, or failed and waits to be tried again, stays.
    package func runDue() async { await supervisor.runDue() }

    /// Takes their jobs from workers that died, and does none.
    package func rescue() async {
        var options = recorder.configuration.jobs
        options.slots = [:]
        await JobSupervisor(StageWork(recorder: recorder), store: recorder.jobs, options: options) { [recorder] in recorder.clock.now }.runDue()
    }

    static func kind(of stage: StageKind) -> JobKind { JobKind(rawValue: stage.rawValue) }

    /// Encodes of pictures take as long as the meeting; everything else finishes soon, and the sound is waited for first.
    static func lane(of stage: StageKind) -> Lane { [.compose, .composePart].contains(stage) ? .heavy : .light }
}

/// What this machine has for stages.
enum Node {
    static func capacity(folder: String) -> Demand {
        let cores = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        let memory = Int64(sysconf(Int32(_SC_PHYS_PAGES))) * Int64(sysconf(Int32(_SC_PAGESIZE)))
        var disk = statvfs()
        let free = statvfs(folder, &disk) == 0 ? Int64(disk.f_bavail) * Int64(disk.f_frsize) : 0
        // A quarter of the memory is for capture, the server and the system's cache.
        return Demand(cpuShares: cores * 1_000, memoryBytes: memory / 4 * 3, diskBytes: free)
    }
}

/// One stage's job: prepared, run in its child, published.
final class StageWork: JobWork {
    typealias Store = SQLiteJobStore

    let recorder: Recorder
    let runner: StageRunner
    let versionKnown = Mutex<String?>(nil)
    /// With the one kind that there was before stages had their own.
    let kinds = Set(StageKind.allCases.map(StageWorker.kind)).union(["stage"])

    init(recorder: Recorder) {
        self.recorder = recorder
        runner = StageRunner(executable: recorder.configuration.stageExecutable, substitute: recorder.configuration.stageSubstitute)
    }

    struct LeaseLost: Error {}

    func perform(_ job: Job, _ run: JobRun) async throws -> JobEnding {
        guard let payload: StagePayload = Recorder.decoded(job.payload) else { return .failed(.permanent, reason: "the job's payload is of another version") }
        let ending = try await perform(payload, job, run)
        let outcome: StageFigures.Outcome = switch ending {
        case .done, .written: .done
        case .failed(.crash, _): .crashed
        case .failed(.noRoom, _): .released
        case .failed: .failed
        case .released: run.isAtLimit ? .crashed : .released
        case .lost: .lost
        }
        recorder.stageFigures.ended(payload.job.kind, outcome)
        return ending
    }

    private func perform(_ payload: StagePayload, _ job: Job, _ run: JobRun) async throws -> JobEnding {
        // What is restricted is not worked on; when it ends the job is freed.
        if let hold = try await recorder.hold(on: payload.recording) {
            // A wall clock that was set forward is past the date of a hold that is not over.
            return .released(until: max(WallTime(nanoseconds: hold.until), recorder.clock.now + .seconds(60)))
        }
        do {
            try await make(payload, job, run)
            return .written
        } catch StageRunError.failed(let failure) where failure.code == .nothingToDo || failure.code == .unsupportedCodec {
            return try await finishEmpty(job, payload, failure) ? .written : .lost
        } catch is LeaseLost {
            return .lost
        } catch is CancellationError {
            return .released(until: nil)
        } catch StageRunError.cancelled {
            return .released(until: nil)
        } catch {
            let (failure, reason) = Self.judge(error)
            return .failed(failure, reason: reason)
        }
    }

    private func make(_ payload: StagePayload, _ job: Job, _ run: JobRun) async throws {
        if try await publishLive(payload, job, run) { return }
        run.startOver()
        var preparation = try await prepare(payload, job.lease)
        if preparation.reusable != nil || preparation.isCovered {
            preparation.closeDescriptors()
            do {
                if let there = preparation.reusable { return try await reuse(there, preparation, payload, job) }
                return try await skip(preparation, payload, job)
            } catch is ReuseLost {}
            preparation = try await prepare(payload, job.lease, mayReuse: false)
        }
        try await make(preparation, payload, job, run)
    }

    private func make(_ preparation: StagePreparation, _ payload: StagePayload, _ job: Job, _ run: JobRun) async throws {
        defer { preparation.closeDescriptors() }
        do {
            defer { run.setProcess(nil) }
            run.limit(wall: .seconds(Int64(runner.limits(of: preparation.order, preparation.descriptors).wallSeconds)))
            let started = ContinuousClock.now
            let result = try await runner.run(preparation.order, descriptors: preparation.descriptors, started: { run.setProcess($0) }, progress: { run.progress($0) })
            let seconds = (ContinuousClock.now - started) / .seconds(1)
            // Once begun it is not broken off: a task that is cancelled in between could undo half of it only.
            try await Task.detached { [self] in try await publish(result, preparation, payload, job) }.value
            recorder.stageFigures.made(payload.job.kind, result.outputs.map(\.duration).max() ?? .zero, in: seconds)
        } catch {
            // The task may be cancelled already, and in such a one nothing can be written.
            await Task.detached { [self] in await discard(preparation) }.value
            throw error
        }
    }

    private static func judge(_ error: any Error) -> (JobFailure, String) {
        if isAboutRoom(error) { return (.noRoom, "the disk is full; it is tried again by itself once there is room") }
        return switch error {
        case StageRunError.died(let why): (.crash, "the stage's process died: \(why)")
        case StageRunError.failed(let failure): (failure.code == .protocolViolation || failure.code == .limitExceeded ? .permanent : .error, failure.what + (failure.hint.map { " (\($0))" } ?? ""))
        case StageRunError.notStarted(let why): (.error, "the stage could not be started: \(why)")
        default: (.error, "\(error)")
        }
    }

    /// Whether a full disk is behind it, here or in the stage.
    private static func isAboutRoom(_ error: any Error) -> Bool {
        switch error {
        case StageRunError.failed(let failure): failure.code == .outputFull
        case SealedFileError.system(_, ENOSPC), SealedFileError.system(_, EDQUOT): true
        case let error as DatabaseError: error.resultCode == .SQLITE_FULL
        case let error as CocoaError: error.code == .fileWriteOutOfSpace
        default: false
        }
    }

    /// A stage that found nothing is done, and what depends on it goes on without. False where the lease is lost.
    private func finishEmpty(_ job: Job, _ payload: StagePayload, _ failure: StageFailure) async throws -> Bool {
        let now = recorder.clock.now
        return try await recorder.catalog.write { [jobs = recorder.jobs] db in
            guard try jobs.complete(job.lease, now: now, in: db) else { return false }
            if let track = payload.job.track {
                try db.execute(sql: "UPDATE stream SET verdict = ?, problem = ? WHERE track = ? AND verdict IS NOT 'erased'",
                               arguments: [failure.code == .unsupportedCodec ? "unsupported" : "empty", failure.what, track.rawValue])
            }
            try Self.settle(jobs.jobs(owner: job.owner, run: job.run, in: db), db)
            return true
        }
    }

    func settle(_ job: Job, in db: Database) throws { try Self.settle(recorder.jobs.jobs(owner: job.owner, run: job.run, in: db), db) }

    /// When the last job of a run is over the recording is ready, or failed with the reasons.
    static func settle(_ jobs: [Job], _ db: Database) throws {
        let broken = jobs.filter { $0.state.isDead || $0.state == .cancelled }
        // What waits for a dead job never runs.
        guard let owner = jobs.first?.owner, jobs.allSatisfy({ $0.state.isFinal || ($0.state == .blocked && !broken.isEmpty) }) else { return }
        let problems = broken.map { "\($0.name.split(separator: "/")[0]): \($0.state == .cancelled ? "cancelled" : ($0.standing.reason ?? "failed").prefix { $0 != "\n" })" }
        let json = String(decoding: try JSONEncoder().encode(problems), as: UTF8.self)
        try db.execute(sql: "UPDATE recording SET state = ?, problems = ? WHERE id = ? AND state = 'processing'", arguments: [broken.isEmpty ? "ready" : "failed", json, owner])
    }

    func note(_ event: JobNote) {
        let logger = recorder.logger
        switch event {
        case .failed(let job, _, let reason): logger.warning("a stage failed", metadata: ["job": "\(job.id)", "stage": "\(job.kind.rawValue)", "reason": "\(reason.replacing("\n", with: "; "))"])
        case .leaseLost(let job):
            recorder.stageFigures.leaseLost()
            logger.warning("a stage's lease was lost, its result is discarded", metadata: ["job": "\(job.id)"])
        case .rescued(let job, let reason):
            recorder.stageFigures.rescued()
            logger.warning("a stage is taken from its worker", metadata: ["job": "\(job.id)", "stage": "\(job.kind.rawValue)", "reason": "\(reason)"])
        case .storeFailed(let error): logger.error("the queue cannot be read or written", metadata: ["error": "\(error)"])
        }
    }
}
