import Foundation
import GRDB
import JobQueue
import Media

/// What the contract suite and the model ask of a store, each in a transaction of its own.
public protocol QueueUnderTest: Sendable {
    func register(_ worker: WorkerID, at now: WallTime) async throws
    func enqueue(_ jobs: [NewJob], owner: String, at now: WallTime) async throws
    func claim(_ kinds: Set<JobKind>, by worker: WorkerID, most: Int, at now: WallTime) async throws -> [Job]
    func beat(_ worker: WorkerID) async throws -> Bool
    func rescue(_ worker: WorkerID, at now: WallTime) async throws -> [Job]
    func disown(_ worker: WorkerID, at now: WallTime) async throws
    func report(_ lease: Lease, _ progress: Double) async throws -> Bool
    func checkpoint(_ lease: Lease) async throws -> Bool
    /// `breaks`: the caller's own part of the transaction fails after it.
    func complete(_ lease: Lease, breaks: Bool, at now: WallTime) async throws -> Bool
    func fail(_ lease: Lease, _ failure: JobFailure, jitter: Double, at now: WallTime) async throws -> Bool
    func release(_ lease: Lease, until: WallTime?, at now: WallTime) async throws -> Bool
    func held(_ leases: [Lease]) async throws -> Set<Lease>
    func cancel(_ id: JobID, at now: WallTime) async throws -> [JobID]
    func cancel(owner: String, at now: WallTime) async throws
    func retry(_ id: JobID, at now: WallTime) async throws -> Bool
    func interrupt(owner: String, at now: WallTime) async throws
    func hasten(owner: String, at now: WallTime) async throws
    func setPaused(_ isPaused: Bool, _ scope: PauseScope) async throws
    func prune(done: WallTime, dead: WallTime) async throws -> Int
    func measure(_ kind: JobKind, _ demand: Demand) async throws
    func candidates(by worker: WorkerID, at now: WallTime) async throws -> [Admission.Candidate]
    func job(_ id: JobID) async throws -> Job?
    func all() async throws -> [Job]
    func currentJobs(owner: String) async throws -> [Job]
    func workers() async throws -> [Worker]
    func waiting(at now: WallTime) async throws -> [Lane: (count: Int, oldest: WallTime)]
}

public struct Broken: Error, Equatable { public init() {} }

/// The rules by which stores are tested.
let queuePolicy: RetryPolicy = {
    var policy = RetryPolicy()
    policy.lossesMax = 5
    return policy
}()

/// Any store as the suite asks it. Delays are those of the standard policy; deaths of workers come to their limit sooner, so that histories reach it.
public struct StoreUnderTest<Store: JobStore>: QueueUnderTest {
    public let store: Store
    private let policy = queuePolicy

    public init(_ store: Store) { self.store = store }

    private func write<Value: Sendable>(_ body: @escaping @Sendable (Store, Store.Transaction) throws -> Value) async throws -> Value { try await store.write { [store] in try body(store, $0) } }
    private func read<Value: Sendable>(_ body: @escaping @Sendable (Store, Store.Transaction) throws -> Value) async throws -> Value { try await store.read { [store] in try body(store, $0) } }

