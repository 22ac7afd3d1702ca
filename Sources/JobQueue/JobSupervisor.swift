import Foundation
import Glibc
import Media
import Synchronization

/// Work that a ``JobSupervisor`` has done.
public protocol JobWork: Sendable {
    associatedtype Store: JobStore

    /// What this worker can do; jobs of other kinds are left alone.
    var kinds: Set<JobKind> { get }
    /// Does one job. When the task is cancelled it has to return soon, with its child processes dead.
    func perform(_ job: Job, _ run: JobRun) async throws -> JobEnding
    /// A job ended, or changed hands, in this transaction: what follows from it is written in the same one.
    func settle(_ job: Job, in transaction: Store.Transaction) throws
    /// For the log: nothing of a job but its id, kind and the reason.
    func note(_ event: JobNote)
}

/// What a supervisor has to say.
public enum JobNote: Sendable {
    case failed(Job, JobFailure, reason: String)
    case leaseLost(Job)
    case rescued(Job, reason: String)
    case storeFailed(any Error)
}

/// How a supervisor behaves.
public struct SupervisorOptions: Sendable {
    /// Jobs at the same time, by lane.
    public var slots: [Lane: Int] = [.light: 2, .heavy: 1]
    /// What the machine has. Asked at each claim, on a thread that may block.
    public var capacity: @Sendable () -> Demand = { Demand(cpuShares: .max / 2, memoryBytes: .max / 2, diskBytes: .max / 2) }
    /// Workers of the same machine see each other's locks.
    public var machine = "local"
    public var beat = Nanoseconds.seconds(5)
    public var lease = Nanoseconds.seconds(30)
    /// An attempt without progress for so long is stopped.
    public var stall = Nanoseconds.seconds(600)
    /// An attempt that runs for so long is stopped.
    public var wall = Nanoseconds.seconds(24 * 3_600)
    /// At a shutdown: how long attempts may go on to their next boundary.
    public var grace = Nanoseconds.seconds(5)
    public var retries = RetryPolicy()

    public init() {}
}

/// Claims jobs, has them done, and is the only one that writes about its leases' life: one loop, one owner.
///
/// Each turn is at most one look and one transaction, in which everything that ended since the last is written, lost workers are rescued,
/// and free slots are filled: under load many jobs share a commit. Between turns it sleeps until a bell rings (``JobChanges``), an
/// attempt ends, a job's time comes, or a beat is due; at rest it looks once a beat.
public final class JobSupervisor<Work: JobWork>: Sendable {
    private let work: Work
    private let store: Work.Store
    private let clock: @Sendable () -> WallTime
    private let options: SupervisorOptions
    private let bell = Bell()
    private let shared = Mutex(Shared())

    private struct Shared {
        var ended: [Ended] = []
        /// Set at a shutdown: when attempts are stopped that did not come to a boundary.
        var stopAt: Nanoseconds?
    }

    struct Ended: Sendable {
        var run: JobRun
        var ending: JobEnding
    }

    public init(_ work: Work, store: Work.Store, options: SupervisorOptions, clock: @escaping @Sendable () -> WallTime) {
        self.work = work
        self.store = store
        self.options = options
        self.clock = clock
    }

    /// Claims nothing more; what runs may come to a boundary, then it is given back.
    public func drain() { stop(after: options.grace) }

    private func stop(after grace: Nanoseconds) {
        let at = Monotonic.now + grace
        shared.withLock { $0.stopAt = min($0.stopAt ?? at, at) }
        bell.ring()
    }

    /// When the loop ends by itself.
    private enum End {
        case never
        /// Nothing of its kinds is left to do.
        case empty
        /// Nothing can be done now; until then one job at a time.
        case idle
    }

    /// Runs until ``drain()`` or cancellation, which gives everything back at once; `untilEmpty`: until nothing of its kinds is left to do.
    public func run(untilEmpty: Bool = false) async { await run(untilEmpty ? .empty : .never) }

    /// Runs what is due now, one job after the other; what is postponed, or failed and waits to be tried again, stays.
    package func runDue() async { await run(.idle) }

    private func run(_ end: End) async {
        await withTaskCancellationHandler {
            // What runs is given back in writes that a cancelled task could not make: the loop runs in one that is not.
            await Task.detached { [self] in await loop(end) }.value
        } onCancel: {
            stop(after: .zero)
        }
    }

