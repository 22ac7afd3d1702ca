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
}

/// How much of a stage is done, told by one thread and read by another.
final class StageShare: Sendable {
    private let share = Mutex(0.0)
    var value: Double {
        get { share.withLock { $0 } }
        set { share.withLock { $0 = newValue } }
    }
}

/// Runs the queue's stages, each in a child process.
public final class StageWorker: Service {
    static let jobKind = "stage"
    /// How soon a new job is seen when nothing else happens.
    private static let idle = Duration.milliseconds(100)

    let recorder: Recorder
    private let runner: StageRunner
    private let policy = RetryPolicy()

    public init(recorder: Recorder) {
        self.recorder = recorder
        runner = StageRunner(executable: recorder.configuration.stageExecutable, substitute: recorder.configuration.stageSubstitute)
    }

    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                for _ in 0..<self.recorder.configuration.workers { group.addTask { await self.work(untilEmpty: false) } }
            }
        }
    }

    /// Runs until nothing is left to do: for `render`, which has no server around it.
    public func runUntilEmpty() async {
        await withDiscardingTaskGroup { group in
            for _ in 0..<self.recorder.configuration.workers { group.addTask { await self.work(untilEmpty: true) } }
        }
    }

    /// Runs what is due now, one after the other. What is postponed, or failed and waits to be tried again, stays.
    package func runDue() async throws {
        while let (job, lease) = try await recorder.catalog.write({ [now = recorder.clock.now] in try JobStore.claim(kinds: [Self.jobKind], now: now, $0) }) { await run(job, lease) }
    }

    private func work(untilEmpty: Bool) async {
        while !Task.isCancelled {
            do {
                let now = recorder.clock.now
                if let (job, lease) = try await recorder.catalog.write({ try JobStore.claim(kinds: [Self.jobKind], now: now, $0) }) {
                    await run(job, lease)
                    continue
                }
                if untilEmpty {
                    let counts = try await recorder.catalog.read { try JobStore.counts($0) }
                    if counts["available", default: 0] + counts["running", default: 0] == 0 { return }
                }
            } catch {
                recorder.logger.error("the queue cannot be read", metadata: ["error": "\(error)"])
            }
            // A cancelled sleep ends the loop.
            try? await Task.sleep(for: Self.idle)
        }
    }

    private func run(_ job: Job, _ lease: Lease) async {
        let progress = StageShare()
        let logger = recorder.logger
        do {
            guard let payload: StagePayload = Recorder.decoded(job.payload) else { throw StageRunError.failed(StageFailure(code: .protocolViolation, what: "the job's payload is of another version")) }
            if let hold = try await recorder.hold(on: payload.recording) {
                // What is restricted is not worked on; when it ends the job is freed.
                _ = try await recorder.catalog.write { try JobStore.postpone(lease, until: WallTime(nanoseconds: hold.until), $0) }
                return
            }
            let preparation = try await prepare(payload, job, lease)
            defer { preparation.closeDescriptors() }
            do {
                let result = try await withLease(lease, progress) { [runner] in
                    try await runner.run(preparation.order, descriptors: preparation.descriptors) { progress.value = $0 }
                }
                try await publish(result, preparation, payload, lease)
            } catch {
                await discard(preparation)
                throw error
            }
        } catch StageRunError.failed(let failure) where failure.code == .nothingToDo || failure.code == .unsupportedCodec {
            await finishEmpty(job, lease, failure)
        } catch is LeaseLost {
            logger.warning("a stage's lease was lost, its result is discarded", metadata: ["job": "\(lease.job)"])
        } catch is CancellationError {
            await giveBack(lease)
        } catch StageRunError.cancelled {
            await giveBack(lease)
        } catch {
            await fail(job, lease, error)
        }
    }

    struct LeaseLost: Error {}

    /// Runs a body while the lease is renewed; where it is lost the body is cancelled.
    private func withLease<Value: Sendable>(_ lease: Lease, _ progress: StageShare, _ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await withThrowingTaskGroup(of: Value?.self) { group in
            group.addTask { try await body() }
            while true {
                group.addTask {
                    try await Task.sleep(for: .milliseconds(250))
                    return nil
                }
                guard let next = try await group.next() else { throw CancellationError() }
                if let value = next {
                    group.cancelAll()
                    return value
                }
                let (now, told) = (recorder.clock.now, progress.value)
                let holds = try await recorder.catalog.write { try JobStore.heartbeat(lease, progress: told, now: now, $0) }
                guard holds else {
                    group.cancelAll()
                    throw LeaseLost()
                }
            }
        }
    }

    private func giveBack(_ lease: Lease) async {
        let (catalog, now) = (recorder.catalog, recorder.clock.now)
        // The task is cancelled already: the last write runs in one that is not. If it fails, the lease runs out by itself.
        await Task.detached { _ = try? await catalog.write { try JobStore.release(lease, now: now, $0) } }.value
    }

    private func fail(_ job: Job, _ lease: Lease, _ error: any Error) async {
        let (kind, reason): (JobStore.Failure, String) = switch error {
        case StageRunError.died(let why): (.crash, "the stage's process died: \(why)")
        case StageRunError.failed(let failure): (failure.code == .protocolViolation || failure.code == .limitExceeded ? .permanent : .error, failure.what)
        case StageRunError.notStarted(let why): (.error, "the stage could not be started: \(why)")
        default: (.error, "\(error)")
        }
        recorder.logger.warning("a stage failed", metadata: ["job": "\(lease.job)", "stage": "\(job.name.split(separator: "/")[0])", "reason": "\(reason)"])
        let (policy, now, jitter) = (policy, recorder.clock.now, Double.random(in: 0..<1))
        do {
            try await recorder.catalog.write { db in
                _ = try JobStore.fail(lease, kind, reason: reason, policy: policy, jitter: jitter, now: now, db)
                try Self.settle(job.group, db)
            }
        } catch {
            recorder.logger.error("a stage's failure could not be noted", metadata: ["error": "\(error)"])
        }
    }

    /// A stage that found nothing is done, and what depends on it goes on without.
    private func finishEmpty(_ job: Job, _ lease: Lease, _ failure: StageFailure) async {
        let now = recorder.clock.now
        let payload: StagePayload? = Recorder.decoded(job.payload)
        do {
            try await recorder.catalog.write { db in
                guard try JobStore.complete(lease, now: now, db) else { return }
                if let track = payload?.job.track {
                    try db.execute(sql: "UPDATE stream SET verdict = ?, problem = ? WHERE track = ? AND verdict IS NOT 'erased'",
                                   arguments: [failure.code == .unsupportedCodec ? "unsupported" : "empty", failure.what, track.rawValue])
                }
                try Self.settle(job.group, db)
            }
        } catch {
            recorder.logger.error("a stage's end could not be noted", metadata: ["error": "\(error)"])
        }
    }

    /// When the last job of a run is over the recording is ready, or failed with the reasons.
    static func settle(_ group: String, _ db: Database) throws {
        let jobs = try JobStore.jobs(group: group, db)
        let dead = jobs.filter { $0.state == .dead }
        // What waits for a dead job never runs.
        guard jobs.allSatisfy({ $0.state.isFinal || ($0.state == .waiting && !dead.isEmpty) }) else { return }
        let problems = dead.map { "\($0.name.split(separator: "/")[0]): \($0.lastError ?? "failed")" }
        let json = String(decoding: try JSONEncoder().encode(problems), as: UTF8.self)
        try db.execute(sql: "UPDATE recording SET state = ?, problems = ? WHERE id = ? AND state = 'processing'",
                       arguments: [dead.isEmpty ? "ready" : "failed", json, String(group.split(separator: "#")[0])])
    }
}
