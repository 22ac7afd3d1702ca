import GRDB
import JobQueue
import Media
import TestSupport
import Testing

/// The rules of the transition table, without a database.
private struct ReferenceQueue {
    struct Entry: Hashable {
        var state: Job.State
        var needs: Set<String>
        var priority: Int
        var runAfter: Int64
        var createdAt: Int64
        var token: Int64 = 0
        var leaseExpires: Int64?
        var errors = 0, crashes = 0, releases = 0
    }

    var entries: [String: Entry] = [:]

    func next(_ now: WallTime) -> String? {
        entries.filter { $0.value.state == .available && $0.value.runAfter <= now.nanoseconds }.min {
            (-$0.value.priority, $0.value.runAfter, $0.value.createdAt, $0.key) < (-$1.value.priority, $1.value.runAfter, $1.value.createdAt, $1.key)
        }?.key
    }

    func holds(_ lease: Lease) -> Bool { entries[lease.job.rawValue].map { $0.state == .running && $0.token == lease.token } ?? false }

    mutating func change(_ name: String, _ body: (inout Entry) -> Void) { body(&entries[name]!) }

    mutating func succeed(_ name: String, _ now: WallTime) {
        change(name) { ($0.state, $0.leaseExpires) = (.succeeded, nil) }
        for (waiting, entry) in entries where entry.state == .waiting && entry.needs.contains(name) {
            change(waiting) {
                $0.needs.remove(name)
                $0.runAfter = now.nanoseconds
                if $0.needs.isEmpty { $0.state = .available }
            }
        }
    }

    mutating func fail(_ name: String, _ failure: JobStore.Failure, _ policy: RetryPolicy, jitter: Double, _ now: WallTime) {
        change(name) {
            if case .crash = failure { $0.crashes += 1 } else { $0.errors += 1 }
            var isDead = $0.errors >= policy.errorsMax || $0.crashes >= policy.crashesMax
            if case .permanent = failure { isDead = true }
            $0.state = isDead ? .dead : .available
            $0.leaseExpires = nil
            $0.runAfter = (now + policy.delay(afterErrors: $0.errors + $0.crashes, jitter: jitter)).nanoseconds
        }
    }

    mutating func release(_ name: String, _ now: WallTime) {
        change(name) {
            $0.state = .available
            $0.leaseExpires = nil
            $0.releases += 1
            $0.runAfter = now.nanoseconds
        }
    }
}

@Suite("Job queue against a reference model")
struct JobModelTests {
    private static let policy = RetryPolicy()

    /// 12 x 500 steps over everything that can happen to a job, stale leases included; the whole table is compared as it goes.
    @Test("any history leaves exactly what the transition table says, lost leases change nothing", arguments: 0..<12 as Range<UInt64>)
    func histories(seed: UInt64) throws {
        let database = try DatabaseQueue()
        try database.write { try JobStore.createTables($0) }
        var random = Seeded(seed)
        var model = ReferenceQueue()
        // Every lease ever handed out: most are stale, and a stale one must change nothing.
        var leases: [Lease] = []
        var now = WallTime(seconds: 1_000)
        for step in 0..<500 {
            now = now + Nanoseconds(seconds: Double.random(in: 0...6, using: &random))
            let event = Int.random(in: 0..<14, using: &random)
            switch event {
            case 0, 1: try enqueue(step, now, &random, &model, database)
            case 2, 3, 4, 5:
                let expected = model.next(now)
                let claimed = try database.write { [now] in try JobStore.claim(kinds: ["stage"], now: now, $0) }
                #expect(claimed?.job.id == expected, "seed \(seed), step \(step)")
                guard let lease = claimed?.lease, let expected else { continue }
                model.change(expected) {
                    $0.state = .running
                    $0.token += 1
                    $0.leaseExpires = (now + JobStore.leaseDuration).nanoseconds
                }
                #expect(model.holds(lease))
                leases.append(lease)
            case 6:
                let all = Int.random(in: 0..<6, using: &random) == 0
                try database.write { [now] in _ = try JobStore.rescue(all: all, policy: Self.policy, now: now, $0) }
                for (name, entry) in model.entries where entry.state == .running && (all || entry.leaseExpires! <= now.nanoseconds) {
                    if all { model.release(name, now) } else { model.fail(name, .crash, Self.policy, jitter: 0, now) }
                }
            case 7:
                guard let dead = model.entries.filter({ $0.value.state == .dead }).keys.sorted().first else { continue }
                let revived = try database.write { [now] db in try JobStore.retry(JobID(rawValue: dead)!, now: now, db) }
                #expect(revived)
                model.change(dead) { ($0.state, $0.errors, $0.crashes, $0.runAfter) = (.available, 0, 0, now.nanoseconds) }
            case 8 where step % 3 == 0:
                guard let group = model.entries.keys.sorted().randomElement(using: &random)?.split(separator: "-").first.map(String.init) else { continue }
                try database.write { [now] in try JobStore.cancel(group: group, now: now, $0) }
                for (name, entry) in model.entries where name.hasPrefix(group + "-") && entry.state != .succeeded && entry.state != .cancelled {
                    model.change(name) { ($0.state, $0.leaseExpires) = (.cancelled, nil) }
                }
            default:
                guard let lease = leases.suffix(12).randomElement(using: &random) else { continue }
                try write(event, lease, now, &random, &model, database)
            }
            if step % 25 == 0 { try compare(model, database, "seed \(seed), step \(step)") }
        }
        try compare(model, database, "seed \(seed), end")
        #expect(Set(model.entries.values.map(\.state)).isSuperset(of: [.succeeded, .cancelled]), "the history goes somewhere")
    }