    /// The loop's own state.
    private struct Hands: Sendable {
        var id = WorkerID.random()
        var seat: LockedFile?
        var isRegistered = false
        var running: [JobID: JobRun] = [:]
        var admission: Admission
        var watch: LeaseWatch
        var unwritten: [Ended] = []
        /// Tried each for itself, until it is written.
        var troubled: [Ended] = []
        var beatAt = Nanoseconds.zero
        var sampledAt = Nanoseconds.zero
        var nextRunAfter: WallTime?
        var unfinished = 1
        /// What the last turn wrote may have ended everything, which it looked for before it wrote.
        var looksAgain = false
    }

    private func loop(_ end: End) async {
        store.changes.subscribe(bell)
        defer { store.changes.unsubscribe(bell) }
        var hands = Hands(admission: Admission(capacity: options.capacity()), watch: LeaseWatch(lease: options.lease, gapMax: options.beat + options.beat))
        await withDiscardingTaskGroup { group in
            while true {
                let isStopping = prepareToStop(hands)
                var failed = false
                do {
                    for job in try await turn(&hands, isStopping: isStopping, end) {
                        let run = JobRun(job, now: Monotonic.now)
                        hands.running[job.id] = run
                        group.addTask { await self.attempt(run) }
                    }
                } catch {
                    work.note(.storeFailed(error))
                    failed = true
                }
                let isIdle = hands.running.isEmpty && hands.unwritten.isEmpty && (isStopping || hands.troubled.isEmpty) && shared.withLock { $0.ended.isEmpty }
                if isIdle, isStopping || end == .idle || end == .empty && hands.unfinished == 0 { break }
                if isIdle, end == .empty, hands.looksAgain { continue }
                await bell.wait(atMost: pause(hands, failed))
            }
        }
        await leave(hands)
    }

    /// How long to sleep if nothing happens.
    private func pause(_ hands: Hands, _ failed: Bool) -> Duration {
        if failed { return .seconds(1) }
        var longest = hands.running.isEmpty && hands.troubled.isEmpty ? options.beat.seconds : min(1, options.beat.seconds / 2)
        if let next = hands.nextRunAfter { longest = min(longest, max((next - clock()).seconds, 0.001)) }
        if let stopAt = shared.withLock({ $0.stopAt }) { longest = min(longest, max((stopAt - Monotonic.now).seconds, 0.01)) }
        return .nanoseconds(Int64(longest * 1e9))
    }

    private func prepareToStop(_ hands: Hands) -> Bool {
        guard let stopAt = shared.withLock({ $0.stopAt }) else { return false }
        for run in hands.running.values { if Monotonic.now >= stopAt { run.stop(.shutdown) } else { run.ask() } }
        return true
    }

    /// One attempt, from its claim to what is to be written about it.
    private func attempt(_ run: JobRun) async {
        let ending = await withTaskGroup(of: JobEnding?.self) { group in
            group.addTask { [work] in
                do { return try await work.perform(run.job, run) } catch { return .failed(.error, reason: "\(error)") }
            }
            group.addTask {
                await run.waitForStop()
                return nil
            }
            var ending: JobEnding?
            // The first to come stops the other; the work's answer is waited for in any case.
            while let next = await group.next() {
                ending = ending ?? next
                group.cancelAll()
            }
            return ending ?? .lost
        }
        let stopped = run.with { $0.stop }
        shared.withLock { $0.ended.append(Ended(run: run, ending: Self.judged(ending, stopped))) }
        bell.ring()
    }

    /// What was stopped from outside did not fail by itself; what was written nevertheless was fenced.
    private static func judged(_ ending: JobEnding, _ stop: JobRun.Stop?) -> JobEnding {
        switch (ending, stop) {
        case (.written, _), (.done, _), (_, nil): ending
        case (_, .leaseLost): .lost
        case (_, .limit(let reason)): .failed(.crash, reason: reason)
        case (_, .shutdown): .released(until: nil)
        }
    }

    // One turn.

    private struct Look: Sendable {
        var held: Set<Lease> = []
        var workers: [Worker] = []
        var hasCandidates = false
        var nextRunAfter: WallTime?
        var unfinished = 0
        var dead: [WorkerID] = []
    }

