import CLinux
import Foundation
import Glibc
import GRDB
import JobQueue
import Media
import Synchronization

/// The queue: claiming and completing durably, picking up when idle, and resting. Each figure stands beside its limit.
struct JobBench {
    let folder: URL
    private static let jobs = 12_000
    private static let pickUps = 300
    private static let restSeconds = 20.0

    func run() async throws {
        let store = try open()
        try await throughput(store)
        try await pickUp(store)
        try await rest(store)
    }

    /// WAL and FULL, like the catalog.
    private func open() throws -> SQLiteJobStore {
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        let pool = try DatabasePool(path: folder.path + "/jobs.sqlite", configuration: configuration)
        try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
        try pool.write { db in if try !db.tableExists("worker") { try SQLiteJobStore.createTables(db) } }
        let store = SQLiteJobStore(pool, changes: try JobChanges(folder: folder.appending(path: "jobs")))
        try store.assertDurable()
        return store
    }

    private static func clock() -> WallTime { WallTime(seconds: Date().timeIntervalSince1970) }

    private static func enqueue(_ count: Int, _ store: SQLiteJobStore) async throws {
        let jobs = (0..<count).map { NewJob(id: .random(), kind: NoWork.kind, name: "\($0)", payload: "") }
        try await store.write { _ = try store.enqueue(jobs, owner: "bench", now: clock(), in: $0) }
    }

    /// How often the disk really syncs: the ceiling for one commit a job.
    private func syncs() throws -> Double {
        let descriptor = Glibc.open(folder.path + "/sync", O_RDWR | O_CREAT, 0o600)
        defer { close(descriptor) }
        let block = [UInt8](repeating: 7, count: 4_096)
        let start = Measured.now()
        var count = 0
        while Measured.now() - start < 1 {
            guard pwrite(descriptor, block, block.count, count * block.count) == block.count, fdatasync(descriptor) == 0 else { throw BenchFailure(description: "the disk cannot be written") }
            count += 1
        }
        return Double(count) / (Measured.now() - start)
    }

    private func throughput(_ store: SQLiteJobStore) async throws {
        for _ in 0..<Self.jobs / 1_000 { try await Self.enqueue(1_000, store) }
        var options = SupervisorOptions()
        options.slots = [.light: 64, .heavy: 1]
        let start = Measured.now()
        await JobSupervisor(NoWork(), store: store, options: options, clock: Self.clock).run(untilEmpty: true)
        let seconds = Measured.now() - start
        let done = try await store.read { try store.counts(in: $0)[.light]?[.done] ?? 0 }
        guard done == Self.jobs else { throw BenchFailure(description: "\(done) of \(Self.jobs) jobs are done") }
        let rate = Double(done) / seconds
        verdict("claim and complete, WAL, synchronous FULL", String(format: "%.0f jobs/s", rate), "at least 3,000", rate >= 3_000)
        row("  this disk's fdatasync of 4 KiB", String(format: "%.0f a second", try syncs()))
    }

    private func pickUp(_ store: SQLiteJobStore) async throws {
        // Enqueued through a store of its own, as another process does it.
        let other = try open()
        let work = NoWork()
        let supervisor = JobSupervisor(work, store: store, options: SupervisorOptions(), clock: Self.clock)
        var waits: [Double] = []
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await supervisor.run() }
            for round in 1...Self.pickUps {
                try await Task.sleep(for: .milliseconds(20))
                try await Self.enqueue(1, other)
                let committed = Measured.now()
                while work.started.withLock({ $0.count }) < round { try await Task.sleep(for: .microseconds(200)) }
                waits.append(max(0, work.started.withLock { $0[round - 1] } - committed) * 1_000)
            }
            group.cancelAll()
            try await group.waitForAll()
        }
        waits.sort()
        let (half, most) = (waits[waits.count / 2], waits[waits.count * 99 / 100])
        row("pick-up by an idle worker, p50", String(format: "%.1f ms", half))
        verdict("pick-up by an idle worker, p99", String(format: "%.1f ms", most), "at most 50", most <= 50)
    }

    private func rest(_ store: SQLiteJobStore) async throws {
        let supervisor = JobSupervisor(NoWork(), store: store, options: SupervisorOptions(), clock: Self.clock)
        func cpu() -> Double {
            var usage = rusage()
            getrusage(RUSAGE_SELF.rawValue, &usage)
            return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await supervisor.run() }
            try await Task.sleep(for: .seconds(1))
            let before = cpu()
            try await Task.sleep(for: .seconds(Self.restSeconds))
            let share = (cpu() - before) / Self.restSeconds * 100
            verdict("a worker at rest", String(format: "%.2f %% of a core", share), "less than 0.5", share < 0.5)
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    private func verdict(_ name: String, _ figure: String, _ limit: String, _ holds: Bool) { row(name, figure, "\(limit): \(holds ? "holds" : "MISSED")") }
}

/// Jobs that are done at once.
private final class NoWork: JobWork {
    typealias Store = SQLiteJobStore
    static let kind: JobKind = "nothing"
    let kinds: Set<JobKind> = [NoWork.kind]
    let started = Mutex<[Double]>([])

    func perform(_ job: Job, _ run: JobRun) async throws -> JobEnding {
        started.withLock { $0.append(Measured.now()) }
        return .done
    }
    func settle(_ job: Job, in transaction: Database) throws {}
    func note(_ event: JobNote) { if case .storeFailed(let error) = event { print("  the store failed: \(error)") } }
}
