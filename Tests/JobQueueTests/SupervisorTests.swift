import Foundation
import Glibc
import JobQueue
import Media
import Synchronization
import TestSupport
import Testing

/// Supervisors within this process, with shell commands as jobs.
@Suite("Job supervisor")
struct SupervisorTests: Sendable {
    let folder: TemporaryFolder
    let store: SQLiteJobStore

    init() throws {
        folder = try TemporaryFolder()
        store = try JobDatabase.open(folder.path + "/jobs.sqlite")
    }

    private final class Clock: Sendable {
        private let offset = Mutex(Nanoseconds.zero)
        var now: WallTime { WallTime(seconds: Date().timeIntervalSince1970) + offset.withLock { $0 } }
        func step(_ seconds: Int64) { offset.withLock { $0 = $0 + .seconds(seconds) } }
    }
    private let clock = Clock()

    private var options: SupervisorOptions {
        var options = SupervisorOptions()
        options.slots = [.light: 4, .heavy: 1]
        (options.beat, options.lease, options.grace) = (.milliseconds(50), .seconds(3), .milliseconds(100))
        options.retries.firstDelay = .milliseconds(20)
        return options
    }

    private func supervisor(wall: Nanoseconds? = nil, _ change: (inout SupervisorOptions) -> Void = { _ in }) -> JobSupervisor<ShellWork> {
        var options = options
        change(&options)
        return JobSupervisor(ShellWork(wall: wall), store: store, options: options) { [clock] in clock.now }
    }

    private func job(_ name: String, _ command: String, after: [String] = [], lane: Lane = .light, kind: JobKind = ShellWork.kind) -> NewJob {
        NewJob(id: JobID(rawValue: name)!, kind: kind, name: name, payload: command, lane: lane, dependencies: after)
    }
    private func enqueue(_ jobs: NewJob..., owner: String = "g") async throws { try await store.write { [store, clock] db in _ = try store.enqueue(jobs, owner: owner, now: clock.now, in: db) } }
    private func standing(_ name: String) async throws -> JobStanding {
        let job = try await store.read { [store] in try store.job(JobID(rawValue: name)!, in: $0) }
        return try #require(job).standing
    }