    private func turn(_ hands: inout Hands, isStopping: Bool, _ end: End) async throws -> [Job] {
        takeEnded(&hands)
        if !hands.troubled.isEmpty { hands.troubled = await apart(hands.troubled) }
        let now = Monotonic.now
        stopStalled(hands, now)
        let request = ClaimRequest(worker: hands.id, kinds: work.kinds, lanes: isStopping || end == .idle && !hands.running.isEmpty ? [] : freeLanes(hands))
        hands.looksAgain = !hands.unwritten.isEmpty
        let look = try await look(hands, request, isUnfinishedAsked: end == .empty)
        (hands.nextRunAfter, hands.unfinished) = (look.nextRunAfter, look.unfinished)
        for run in hands.running.values where !look.held.contains(run.lease) { run.stop(.leaseLost) }
        let beats = Dictionary(uniqueKeysWithValues: look.workers.filter { $0.runningJobs > 0 && $0.id != hands.id }.map { ($0.id, $0.beat) })
        var lost: [(WorkerID, String)] = look.dead.map { ($0, "its worker died") }
        for silent in hands.watch.observe(beats, now: now) where !look.dead.contains(silent) { lost.append((silent, "its worker was not heard of any more")) }
        let isBeatDue = !hands.running.isEmpty && now - hands.beatAt >= options.beat
        let reports = now - hands.sampledAt >= .seconds(1) ? self.reports(hands) : []
        if !reports.isEmpty || hands.running.isEmpty { hands.sampledAt = now }
        guard look.hasCandidates || !lost.isEmpty || isBeatDue || !reports.isEmpty || !hands.unwritten.isEmpty else { return [] }
        return try await write(&hands, Writing(request: look.hasCandidates || !hands.unwritten.isEmpty ? request : nil, isOne: end == .idle, lost: lost, reports: reports))
    }

    private func takeEnded(_ hands: inout Hands) {
        for ended in shared.withLock({ shared in
            defer { shared.ended = [] }
            return shared.ended
        }) {
            hands.running[ended.run.job.id] = nil
            hands.admission.remove(ended.run.job.id)
            switch ended.ending {
            case .written, .done, .failed, .released: hands.unwritten.append(ended)
            case .lost: work.note(.leaseLost(ended.run.job))
            }
            if case .failed(let failure, let reason) = ended.ending { work.note(.failed(ended.run.job, failure, reason: reason)) }
        }
    }

    private func stopStalled(_ hands: Hands, _ now: Nanoseconds) {
        for run in hands.running.values {
            if now - run.with({ $0.progressAt }) >= options.stall {
                run.stop(.limit("it made no progress for \(Int(options.stall.seconds)) s and was stopped"))
                continue
            }
            let wall = min(options.wall, run.with { $0.wall } ?? options.wall)
            if now - run.startedAt >= wall { run.stop(.limit("it ran for \(Int(wall.seconds)) s and was stopped")) }
        }
    }

    private func freeLanes(_ hands: Hands) -> Set<Lane> { Set(slots(hands).filter { $0.value > 0 }.keys) }

    private func slots(_ hands: Hands) -> [Lane: Int] {
        var free = options.slots
        for run in hands.running.values { free[run.job.lane]? -= 1 }
        return free
    }

    /// Runs whose progress is worth telling.
    private func reports(_ hands: Hands) -> [(lease: Lease, progress: Double)] {
        hands.running.values.compactMap { run in
            run.with { state in
                guard state.progress - state.reported >= 0.005 else { return nil }
                state.reported = state.progress
                return (run.lease, state.progress)
            }
        }
    }

    private func look(_ hands: Hands, _ request: ClaimRequest, isUnfinishedAsked: Bool) async throws -> Look {
        let (store, now, own, runs, kinds, machine) = (store, clock(), hands.id, Array(hands.running.values), work.kinds, options.machine)
        return try await store.read { transaction in
            var look = Look()
            look.held = try store.held(runs.map(\.lease), in: transaction)
            look.workers = try store.workers(in: transaction)
            look.hasCandidates = try !request.lanes.isEmpty && store.hasCandidates(request, now: now, in: transaction)
            look.nextRunAfter = try store.nextRunAfter(now: now, in: transaction)
            if isUnfinishedAsked { look.unfinished = try store.unfinished(kinds: kinds, in: transaction) }
            look.dead = look.workers.filter { worker in
                worker.id != own && worker.machine == machine && store.changes.seat(of: worker.id).map { LockedFile.isFree($0.path) } ?? false
            }.map(\.id)
            for run in runs { run.sample() }
            return look
        }
    }

    // One transaction.

    private struct Writing: Sendable {
        /// Nil: nothing is claimed.
        var request: ClaimRequest?
        /// Only the first that could be claimed is.
        var isOne: Bool
        var lost: [(WorkerID, String)]
        var reports: [(lease: Lease, progress: Double)]
    }

