import GRDB
import Media

// Workers, and what they write about their attempts.
extension SQLiteJobStore {
    public func register(_ worker: Worker, now: WallTime, in db: Database) throws {
        try db.execute(sql: "INSERT INTO worker (boot_id, machine, beat, started_at) VALUES (?, ?, 0, ?)", arguments: [worker.id.rawValue, worker.machine, now.nanoseconds])
        // A worker that was there before may be one whose jobs are to be rescued.
        noteChange(db)
    }

    public func beat(_ worker: WorkerID, in db: Database) throws -> Bool {
        try db.cachedStatement(sql: "UPDATE worker SET beat = beat + 1 WHERE boot_id = ?").execute(arguments: [worker.rawValue])
        return db.changesCount == 1
    }

    public func workers(in db: Database) throws -> [Worker] {
        try Row.fetchAll(db.cachedStatement(sql: """
            SELECT boot_id, machine, beat, (SELECT COUNT(*) FROM job WHERE worker = boot_id AND state = 'running') AS jobs FROM worker ORDER BY started_at, boot_id
            """)).compactMap { row in
            WorkerID(rawValue: row["boot_id"]).map { Worker(id: $0, machine: row["machine"], beat: row["beat"], runningJobs: row["jobs"]) }
        }
    }

    public func rescue(_ worker: WorkerID, reason: String, policy: RetryPolicy, jitter: Double, now: WallTime, in db: Database) throws -> [Job] {
        let lost = try Job.fetch(db, "SELECT * FROM job WHERE worker = ? AND state = 'running'", [worker.rawValue])
        for job in lost { _ = try decide(job, .workerLost(reason: reason, jitter: jitter), policy: policy, now: now, db) }
        try db.execute(sql: "DELETE FROM worker WHERE boot_id = ?", arguments: [worker.rawValue])
        return lost
    }

    public func disown(_ worker: WorkerID, now: WallTime, in db: Database) throws {
        for job in try Job.fetch(db, "SELECT * FROM job WHERE worker = ? AND state = 'running'", [worker.rawValue]) { _ = try decide(job, .interrupt, now: now, db) }
        try db.execute(sql: "DELETE FROM worker WHERE boot_id = ?", arguments: [worker.rawValue])
    }

    public func claim(_ request: ClaimRequest, now: WallTime, in db: Database, choose: ([Admission.Candidate]) -> [JobID]) throws -> [Job] {
        let measured = try measured(in: db)
        let (lanes, kinds) = try open(request, db)
        var candidates: [Admission.Candidate] = []
        for lane in lanes {
            let found = try Row.fetchCursor(db.cachedStatement(sql: """
                SELECT id, kind, runs_alone, cpu_shares, memory_bytes, disk_bytes FROM job INDEXED BY job_claim
                WHERE state = 'available' AND lane = ? AND run_after <= ? AND kind IN (\(databaseQuestionMarks(count: kinds.count)))
                ORDER BY priority DESC, run_after, created_at, id LIMIT \(ClaimRequest.candidatesMax)
                """), arguments: [lane.rawValue, now.nanoseconds] + StatementArguments(kinds))
            while let row = try found.next() {
                guard let id = JobID(rawValue: row[0]) else { continue }
                var demand = Demand(cpuShares: row[3], memoryBytes: row[4], diskBytes: row[5])
                if let known = measured[JobKind(rawValue: row[1])]?.demand {
                    if demand.cpuShares == 0 { demand.cpuShares = known.cpuShares }
                    if demand.memoryBytes == 0 { demand.memoryBytes = known.memoryBytes }
                    if demand.diskBytes == 0 { demand.diskBytes = known.diskBytes }
                }
                candidates.append(.init(id: id, lane: lane, demand: demand, runsAlone: row[2]))
            }
        }
        guard !candidates.isEmpty else { return [] }
        let chosen = choose(candidates)
        guard !chosen.isEmpty else { return [] }
        guard try beat(request.worker, in: db) else { return [] }
        // ``JobStanding``'s `claim`, in the one statement that no other worker can come between.
        let take = try db.cachedStatement(sql: """
            UPDATE job SET state = 'running', lease_token = lease_token + 1, worker = ?, progress = 0, started_at = ? WHERE id = ? AND state = 'available' RETURNING *
            """)
        return try chosen.map { id in
            guard let job = try Job.fetch(take, [request.worker.rawValue, now.nanoseconds, id.rawValue]).first else {
                throw DatabaseError(resultCode: .SQLITE_INTERNAL, message: "a candidate was claimed by somebody else within our transaction")
            }
            return job
        }
    }

