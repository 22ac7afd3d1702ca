import Foundation
import GRDB
import JobQueue
import Media
import Synchronization
import TestSupport
import Testing

/// The database cannot be written while a job runs: locked by another connection, as by a backup program, for longer than anybody waits.
@Suite("Database away")
struct DatabaseAwayTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    @Test("a job that ends, or goes on, while the database is away for longer than its lease is done once, in one attempt", arguments: [true, false])
    func away(endsMeanwhile: Bool) async throws {
        let (path, go, runs) = (folder.path + "/jobs.sqlite", folder.path + "/go", folder.path + "/runs")
        let store = try JobDatabase.open(path, busy: 0.05)
        var options = SupervisorOptions()
        (options.beat, options.lease) = (.milliseconds(50), .milliseconds(300))
        let (work, id) = (ShellWork(), JobID(rawValue: "a")!)
        let supervisor = JobSupervisor(work, store: store, options: options) { WallTime(seconds: Date().timeIntervalSince1970) }
        let job = NewJob(id: id, kind: ShellWork.kind, name: "a", payload: "echo x >> \(runs); while [ ! -e \(go) ]; do sleep 0.02; done")
        try await store.write { _ = try store.enqueue([job], owner: "g", now: WallTime(seconds: 1), in: $0) }
        async let running: Void = supervisor.run(untilEmpty: true)
        for _ in 0..<2_000 where !FileManager.default.fileExists(atPath: runs) { try await Task.sleep(for: .milliseconds(10)) }
        let other = try DatabaseQueue(path: path)
        try await aside {
            try other.writeWithoutTransaction { db in
                try db.beginTransaction(.immediate)
                if endsMeanwhile { _ = FileManager.default.createFile(atPath: go, contents: nil) }
                // It was tried, and tried again: a second later, and on a busy machine later still.
                for _ in 0..<12_000 where work.storeFailures.withLock({ $0 < 2 }) { usleep(10_000) }
                try db.commit()
            }
        }
        if !endsMeanwhile { _ = FileManager.default.createFile(atPath: go, contents: nil) }
        await running
        #expect(work.storeFailures.withLock { $0 } >= 2)
        #expect(try await store.read { try store.job(id, in: $0)?.standing } == JobStanding(state: .done, token: 1))
        #expect(work.settled.withLock { $0 } == [id])
        #expect(try String(contentsOfFile: runs, encoding: .utf8) == "x\n")
    }
}
