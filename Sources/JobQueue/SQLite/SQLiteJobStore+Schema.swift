import GRDB
import Media

extension SQLiteJobStore {
    /// The tables of a new database, for those that have no older one.
    public static func createTables(_ db: Database) throws {
        try createFirstTables(db)
        try createWorkers(db)
        try createLosses(db)
        try createFurthest(db)
    }

    /// Migration 010: workers with locks and beats, lanes, demands, pauses, and states by their present names. Runs with foreign keys off.
    public static func createWorkers(_ db: Database) throws { try db.execute(sql: second) }

    /// Migration 015: deaths of workers are no crashes.
    public static func createLosses(_ db: Database) throws { try db.execute(sql: "ALTER TABLE job ADD COLUMN losses INTEGER NOT NULL DEFAULT 0") }

    /// Migration 016: how far a job ever came, whatever its present attempt does.
    public static func createFurthest(_ db: Database) throws {
        try db.execute(sql: "ALTER TABLE job ADD COLUMN furthest REAL NOT NULL DEFAULT 0 CHECK (furthest BETWEEN 0 AND 1)")
        try db.execute(sql: "UPDATE job SET furthest = progress")
    }

    private static let second = """
        CREATE TABLE worker (
          boot_id TEXT NOT NULL PRIMARY KEY,
          machine TEXT NOT NULL,
          beat INTEGER NOT NULL,
          started_at INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE job_kind (
          kind TEXT NOT NULL PRIMARY KEY,
          samples INTEGER NOT NULL CHECK (samples > 0),
          cpu_shares INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, disk_bytes INTEGER NOT NULL,
          seconds REAL NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE job_pause (scope TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE job_new (
          id TEXT NOT NULL PRIMARY KEY,
          owner TEXT NOT NULL,
          run INTEGER NOT NULL CHECK (run > 0),
          kind TEXT NOT NULL,
          name TEXT NOT NULL,
          payload TEXT NOT NULL,
          lane TEXT NOT NULL CHECK (lane IN ('light','heavy')),
          priority INTEGER NOT NULL,
          state TEXT NOT NULL CHECK (state IN ('blocked','available','running','done','failed','quarantined','cancelled')),
          pending_dependencies INTEGER NOT NULL CHECK (pending_dependencies >= 0),
          run_after INTEGER NOT NULL,
          lease_token INTEGER NOT NULL DEFAULT 0 CHECK (lease_token >= 0),
          worker TEXT REFERENCES worker (boot_id),
          progress REAL NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
          errors INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0, releases INTEGER NOT NULL DEFAULT 0,
          runs_alone INTEGER NOT NULL DEFAULT 0 CHECK (runs_alone IN (0, 1)),
          reason TEXT,
          cpu_shares INTEGER NOT NULL DEFAULT 0, memory_bytes INTEGER NOT NULL DEFAULT 0, disk_bytes INTEGER NOT NULL DEFAULT 0,
          created_at INTEGER NOT NULL,
          started_at INTEGER,
          finished_at INTEGER,
          UNIQUE (owner, run, name),
          CHECK ((state = 'running') = (worker IS NOT NULL)),
          CHECK ((state = 'blocked') = (pending_dependencies > 0) OR state = 'cancelled'),
          CHECK (state NOT IN ('failed','quarantined') OR reason IS NOT NULL)
        );
        INSERT INTO job_new (id, owner, run, kind, name, payload, lane, priority, state, pending_dependencies, run_after, lease_token, progress, errors, crashes, releases,
                             reason, created_at, finished_at)
          SELECT id, substr(job_group, 1, instr(job_group, '#') - 1), CAST(substr(job_group, instr(job_group, '#') + 1) AS INTEGER), kind, name, payload,
            CASE WHEN priority > 0 THEN 'light' ELSE 'heavy' END, priority,
            CASE state WHEN 'waiting' THEN 'blocked' WHEN 'succeeded' THEN 'done' WHEN 'running' THEN 'available'
              WHEN 'dead' THEN CASE WHEN crashes >= 3 THEN 'quarantined' ELSE 'failed' END ELSE state END,
            pending_dependencies, run_after, lease_token, progress, errors, crashes, releases,
            CASE WHEN state = 'dead' THEN COALESCE(last_error, 'failed') ELSE last_error END, created_at, finished_at
          FROM job ORDER BY rowid;
        DROP TABLE job;
        ALTER TABLE job_new RENAME TO job;
        CREATE INDEX job_claim ON job (lane, priority DESC, run_after, created_at, id) WHERE state = 'available';
        CREATE INDEX job_running ON job (worker) WHERE state = 'running';
        CREATE INDEX job_list ON job (state, created_at);
        """

    /// The tables as the first version made them: a shipped migration is never edited.
    public static func createFirstTables(_ db: Database) throws {
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
}

extension Job {
    static func fetch(_ db: Database, _ sql: String, _ arguments: StatementArguments) throws -> [Job] { try fetch(db.cachedStatement(sql: sql), arguments) }

    static func fetch(_ statement: Statement, _ arguments: StatementArguments) throws -> [Job] { try Row.fetchAll(statement, arguments: arguments).compactMap(Job.init) }

    /// Nil for what a later version wrote: left alone like an unknown kind.
    private init?(_ row: Row) {
        guard let id = JobID(rawValue: row["id"]), let state = JobState(rawValue: row["state"]), let lane = Lane(rawValue: row["lane"]) else { return nil }
        func time(_ column: String) -> WallTime? { (row[column] as Int64?).map { WallTime(nanoseconds: $0) } }
        self.init(
            id: id, owner: row["owner"], run: row["run"], kind: JobKind(rawValue: row["kind"]), name: row["name"], payload: row["payload"], lane: lane, priority: row["priority"],
            standing: JobStanding(state: state, pendingDependencies: row["pending_dependencies"], token: row["lease_token"], errors: row["errors"], crashes: row["crashes"],
                                  losses: row["losses"], releases: row["releases"], runsAlone: row["runs_alone"], reason: row["reason"]),
            runAfter: WallTime(nanoseconds: row["run_after"]), worker: (row["worker"] as String?).flatMap { WorkerID(rawValue: $0) }, progress: row["progress"], furthest: row["furthest"],
            declared: Demand(cpuShares: row["cpu_shares"], memoryBytes: row["memory_bytes"], diskBytes: row["disk_bytes"]),
            createdAt: WallTime(nanoseconds: row["created_at"]), startedAt: time("started_at"), finishedAt: time("finished_at"))
    }
}