    /// What of a request is not paused.
    private func open(_ request: ClaimRequest, _ db: Database) throws -> (lanes: [Lane], kinds: [String]) {
        let paused = try pauses(in: db)
        let kinds = request.kinds.filter { !paused.contains(.kind($0)) }.map(\.rawValue).sorted()
        guard !paused.contains(.all), !kinds.isEmpty else { return ([], []) }
        return (Lane.allCases.filter { request.lanes.contains($0) && !paused.contains(.lane($0)) }, kinds)
    }

    public func hasCandidates(_ request: ClaimRequest, now: WallTime, in db: Database) throws -> Bool {
        let (lanes, kinds) = try open(request, db)
        return try lanes.contains { lane in
            try Int.fetchOne(db.cachedStatement(sql: """
                SELECT 1 FROM job INDEXED BY job_claim WHERE state = 'available' AND lane = ? AND run_after <= ? AND kind IN (\(databaseQuestionMarks(count: kinds.count))) LIMIT 1
                """), arguments: [lane.rawValue, now.nanoseconds] + StatementArguments(kinds)) != nil
        }
    }

    public func report(_ lease: Lease, progress: Double, in db: Database) throws -> Bool {
        try db.cachedStatement(sql: "UPDATE job SET progress = ?1, furthest = MAX(furthest, ?1) WHERE id = ?2 AND lease_token = ?3 AND state = 'running'")
            .execute(arguments: [min(max(progress, 0), 1), lease.job.rawValue, lease.token])
        return db.changesCount == 1
    }

    public func checkpoint(_ lease: Lease, in db: Database) throws -> Bool {
        try held(lease, db).map { try decide($0, .checkpoint(token: lease.token), now: $0.runAfter, db) } ?? false
    }

    public func complete(_ lease: Lease, now: WallTime, in db: Database) throws -> Bool {
        guard let job = try held(lease, db), try decide(job, .complete(token: lease.token), now: now, db) else { return false }
        let waiting = try Job.fetch(db, "SELECT job.* FROM job_dependency JOIN job ON job.id = job_dependency.job WHERE needs = ? AND state = 'blocked'", [lease.job.rawValue])
        for next in waiting { _ = try decide(next, .dependencyDone, now: now, db) }
        return true
    }

    public func fail(_ lease: Lease, _ failure: JobFailure, reason: String, policy: RetryPolicy, jitter: Double, now: WallTime, in db: Database) throws -> Bool {
        guard let job = try held(lease, db) else { return false }
        return try decide(job, .fail(token: lease.token, failure, reason: reason, jitter: jitter), policy: policy, now: now, db)
    }

    public func release(_ lease: Lease, until date: WallTime?, now: WallTime, in db: Database) throws -> Bool {
        guard let job = try held(lease, db) else { return false }
        return try decide(job, .release(token: lease.token), now: date ?? now, db)
    }

    public func held(_ leases: [Lease], in db: Database) throws -> Set<Lease> {
        let look = try db.cachedStatement(sql: "SELECT 1 FROM job WHERE id = ? AND lease_token = ? AND state = 'running'")
        return Set(try leases.filter { try Int.fetchOne(look, arguments: [$0.job.rawValue, $0.token]) != nil })
    }

    private func held(_ lease: Lease, _ db: Database) throws -> Job? {
        try Job.fetch(db, "SELECT * FROM job WHERE id = ? AND lease_token = ? AND state = 'running'", [lease.job.rawValue, lease.token]).first
    }

    /// The one way in which a job changes: what the machine decides is written, if the job is still as it was when it was read.
    func decide(_ job: Job, _ event: JobStanding.Event, policy: RetryPolicy = RetryPolicy(), now: WallTime, _ db: Database) throws -> Bool {
        var after = job.standing
        guard case .applied(let delay) = after.apply(event, policy: policy) else { return false }
        try db.cachedStatement(sql: """
            UPDATE job SET state = ?, pending_dependencies = ?, errors = ?, crashes = ?, losses = ?, releases = ?, runs_alone = ?, reason = ?, run_after = ?,
              worker = CASE WHEN ?1 = 'running' THEN worker END, progress = CASE WHEN ?1 = 'done' THEN 1 ELSE progress END,
              furthest = CASE WHEN ?1 = 'done' THEN 1 ELSE furthest END, finished_at = ?
            WHERE id = ? AND lease_token = ? AND state = ?
            """).execute(arguments: [
                after.state.rawValue, after.pendingDependencies, after.errors, after.crashes, after.losses, after.releases, after.runsAlone, after.reason,
                delay.map { now + $0 }?.nanoseconds ?? job.runAfter.nanoseconds, after.state.isFinal ? now.nanoseconds : nil, job.id.rawValue, job.standing.token, job.state.rawValue,
            ])
        // Cancelled, or to be claimed: somebody has to look.
        if after.state == .available || job.state == .running && after.state == .cancelled { noteChange(db) }
        return db.changesCount == 1
    }
}
