import GRDB
import Media

/// The queue in a SQLite database. Every function runs in the caller's transaction, so that enqueueing and completing are one with what
/// else the caller changes; time is given, never read.
public enum JobStore {
    public static let leaseDuration = Nanoseconds.seconds(30)
    /// Most jobs of one group.
    public static let groupMax = 1_000

    /// Creates the tables: part of the caller's migration.
    public static func createTables(_ db: Database) throws {
        try db.execute(sql: """
            CREATE TABLE job (
              id TEXT NOT NULL PRIMARY KEY,
              job_group TEXT NOT NULL,
              kind TEXT NOT NULL,
              name TEXT NOT NULL,
              payload TEXT NOT NULL,
              state TEXT NOT NULL CHECK (state IN ('waiting','available','running','succeeded','dead','cancelled')),
              priority INTEGER NOT NULL,
              pending_dependencies INTEGER NOT NULL CHECK (pending_dependencies >= 0),
              run_after INTEGER NOT NULL,
              lease_token INTEGER NOT NULL CHECK (lease_token >= 0),
              lease_expires INTEGER,
              progress REAL NOT NULL CHECK (progress BETWEEN 0 AND 1),
              errors INTEGER NOT NULL, crashes INTEGER NOT NULL, releases INTEGER NOT NULL,
              last_error TEXT,
              created_at INTEGER NOT NULL,
              finished_at INTEGER,
              UNIQUE (job_group, name),
              CHECK ((state = 'running') = (lease_expires IS NOT NULL)),
              CHECK ((state = 'waiting') = (pending_dependencies > 0) OR state = 'cancelled')
            );
            CREATE INDEX job_claim ON job (priority DESC, run_after) WHERE state = 'available';
            CREATE INDEX job_lease ON job (lease_expires) WHERE state = 'running';
            CREATE TABLE job_dependency (
              job TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
              needs TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
              PRIMARY KEY (job, needs)
            ) WITHOUT ROWID;
            CREATE INDEX job_dependency_needs ON job_dependency (needs);
            """)
    }

    /// Adds the jobs of a group, each after those it depends on.
    public static func enqueue(_ jobs: [NewJob], group: String, now: WallTime, _ db: Database) throws {
        precondition(jobs.count <= groupMax)
        var ids: [String: JobID] = [:]
        for job in jobs {
            let needs = job.dependencies.compactMap { ids[$0] }
            precondition(needs.count == job.dependencies.count, "a job stands before one that it depends on")
            ids[job.name] = job.id
            try Job(id: job.id.rawValue, group: group, kind: job.kind, name: job.name, payload: job.payload, state: needs.isEmpty ? .available : .waiting,
                    priority: job.priority, pendingDependencies: needs.count, runAfter: now.nanoseconds, leaseToken: 0, leaseExpires: nil, progress: 0,
                    errors: 0, crashes: 0, releases: 0, lastError: nil, createdAt: now.nanoseconds, finishedAt: nil).insert(db)
            for need in needs {
                try db.execute(sql: "INSERT INTO job_dependency (job, needs) VALUES (?, ?)", arguments: [job.id.rawValue, need.rawValue])
            }
        }
    }

    /// Takes the next job of a known kind; jobs of unknown kinds are left alone.
    public static func claim(kinds: [String], now: WallTime, _ db: Database) throws -> (job: Job, lease: Lease)? {
        let marks = databaseQuestionMarks(count: kinds.count)
        let row = try Job.fetchOne(db, sql: """
            UPDATE job SET state = 'running', lease_token = lease_token + 1, lease_expires = ?, progress = 0
            WHERE id = (SELECT id FROM job WHERE state = 'available' AND run_after <= ? AND kind IN (\(marks)) ORDER BY priority DESC, run_after, created_at, id LIMIT 1)
            RETURNING *
            """, arguments: StatementArguments([(now + leaseDuration).nanoseconds, now.nanoseconds]) + StatementArguments(kinds))
        guard let row, let id = JobID(rawValue: row.id) else { return nil }
        return (row, Lease(job: id, token: row.leaseToken))
    }

    /// Prolongs a lease and tells the progress; false where the lease is lost and the worker must stop.
    public static func heartbeat(_ lease: Lease, progress: Double, now: WallTime, _ db: Database) throws -> Bool {
        try fenced("lease_expires = ?, progress = MAX(progress, ?)", [(now + leaseDuration).nanoseconds, progress], lease, db)
    }

