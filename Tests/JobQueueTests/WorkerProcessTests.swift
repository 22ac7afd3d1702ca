import Foundation
import Glibc
import JobQueue
import Media
import TestSupport
import Testing

/// Workers in processes of their own, on one database: stopped, killed, and taken down by their jobs.
@Suite("Worker processes")
struct WorkerProcessTests {
    let folder: TemporaryFolder
    let store: SQLiteJobStore
    private var database: String { folder.path + "/jobs.sqlite" }
    private var runs: String { folder.path + "/runs" }

    init() throws {
        folder = try TemporaryFolder()
        store = try JobDatabase.open(folder.path + "/jobs.sqlite")
    }

    private func start(_ options: String...) throws -> Process {
        let process = Process()
        process.executableURL = URL(filePath: Checkout.program("mitschnitt-jobworker"))
        process.arguments = [database] + options
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        _ = try pipe.fileHandleForReading.read(upToCount: 6)
        return process
    }

    private func end(_ process: Process) {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    private func enqueue(_ jobs: (name: String, command: String)...) async throws {
        let new = jobs.map { NewJob(id: JobID(rawValue: $0.name)!, kind: ShellWork.kind, name: $0.name, payload: $0.command) }
        try await store.write { [store] db in _ = try store.enqueue(new, owner: "g", now: WallTime(seconds: Date().timeIntervalSince1970), in: db) }
    }

    private func standing(_ name: String) async throws -> JobStanding {
        let job = try await store.read { [store] in try store.job(JobID(rawValue: name)!, in: $0) }
        return try #require(job).standing
    }

    /// The process ids that runs of the job wrote, once there are so many.
    private func pids(_ count: Int) async throws -> [pid_t] {
        for _ in 0..<1_500 {
            let found = ((try? String(contentsOfFile: runs, encoding: .utf8)) ?? "").split(separator: "\n").compactMap { pid_t($0) }  // not there yet
            if found.count >= count { return found }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw Broken()
    }

    private func gone(_ child: pid_t) async throws {
        for _ in 0..<1_000 where kill(child, 0) == 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(kill(child, 0) != 0, "process \(child) lives")
    }

    private var longRun: String { "echo $$ >> \(runs); exec sleep 600" }

    @Test("kill -9 of a worker in mid-job: another one has the job at once, long before its lease runs out")
    func killed() async throws {
        let first = try start()
        try await enqueue(("a", longRun))
        let child = try await pids(1)[0]
        let second = try start()
        defer { end(second) }
        end(first)
        // The lease is 30 s, and this waits half of it at most.
        let successor = try await pids(2)[1]
        kill(child, SIGKILL)
        #expect(try await standing("a") == JobStanding(state: .running, token: 2, losses: 1, runsAlone: true, reason: "its worker died"))
        kill(second.processIdentifier, SIGTERM)
        second.waitUntilExit()
        #expect(second.terminationStatus == 0)
        try await gone(successor)
        #expect(try await standing("a") == JobStanding(state: .available, token: 2, losses: 1, releases: 1, runsAlone: true, reason: "its worker died"))
    }

    @Test("a worker that was stopped past its lease has no effect when it goes on, and kills its child")
    func zombie() async throws {
        // Only the other one judges by silence, and only of one that is stopped: on a busy disk a beat may take seconds.
        let zombie = try start("0.1", "600")
        defer { end(zombie) }
        try await enqueue(("a", longRun))
        let child = try await pids(1)[0]
        // Within a write of ours: SQLite's one lock would stay with whoever is stopped in the middle of a commit.
        try await store.write { [process = zombie.processIdentifier] _ in
            kill(process, SIGSTOP)
            while try !String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8).contains(") T ") { usleep(1_000) }
        }
        let successor = try start("0.1", "3")
        defer { end(successor) }
        let second = try await pids(2)[1]
        kill(zombie.processIdentifier, SIGCONT)
        try await gone(child)
        // It takes part again under another name, and does a job: what it had to say about the old one it has said. (Its successor runs alone.)
        try await enqueue(("b", "exit 0"))
        for _ in 0..<1_000 where try await standing("b").state != .done { try await Task.sleep(for: .milliseconds(10)) }
        #expect(try await standing("b").state == .done)
        #expect(kill(second, 0) == 0)
        let now = try await standing("a")
        #expect(now == JobStanding(state: .running, token: 2, losses: 1, runsAlone: true, reason: "its worker was not heard of any more"))
        _ = try await store.write { [store] in try store.cancel(JobID(rawValue: "a")!, now: WallTime(seconds: 1), in: $0) }
        try await gone(second)
    }

    @Test("a job that takes its worker down again and again is quarantined, and its neighbour is done")
    func serverKiller() async throws {
        try await enqueue(("killer", "sleep 0.2; kill -9 $PPID"), ("good", "sleep 0.5"))
        for _ in 0..<8 where try await standing("killer").state != .quarantined {
            let worker = try start("5", "30", "3")
            for _ in 0..<1_000 where worker.isRunning {
                let (killer, good) = (try await standing("killer").state, try await standing("good").state)
                if killer == .quarantined && good == .done { break }
                try await Task.sleep(for: .milliseconds(20))
            }
            end(worker)
        }
        let last = try start("5", "30", "3")
        defer { end(last) }
        for _ in 0..<1_000 {
            let (killer, good) = (try await standing("killer").state, try await standing("good").state)
            if killer == .quarantined && good == .done { break }
            try await Task.sleep(for: .milliseconds(10))
        }
        let killer = try await standing("killer")
        #expect((killer.state, killer.losses, killer.reason) == (.quarantined, 3, "its worker died"))
        let good = try await standing("good")
        #expect(good.state == .done && good.losses == 1, "it was there once, and then ran alone")
    }

    @Test("several workers on one database never get the same run of a job, and miss none")
    func contention() async throws {
        let workers = try (0..<3).map { _ in try start() }
        defer { for worker in workers { end(worker) } }
        let jobs = (0..<60).map { NewJob(id: JobID(rawValue: "j\($0)")!, kind: ShellWork.kind, name: "j\($0)", payload: "echo j\($0) >> \(runs)") }
        try await store.write { [store] db in _ = try store.enqueue(jobs, owner: "g", now: WallTime(seconds: Date().timeIntervalSince1970), in: db) }
        func done() async throws -> Int { try await store.read { [store] in try store.counts(in: $0)[.light]?[.done] ?? 0 } }
        for _ in 0..<2_000 where try await done() < 60 { try await Task.sleep(for: .milliseconds(10)) }
        let ran = try String(contentsOfFile: runs, encoding: .utf8).split(separator: "\n").map(String.init)
        #expect(ran.sorted() == jobs.map(\.name).sorted())
        let all = try await store.read { [store] in try store.list(states: [.done], limit: 100, in: $0) }
        #expect(all.allSatisfy { $0.standing.token == 1 })
    }
}
