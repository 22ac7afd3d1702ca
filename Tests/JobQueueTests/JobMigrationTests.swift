import GRDB
import JobQueue
import Media
import Testing

@Suite("Jobs of the first version")
struct JobMigrationTests {
    @Test("every state of the first version has its place, with its owner, run, counters and dependencies; what ran is available")
    func states() async throws {
        let database = try DatabaseQueue()
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { try SQLiteJobStore.createFirstTables($0) }
        migrator.registerMigration("2") { db in
            for (place, state) in ["waiting", "available", "running", "succeeded", "dead", "cancelled"].enumerated() {
                try db.execute(sql: """
                    INSERT INTO job VALUES (?, 'r#2', 'stage', ?, '{}', ?, ?, ?, 7, 1, ?, 0, 1, ?, 0, NULL, 5, NULL)
                    """, arguments: ["j\(place)", "n\(place)", state, place == 1 ? 0 : 10, state == "waiting" ? 1 : 0, state == "running" ? 9 : nil, state == "dead" ? 3 : 0])
            }
            try db.execute(sql: "INSERT INTO job_dependency VALUES ('j0', 'j1')")
        }
        migrator.registerMigration("10") { try SQLiteJobStore.createWorkers($0) }
        migrator.registerMigration("15") { try SQLiteJobStore.createLosses($0) }
        migrator.registerMigration("16") { try SQLiteJobStore.createFurthest($0) }
        try migrator.migrate(database)
        let store = SQLiteJobStore(database, changes: JobChanges())
        let jobs = try await store.read { try store.jobs(owner: "r", run: 2, in: $0) }
        #expect(jobs.map(\.state) == [.blocked, .available, .available, .done, .quarantined, .cancelled])
        #expect(jobs.map(\.lane) == [.light, .heavy, .light, .light, .light, .light])
        #expect(jobs.map(\.standing.token) == Array(repeating: 1, count: 6) && jobs.map(\.standing.errors) == Array(repeating: 1, count: 6))
        // The dependency still holds.
        let now = WallTime(seconds: 10)
        try await store.write { db in
            let worker = WorkerID(rawValue: "w")!
            try store.register(Worker(id: worker, machine: "m"), now: now, in: db)
            for job in try store.claim(ClaimRequest(worker: worker, kinds: ["stage"]), now: now, in: db, choose: { $0.map(\.id) }) { _ = try store.complete(job.lease, now: now, in: db) }
        }
        #expect(try await store.read { try store.job(JobID(rawValue: "j0")!, in: $0)?.state } == .available)
    }
}