    private struct Written: Sendable {
        var isAlive = true
        var claimed: [Job] = []
        var rescued: [(Job, String)] = []
        var admission: Admission
        var seat: LockedFile?
    }

    private func write(_ hands: inout Hands, _ writing: Writing) async throws -> [Job] {
        let (ended, admission, slots) = (hands.unwritten, hands.admission, slots(hands))
        let (id, seat, isRegistered) = (hands.id, hands.seat, hands.isRegistered)
        let written: Written
        do {
            written = try await store.write { [self] transaction in
                var written = Written(admission: admission, seat: seat)
                try takeSeat(&written, id, isRegistered, transaction)
                guard written.isAlive else { return written }
                for one in ended { try enter(one, transaction) }
                for (worker, reason) in writing.lost { written.rescued += try rescue(worker, reason, transaction) }
                for (lease, progress) in writing.reports { _ = try store.report(lease, progress: progress, in: transaction) }
                if let request = writing.request {
                    written.admission.capacity = options.capacity()
                    written.claimed = try store.claim(request, now: clock(), in: transaction) { written.admission.choose(from: writing.isOne ? Array($0.prefix(1)) : $0, slots: slots) }
                }
                return written
            }
        } catch {
            // If only one of them cannot be written, the others are.
            hands.troubled += await apart(ended)
            hands.unwritten = []
            throw error
        }
        hands.unwritten = []
        guard written.isAlive else {
            // We overslept our lease and were given up: nothing is ours any more. A new boot, with nothing in its hands.
            for run in hands.running.values { run.stop(.leaseLost) }
            (hands.id, hands.seat, hands.isRegistered) = (.random(), nil, false)
            bell.ring()
            return []
        }
        (hands.admission, hands.seat, hands.isRegistered, hands.beatAt) = (written.admission, written.seat, true, Monotonic.now)
        for (job, reason) in written.rescued { work.note(.rescued(job, reason: reason)) }
        return written.claimed
    }

    /// The lock first, then the row: who finds the row and no lock may conclude that we are dead.
    private func takeSeat(_ written: inout Written, _ id: WorkerID, _ isRegistered: Bool, _ transaction: Work.Store.Transaction) throws {
        if isRegistered {
            written.isAlive = try store.beat(id, in: transaction)
            return
        }
        if written.seat == nil, let place = store.changes.seat(of: id) { written.seat = try LockedFile(place.path) }
        try store.register(Worker(id: id, machine: options.machine), now: clock(), in: transaction)
    }

    private func enter(_ one: Ended, _ transaction: Work.Store.Transaction) throws {
        let (lease, now, job) = (one.run.lease, clock(), one.run.job)
        let isApplied = switch one.ending {
        case .done: try store.complete(lease, now: now, in: transaction)
        case .failed(let failure, let reason): try store.fail(lease, failure, reason: reason, policy: options.retries, jitter: .random(in: 0..<1), now: now, in: transaction)
        case .released(let date): try store.release(lease, until: date, now: now, in: transaction)
        case .written: true
        case .lost: false
        }
        guard isApplied else { return }
        let peak = one.run.with { $0.peak }
        if one.ending == .done || one.ending == .written, peak.memoryBytes > 0 {
            try store.measure(job.kind, peak, seconds: (Monotonic.now - one.run.startedAt).seconds, in: transaction)
        }
        if one.ending != .written { try work.settle(job, in: transaction) }
    }

    /// What could still not be written.
    private func apart(_ ended: [Ended]) async -> [Ended] {
        var rest: [Ended] = []
        for one in ended {
            do {
                try await store.write { [self] in try enter(one, $0) }
            } catch {
                work.note(.storeFailed(error))
                rest.append(one)
            }
        }
        return rest
    }

    private func rescue(_ worker: WorkerID, _ reason: String, _ transaction: Work.Store.Transaction) throws -> [(Job, String)] {
        let jobs = try store.rescue(worker, reason: reason, policy: options.retries, jitter: .random(in: 0..<1), now: clock(), in: transaction)
        for job in jobs { try work.settle(job, in: transaction) }
        if let seat = store.changes.seat(of: worker), LockedFile.isFree(seat.path) { unlink(seat.path) }
        return jobs.map { ($0, reason) }
    }

    private func leave(_ hands: Hands) async {
        guard hands.isRegistered else { return }
        let (store, id, now) = (store, hands.id, clock())
        do {
            try await store.write { try store.disown(id, now: now, in: $0) }
        } catch {
            // The next one finds our lock free.
            work.note(.storeFailed(error))
        }
    }
}