    /// Marks a job done and frees those that waited for it; false where the lease is lost: then the caller rolls back what it brought.
    public static func complete(_ lease: Lease, now: WallTime, _ db: Database) throws -> Bool {
        guard try fenced("state = 'succeeded', lease_expires = NULL, progress = 1, finished_at = ?, last_error = NULL", [now.nanoseconds], lease, db) else { return false }
        try db.execute(sql: """
            UPDATE job SET pending_dependencies = pending_dependencies - 1,
              state = CASE WHEN pending_dependencies = 1 THEN 'available' ELSE state END, run_after = ?
            WHERE state = 'waiting' AND id IN (SELECT job FROM job_dependency WHERE needs = ?)
            """, arguments: [now.nanoseconds, lease.job.rawValue])
        return true
    }

    public enum Failure: Sendable {
        /// The stage said what is wrong.
        case error
        /// The stage's process died.
        case crash
        /// Trying again cannot help.
        case permanent
    }

    /// Records a failure: tried again later, or dead with the reason. `jitter` is a random number in 0..<1.
    public static func fail(_ lease: Lease, _ failure: Failure, reason: String, policy: RetryPolicy, jitter: Double, now: WallTime, _ db: Database) throws -> Bool {
        guard let job = try Job.fetchOne(db, sql: "SELECT * FROM job WHERE id = ? AND lease_token = ? AND state = 'running'",
                                         arguments: [lease.job.rawValue, lease.token]) else { return false }
        let (errors, crashes) = (job.errors + (failure == .crash ? 0 : 1), job.crashes + (failure == .crash ? 1 : 0))
        let isDead = failure == .permanent || errors >= policy.errorsMax || crashes >= policy.crashesMax
        let delay = policy.delay(afterErrors: errors + crashes, jitter: jitter)
        return try fenced("state = ?, lease_expires = NULL, errors = ?, crashes = ?, last_error = ?, run_after = ?, finished_at = ?",
                          [isDead ? "dead" : "available", errors, crashes, String(reason.prefix(1_000)), (now + delay).nanoseconds,
                           isDead ? now.nanoseconds : nil], lease, db)
    }

    /// Gives a job back unharmed: a shutdown.
    public static func release(_ lease: Lease, now: WallTime, _ db: Database) throws -> Bool {
        try fenced("state = 'available', lease_expires = NULL, releases = releases + 1, run_after = ?", [now.nanoseconds], lease, db)
    }

    /// Frees what was running under leases that ran out; at boot of a single server, everything that was running.
    @discardableResult
    public static func rescue(all: Bool, policy: RetryPolicy, now: WallTime, _ db: Database) throws -> Int {
        let expired = try Job.fetchAll(db, sql: "SELECT * FROM job WHERE state = 'running' AND (? OR lease_expires <= ?)", arguments: [all, now.nanoseconds])
        for job in expired {
            guard let id = JobID(rawValue: job.id) else { continue }
            let lease = Lease(job: id, token: job.leaseToken)
            if all {
                _ = try release(lease, now: now, db)
            } else {
                _ = try fail(lease, .crash, reason: "its worker was not heard of any more", policy: policy, jitter: 0, now: now, db)
            }
        }
        return expired.count
    }

    /// Ends all jobs of a group that are not done; running children see it at their next heartbeat.
    public static func cancel(group: String, now: WallTime, _ db: Database) throws {
        try db.execute(sql: """
            UPDATE job SET state = 'cancelled', lease_expires = NULL, finished_at = ? WHERE job_group = ? AND state IN ('waiting','available','running','dead')
            """, arguments: [now.nanoseconds, group])
    }

    /// Makes a dead job available again; false where it is not dead.
    public static func retry(_ id: JobID, now: WallTime, _ db: Database) throws -> Bool {
        try db.execute(sql: "UPDATE job SET state = 'available', errors = 0, crashes = 0, run_after = ?, finished_at = NULL WHERE id = ? AND state = 'dead'",
                       arguments: [now.nanoseconds, id.rawValue])
        return db.changesCount == 1
    }

    public static func jobs(group: String, _ db: Database) throws -> [Job] {
        try Job.fetchAll(db, sql: "SELECT * FROM job WHERE job_group = ? ORDER BY created_at, rowid", arguments: [group])
    }

    public static func counts(_ db: Database) throws -> [String: Int] {
        let rows = try Row.fetchAll(db, sql: "SELECT state, COUNT(*) AS count FROM job GROUP BY state")
        return Dictionary(uniqueKeysWithValues: rows.map { ($0["state"], $0["count"]) })
    }

    /// The one form of every write about a running job.
    private static func fenced(_ assignment: String, _ values: [(any DatabaseValueConvertible)?], _ lease: Lease, _ db: Database) throws -> Bool {
        try db.execute(sql: "UPDATE job SET \(assignment) WHERE id = ? AND lease_token = ? AND state = 'running'",
                       arguments: StatementArguments(values) + [lease.job.rawValue, lease.token])
        return db.changesCount == 1
    }
}