    private func enqueue(_ step: Int, _ now: WallTime, _ random: inout Seeded, _ model: inout ReferenceQueue, _ database: DatabaseQueue) throws {
        var jobs: [NewJob] = []
        for place in 0..<Int.random(in: 1...4, using: &random) {
            let needs = jobs.map(\.name).filter { _ in Bool.random(using: &random) }
            let name = "g\(step)-\(place)"
            jobs.append(NewJob(id: JobID(rawValue: name)!, kind: "stage", name: name, payload: "{}", priority: Int.random(in: 0...2, using: &random), dependencies: needs))
            model.entries[name] = .init(state: needs.isEmpty ? .available : .waiting, needs: Set(needs), priority: jobs[place].priority, runAfter: now.nanoseconds,
                                        createdAt: now.nanoseconds)
        }
        try database.write { [jobs] in try JobStore.enqueue(jobs, group: "g\(step)", now: now, $0) }
    }

    private func write(_ event: Int, _ lease: Lease, _ now: WallTime, _ random: inout Seeded, _ model: inout ReferenceQueue, _ database: DatabaseQueue) throws {
        let (holds, name) = (model.holds(lease), lease.job.rawValue)
        let jitter = Double.random(in: 0..<1, using: &random)
        let failure: JobStore.Failure = [.error, .error, .crash, .permanent].randomElement(using: &random)!
        let policy = Self.policy
        let applied = try database.write { db in
            switch event {
            case 9: try JobStore.heartbeat(lease, progress: jitter, now: now, db)
            case 10: try JobStore.release(lease, now: now, db)
            case 11, 8: try JobStore.fail(lease, failure, reason: "why", policy: policy, jitter: jitter, now: now, db)
            default: try JobStore.complete(lease, now: now, db)
            }
        }
        #expect(applied == holds, "\(name): a lease that is \(holds ? "held" : "lost")")
        guard holds else { return }
        switch event {
        case 9: model.change(name) { $0.leaseExpires = (now + JobStore.leaseDuration).nanoseconds }
        case 10: model.release(name, now)
        case 11, 8: model.fail(name, failure, policy, jitter: jitter, now)
        default: model.succeed(name, now)
        }
    }

    private func compare(_ model: ReferenceQueue, _ database: DatabaseQueue, _ place: String) throws {
        let jobs = try database.read { try Job.fetchAll($0) }
        #expect(jobs.count == model.entries.count)
        for job in jobs {
            let entry = ReferenceQueue.Entry(state: job.state, needs: model.entries[job.id]?.needs ?? [], priority: job.priority, runAfter: job.runAfter, createdAt: job.createdAt,
                                             token: job.leaseToken, leaseExpires: job.leaseExpires, errors: job.errors, crashes: job.crashes, releases: job.releases)
            #expect(model.entries[job.id] == entry, "\(place): \(job.id)")
            #expect(job.state != .waiting || job.pendingDependencies == model.entries[job.id]?.needs.count, "\(place): \(job.id)")
        }
    }

    @Test("two servers on one database never get the same run of a job, and miss none")
    func contention() async throws {
        let folder = try TemporaryFolder()
        func open() throws -> DatabasePool {
            var configuration = Configuration()
            configuration.busyMode = .timeout(5)
            return try DatabasePool(path: folder.path + "/jobs.sqlite", configuration: configuration)
        }
        let pools = [try open(), try open()]
        let now = WallTime(seconds: 1)
        let jobs = (0..<200).map { NewJob(id: JobID(rawValue: "j\($0)")!, kind: "stage", name: "j\($0)", payload: "{}") }
        try await pools[0].write { db in
            try JobStore.createTables(db)
            try JobStore.enqueue(jobs, group: "g", now: now, db)
        }
        let claimed = try await withThrowingTaskGroup(of: [String].self) { group in
            for pool in pools {
                group.addTask {
                    var mine: [String] = []
                    while let lease = try await pool.write({ try JobStore.claim(kinds: ["stage"], now: now, $0)?.lease }) { mine.append(lease.job.rawValue) }
                    return mine
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(claimed.sorted() == jobs.map(\.id.rawValue).sorted())
    }
}