    /// Waits until the job is in a state; what it is then.
    private func wait(_ name: String, _ state: JobState) async throws -> JobStanding {
        for _ in 0..<2_000 {
            let standing = try await standing(name)
            if standing.state == state { return standing }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("\(name) is \(try await standing(name)), not \(state)")
        return try await standing(name)
    }

    private func during(_ supervisor: JobSupervisor<ShellWork>, _ body: () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await supervisor.run() }
            do { try await body() } catch {
                group.cancelAll()
                throw error
            }
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    @Test("a run until nothing is left ends with its last job, and waits for no beat", .timeLimit(.minutes(1)))
    func endsAtOnce() async throws {
        try await enqueue(job("a", "true"), job("b", "true", after: ["a"]))
        await supervisor { ($0.beat, $0.lease) = (.seconds(3_600), .seconds(7_200)) }.run(untilEmpty: true)
        #expect(try await standing("b").state == .done)
    }

    @Test("jobs run in their order, and an unknown kind is left alone")
    func order() async throws {
        let log = folder.path + "/log"
        try await enqueue(job("a", "echo a >> \(log)"), job("b", "echo b >> \(log)", after: ["a"]), job("c", "echo c >> \(log)", after: ["b"]), job("x", "exit 0", kind: "other"))
        await supervisor().run(untilEmpty: true)
        #expect(try String(contentsOfFile: log, encoding: .utf8) == "a\nb\nc\n")
        #expect(try await standing("x") == JobStanding(state: .available))
        let left = try await store.read { [store] in try store.workers(in: $0) }
        #expect(left == [])
    }

    @Test("poison is quarantined after three crashes: a segfault, a hang, a balloon; neighbours are not touched")
    func poison() async throws {
        try await enqueue(job("segfault", "kill -SEGV $$"), job("hang", "exec sleep 600"), job("balloon", "ulimit -v 100000; head -c 400000000 /dev/zero | tail >/dev/null"), job("good", "exit 0"))
        await supervisor { ($0.stall, $0.lease) = (.milliseconds(300), .seconds(30)) }.run(untilEmpty: true)
        for name in ["segfault", "hang", "balloon"] {
            let end = try await standing(name)
            #expect((end.state, end.crashes, end.errors, end.token) == (.quarantined, 3, 0, 3), "\(name)")
        }
        #expect(try await standing("hang").reason?.contains("no progress") == true)
        #expect(try await standing("good") == JobStanding(state: .done, token: 1))
    }

    @Test("an attempt ends at its own time limit although it goes on well, and the reason says so")
    func wall() async throws {
        try await enqueue(job("long", "exec sleep 600"))
        await supervisor(wall: .seconds(1)) { $0.retries.crashesMax = 1 }.run(untilEmpty: true)
        #expect(try await standing("long") == JobStanding(state: .quarantined, token: 1, crashes: 1, reason: "it ran for 1 s and was stopped"))
    }

    @Test("a cancelled job's child is killed, and its neighbour goes on")
    func cancel() async throws {
        let pid = folder.path + "/pid"
        try await enqueue(job("a", "echo $$ > \(pid); exec sleep 600"), job("b", "exec sleep 600"))
        try await during(supervisor { ($0.beat, $0.lease) = (.seconds(5), .seconds(30)) }) {
            let child = try await number(in: pid)
            let cancelled = try await store.write { [store, clock] in try store.cancel(JobID(rawValue: "a")!, now: clock.now, in: $0).count }
            #expect(cancelled == 1)
            try await gone(child)
            #expect(try await standing("b").state == .running)
        }
        // The end of the worker gives it back, unharmed.
        #expect(try await standing("b") == JobStanding(state: .available, token: 1, releases: 1))
    }

    private func number(in file: String) async throws -> pid_t {
        for _ in 0..<1_000 {
            if let text = try? String(contentsOfFile: file, encoding: .utf8), text.hasSuffix("\n"), let number = pid_t(text.split(separator: "\n").last ?? "") { return number }  // not there yet
            try await Task.sleep(for: .milliseconds(10))
        }
        throw Broken()
    }

    private func gone(_ child: pid_t) async throws {
        for _ in 0..<1_000 where kill(child, 0) == 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(kill(child, 0) != 0, "the child lives")
    }

    @Test("a long encode has its own slot: what is light passes it")
    func lanes() async throws {
        try await enqueue(job("encode", "exec sleep 600", lane: .heavy), job("next", "exit 0", lane: .heavy), job("light", "exit 0"))
        try await during(supervisor()) {
            _ = try await wait("light", .done)
            #expect(try await (standing("encode").state, standing("next").state) == (.running, .available))
        }
    }

    @Test("a pause lets run what runs and claims nothing more, until it is resumed")
    func pause() async throws {
        try await enqueue(job("a", "exec sleep 600"))
        try await during(supervisor()) {
            _ = try await wait("a", .running)
            try await store.write { [store] in try store.setPaused(true, .lane(.light), in: $0) }
            try await enqueue(job("b", "exit 0"), owner: "h")
            try await enqueue(job("h", "exit 0", lane: .heavy), owner: "i")
            _ = try await wait("h", .done)
            #expect(try await (standing("a").state, standing("b").state) == (.running, .available))
            try await store.write { [store] in try store.setPaused(false, .lane(.light), in: $0) }
            _ = try await wait("b", .done)
        }
    }

    @Test("clock steps of an hour in either direction rescue nobody early", arguments: [3_600, -3_600] as [Int64])
    func clockSteps(step: Int64) async throws {
        try await enqueue(job("a", "exec sleep 600"))
        try await during(supervisor { $0.slots = [.light: 1] }) {
            _ = try await wait("a", .running)
            let second = supervisor { $0.slots = [.heavy: 1] }
            try await during(second) {
                try await enqueue(job("before", "exit 0", lane: .heavy), owner: "h")
                _ = try await wait("before", .done)
                clock.step(step)
                // The other one has looked at the queue many times since.
                for round in 0..<12 {
                    try await enqueue(job("after\(round)", "exec sleep 0.05", lane: .heavy), owner: "i\(round)")
                    _ = try await wait("after\(round)", .done)
                }
                #expect(try await standing("a") == JobStanding(state: .running, token: 1))
            }
        }
    }

    @Test("what a kind takes is measured while it runs")
    func measured() async throws {
        var measured: Demand?
        // A run that was over before anybody looked was not measured.
        for round in 0..<20 where measured == nil {
            try await enqueue(job("a\(round)", "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"), owner: "g\(round)")
            await supervisor().run(untilEmpty: true)
            measured = try await store.read { [store] in try store.measured(in: $0)[ShellWork.kind]?.demand }
        }
        let demand = try #require(measured)
        #expect(demand.memoryBytes > 100_000 && demand.cpuShares > 0)
    }
}
