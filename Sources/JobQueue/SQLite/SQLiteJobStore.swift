import GRDB
import Media

/// The queue in a SQLite database (3.35 or later, for RETURNING).
///
/// Writes are `BEGIN IMMEDIATE`: one at a time. The caller's connection is to be durable (WAL, `synchronous` FULL, foreign keys), which
/// ``assertDurable(_:)`` checks at boot.
public final class SQLiteJobStore: JobStore {
    public typealias Transaction = Database

    public let changes: JobChanges
    private let writer: any DatabaseWriter

    public init(_ writer: any DatabaseWriter, changes: JobChanges) {
        self.writer = writer
        self.changes = changes
    }

    public func write<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value { try await writer.write(body) }
    public func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value { try await writer.read(body) }

    public struct NotDurable: Error, CustomStringConvertible { public var description: String }

    /// Throws where a commit could be lost with the power.
    public func assertDurable() throws {
        let (journal, synchronous) = try writer.writeWithoutTransaction { db in
            (try String.fetchOne(db, sql: "PRAGMA journal_mode"), try Int.fetchOne(db, sql: "PRAGMA synchronous"))
        }
        guard journal == "wal", synchronous == 2 else {
            throw NotDurable(description: "the job database is journal_mode \(journal ?? "?"), synchronous \(synchronous ?? -1), not WAL and FULL")
        }
    }

    /// Rings once what is written here is committed.
    func noteChange(_ db: Database) { db.afterNextTransaction { [changes] _ in changes.ring() } }
}

// From outside.
extension SQLiteJobStore {
    /// Most jobs of one run.
    public static let runMax = 1_000

    @discardableResult
    public func enqueue(_ jobs: [NewJob], owner: String, now: WallTime, in db: Database) throws -> Int {
        precondition(jobs.count <= Self.runMax)
        let last = try Int.fetchOne(db.cachedStatement(sql: "SELECT MAX(run) FROM job WHERE owner = ?"), arguments: [owner]) ?? 0
        let insert = try db.cachedStatement(sql: """
            INSERT INTO job (id, owner, run, kind, name, payload, lane, priority, state, pending_dependencies, run_after, created_at, cpu_shares, memory_bytes, disk_bytes, furthest)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """)
        let depend = try db.cachedStatement(sql: "INSERT INTO job_dependency (job, needs) VALUES (?, ?)")
        var ids: [String: JobID] = [:]
        for job in jobs {
            let needs = Set(job.dependencies).compactMap { ids[$0] }
            precondition(needs.count == Set(job.dependencies).count, "a job stands before one that it depends on")
            ids[job.name] = job.id
            let standing = JobStanding(dependencies: needs.count)
            try insert.execute(arguments: [
                job.id.rawValue, owner, last + 1, job.kind.rawValue, job.name, job.payload, job.lane.rawValue, job.priority, standing.state.rawValue, needs.count,
                now.nanoseconds, now.nanoseconds, job.demand.cpuShares, job.demand.memoryBytes, job.demand.diskBytes, min(max(job.furthest, 0), 1),
            ])
            for need in needs { try depend.execute(arguments: [job.id.rawValue, need.rawValue]) }
        }
        noteChange(db)
        return last + 1
    }

    public func cancel(_ id: JobID, now: WallTime, in db: Database) throws -> [Job] {
        // Those that wait for it, and for those in turn.
        let all = try Job.fetch(db, """
            WITH RECURSIVE below (id) AS (SELECT ? UNION SELECT job_dependency.job FROM job_dependency JOIN below ON needs = below.id)
            SELECT job.* FROM job JOIN below ON below.id = job.id ORDER BY job.rowid
            """, [id.rawValue])
        guard let first = all.first(where: { $0.id == id }), try decide(first, .cancel, now: now, db) else { return [] }
        return try [first] + all.filter { try $0.id != id && $0.state == .blocked && decide($0, .cancel, now: now, db) }
    }

    public func cancel(owner: String, now: WallTime, in db: Database) throws {
        for job in try Job.fetch(db, "SELECT * FROM job WHERE owner = ? AND state NOT IN ('done','cancelled')", [owner]) { _ = try decide(job, .cancel, now: now, db) }
    }

    public func retry(_ id: JobID, now: WallTime, in db: Database) throws -> Bool {
        guard let job = try job(id, in: db) else { return false }
        return try decide(job, .retry, now: now, db)
    }

    public func interrupt(owner: String, now: WallTime, in db: Database) throws {
        for job in try Job.fetch(db, "SELECT * FROM job WHERE owner = ? AND state = 'running'", [owner]) { _ = try decide(job, .interrupt, now: now, db) }
    }

    public func hasten(owner: String, now: WallTime, in db: Database) throws {
        try db.execute(sql: "UPDATE job SET run_after = ?1 WHERE owner = ?2 AND state = 'available' AND run_after > ?1", arguments: [now.nanoseconds, owner])
        noteChange(db)
    }

    public func setPaused(_ isPaused: Bool, _ scope: PauseScope, in db: Database) throws {
        if isPaused {
            try db.execute(sql: "INSERT INTO job_pause (scope) VALUES (?) ON CONFLICT DO NOTHING", arguments: [scope.text])
        } else {
            try db.execute(sql: "DELETE FROM job_pause WHERE scope = ?", arguments: [scope.text])
        }
        noteChange(db)
    }