    public func register(_ worker: WorkerID, at now: WallTime) async throws { try await write { try $0.register(Worker(id: worker, machine: "m"), now: now, in: $1) } }
    public func enqueue(_ jobs: [NewJob], owner: String, at now: WallTime) async throws { try await write { _ = try $0.enqueue(jobs, owner: owner, now: now, in: $1) } }
    public func claim(_ kinds: Set<JobKind>, by worker: WorkerID, most: Int, at now: WallTime) async throws -> [Job] {
        try await write { try $0.claim(ClaimRequest(worker: worker, kinds: kinds), now: now, in: $1) { Array($0.map(\.id).prefix(most)) } }
    }
    public func beat(_ worker: WorkerID) async throws -> Bool { try await write { try $0.beat(worker, in: $1) } }
    public func rescue(_ worker: WorkerID, at now: WallTime) async throws -> [Job] {
        try await write { [policy] in try $0.rescue(worker, reason: "its worker died", policy: policy, jitter: 0, now: now, in: $1) }
    }
    public func disown(_ worker: WorkerID, at now: WallTime) async throws { try await write { try $0.disown(worker, now: now, in: $1) } }
    public func report(_ lease: Lease, _ progress: Double) async throws -> Bool { try await write { try $0.report(lease, progress: progress, in: $1) } }
    public func checkpoint(_ lease: Lease) async throws -> Bool { try await write { try $0.checkpoint(lease, in: $1) } }
    public func complete(_ lease: Lease, breaks: Bool, at now: WallTime) async throws -> Bool {
        try await write {
            let isApplied = try $0.complete(lease, now: now, in: $1)
            if breaks { throw Broken() }
            return isApplied
        }
    }
    public func fail(_ lease: Lease, _ failure: JobFailure, jitter: Double, at now: WallTime) async throws -> Bool {
        try await write { [policy] in try $0.fail(lease, failure, reason: "why", policy: policy, jitter: jitter, now: now, in: $1) }
    }
    public func release(_ lease: Lease, until: WallTime?, at now: WallTime) async throws -> Bool { try await write { try $0.release(lease, until: until, now: now, in: $1) } }
    public func held(_ leases: [Lease]) async throws -> Set<Lease> { try await read { try $0.held(leases, in: $1) } }
    public func cancel(_ id: JobID, at now: WallTime) async throws -> [JobID] { try await write { try $0.cancel(id, now: now, in: $1).map(\.id) } }
    public func cancel(owner: String, at now: WallTime) async throws { try await write { try $0.cancel(owner: owner, now: now, in: $1) } }
    public func retry(_ id: JobID, at now: WallTime) async throws -> Bool { try await write { try $0.retry(id, now: now, in: $1) } }
    public func interrupt(owner: String, at now: WallTime) async throws { try await write { try $0.interrupt(owner: owner, now: now, in: $1) } }
    public func hasten(owner: String, at now: WallTime) async throws { try await write { try $0.hasten(owner: owner, now: now, in: $1) } }
    public func setPaused(_ isPaused: Bool, _ scope: PauseScope) async throws { try await write { try $0.setPaused(isPaused, scope, in: $1) } }
    public func prune(done: WallTime, dead: WallTime) async throws -> Int { try await write { try $0.prune(done: done, dead: dead, in: $1) } }
    public func measure(_ kind: JobKind, _ demand: Demand) async throws { try await write { try $0.measure(kind, demand, seconds: 1, in: $1) } }
    public func candidates(by worker: WorkerID, at now: WallTime) async throws -> [Admission.Candidate] {
        try await write { store, transaction in
            var found: [Admission.Candidate] = []
            _ = try store.claim(ClaimRequest(worker: worker, kinds: ["stage"]), now: now, in: transaction) {
                found = $0
                return []
            }
            return found
        }
    }
    public func job(_ id: JobID) async throws -> Job? { try await read { try $0.job(id, in: $1) } }
    public func all() async throws -> [Job] { try await read { try $0.list(states: Set(JobState.allCases), limit: 100_000, in: $1) } }
    public func currentJobs(owner: String) async throws -> [Job] { try await read { try $0.currentJobs(owner: owner, in: $1) } }
    public func waiting(at now: WallTime) async throws -> [Lane: (count: Int, oldest: WallTime)] { try await read { try $0.waiting(now: now, in: $1) } }
    public func workers() async throws -> [Worker] { try await read { try $0.workers(in: $1) } }
}

/// The stores that there are: each runs the whole suite.
public enum StoreKind: String, CaseIterable, Sendable {
    case sqliteInMemory, sqliteInFile

    /// A new, empty queue; `folder` has to outlive it.
    public func make(_ folder: TemporaryFolder) throws -> any QueueUnderTest {
        switch self {
        case .sqliteInMemory:
            let database = try DatabaseQueue()
            try database.write { try SQLiteJobStore.createTables($0) }
            return StoreUnderTest(SQLiteJobStore(database, changes: JobChanges()))
        case .sqliteInFile: return StoreUnderTest(try JobDatabase.open(folder.path + "/jobs.sqlite"))
        }
    }
}

/// A job database in a file, as durable as the catalog.
public enum JobDatabase {
    /// `busy`: seconds for which a lock of somebody else is waited for.
    public static func open(_ path: String, busy: Double = 10) throws -> SQLiteJobStore {
        var configuration = Configuration()
        configuration.busyMode = .timeout(busy)
        let pool = try DatabasePool(path: path, configuration: configuration)
        try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
        try pool.write { db in if try !db.tableExists("worker") { try SQLiteJobStore.createTables(db) } }
        let store = SQLiteJobStore(pool, changes: try JobChanges(folder: .init(filePath: path).deletingLastPathComponent().appending(path: "jobs")))
        try store.assertDurable()
        return store
    }
}