    public func pauses(in db: Database) throws -> Set<PauseScope> {
        // What a later version wrote and this one cannot read stops everything: to go on would be wrong for certain.
        Set(try String.fetchAll(db.cachedStatement(sql: "SELECT scope FROM job_pause")).map { PauseScope($0) ?? .all })
    }

    public func prune(done: WallTime, dead: WallTime, in db: Database) throws -> Int {
        try db.execute(sql: """
            DELETE FROM job WHERE (owner, run) IN (
              SELECT owner, run FROM job GROUP BY owner, run
              HAVING SUM(state IN ('available','running')) = 0 AND MAX(finished_at) IS NOT NULL AND (SUM(state = 'blocked') = 0 OR SUM(state IN ('failed','quarantined')) > 0)
                AND MAX(finished_at) < CASE WHEN SUM(state IN ('failed','quarantined')) > 0 THEN ? ELSE ? END)
            """, arguments: [dead.nanoseconds, done.nanoseconds])
        return db.changesCount
    }
}

// Looking.
extension SQLiteJobStore {
    public func job(_ id: JobID, in db: Database) throws -> Job? { try Job.fetch(db, "SELECT * FROM job WHERE id = ?", [id.rawValue]).first }

    public func jobs(owner: String, run: Int, in db: Database) throws -> [Job] {
        try Job.fetch(db, "SELECT * FROM job WHERE owner = ? AND run = ? ORDER BY rowid", [owner, run])
    }

    public func currentJobs(owner: String, in db: Database) throws -> [Job] {
        try Job.fetch(db, "SELECT * FROM job WHERE owner = ?1 AND run = (SELECT MAX(run) FROM job WHERE owner = ?1) ORDER BY rowid", [owner])
    }

    public func list(states: Set<JobState>, limit: Int, in db: Database) throws -> [Job] {
        let wanted = states.map(\.rawValue).sorted()
        return try Job.fetch(db, "SELECT * FROM job WHERE state IN (\(databaseQuestionMarks(count: wanted.count))) ORDER BY created_at DESC, rowid DESC LIMIT ?",
                             StatementArguments(wanted) + [limit])
    }

    public func counts(in db: Database) throws -> [Lane: [JobState: Int]] {
        var counts: [Lane: [JobState: Int]] = [:]
        for row in try Row.fetchAll(db, sql: "SELECT lane, state, COUNT(*) AS count FROM job GROUP BY lane, state") {
            guard let lane = Lane(rawValue: row["lane"]), let state = JobState(rawValue: row["state"]) else { continue }
            counts[lane, default: [:]][state] = row["count"]
        }
        return counts
    }

    public func waiting(now: WallTime, in db: Database) throws -> [Lane: (count: Int, oldest: WallTime)] {
        var waiting: [Lane: (count: Int, oldest: WallTime)] = [:]
        for row in try Row.fetchAll(db.cachedStatement(sql: "SELECT lane, COUNT(*), MIN(run_after) FROM job WHERE state = 'available' AND run_after <= ? GROUP BY lane"), arguments: [now.nanoseconds]) {
            guard let lane = Lane(rawValue: row[0]) else { continue }
            waiting[lane] = (row[1], WallTime(nanoseconds: row[2]))
        }
        return waiting
    }

    public func unfinished(kinds: Set<JobKind>, in db: Database) throws -> Int {
        try Int.fetchOne(db.cachedStatement(sql: "SELECT COUNT(*) FROM job WHERE state IN ('available','running') AND kind IN (\(databaseQuestionMarks(count: kinds.count)))"),
                         arguments: StatementArguments(kinds.map(\.rawValue).sorted())) ?? 0
    }

    public func nextRunAfter(now: WallTime, in db: Database) throws -> WallTime? {
        try Int64.fetchOne(db.cachedStatement(sql: "SELECT MIN(run_after) FROM job WHERE state = 'available' AND run_after > ?"), arguments: [now.nanoseconds]).map { WallTime(nanoseconds: $0) }
    }

    public func measure(_ kind: JobKind, _ demand: Demand, seconds: Double, in db: Database) throws {
        // The mean of the first eight, then the newest weighs an eighth.
        try db.cachedStatement(sql: """
            INSERT INTO job_kind (kind, samples, cpu_shares, memory_bytes, disk_bytes, seconds) VALUES (?1, 1, ?2, ?3, ?4, ?5)
            ON CONFLICT (kind) DO UPDATE SET samples = samples + 1,
              cpu_shares = cpu_shares + (?2 - cpu_shares) / MIN(samples + 1, 8), memory_bytes = memory_bytes + (?3 - memory_bytes) / MIN(samples + 1, 8),
              disk_bytes = disk_bytes + (?4 - disk_bytes) / MIN(samples + 1, 8), seconds = seconds + (?5 - seconds) / MIN(samples + 1, 8)
            """).execute(arguments: [kind.rawValue, demand.cpuShares, demand.memoryBytes, demand.diskBytes, seconds])
    }

    public func measured(in db: Database) throws -> [JobKind: (demand: Demand, seconds: Double, samples: Int)] {
        var all: [JobKind: (demand: Demand, seconds: Double, samples: Int)] = [:]
        for row in try Row.fetchAll(db.cachedStatement(sql: "SELECT * FROM job_kind")) {
            all[JobKind(rawValue: row["kind"])] = (Demand(cpuShares: row["cpu_shares"], memoryBytes: row["memory_bytes"], diskBytes: row["disk_bytes"]), row["seconds"], row["samples"])
        }
        return all
    }
}
