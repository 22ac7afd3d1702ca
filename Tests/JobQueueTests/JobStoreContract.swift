import JobQueue
import Media
import TestSupport
import Testing

/// What every store has to keep.
@Suite("Job store contract")
struct JobStoreContract {
    let folder: TemporaryFolder
    private let worker = WorkerID(rawValue: "w")!
    init() throws { folder = try TemporaryFolder() }

    private func time(_ seconds: Double) -> WallTime { WallTime(seconds: seconds) }
    private func job(_ name: String, after: [String] = [], priority: Int = 0, kind: JobKind = "stage", lane: Lane = .light, demand: Demand = .unknown) -> NewJob {
        NewJob(id: JobID(rawValue: name)!, kind: kind, name: name, payload: "{}", lane: lane, priority: priority, dependencies: after, demand: demand)
    }
    private func queue(_ kind: StoreKind, _ jobs: NewJob...) async throws -> any QueueUnderTest {
        let queue = try kind.make(folder)
        try await queue.register(worker, at: time(0))
        try await queue.enqueue(jobs, owner: "g", at: time(0))
        return queue
    }
    private func names(_ jobs: [Job]) -> [String] { jobs.map(\.id.rawValue) }
    private func state(_ queue: any QueueUnderTest, _ name: String) async throws -> JobState? { try await queue.job(JobID(rawValue: name)!)?.state }
    private func lease(_ queue: any QueueUnderTest, _ now: Double) async throws -> Lease { try #require(try await queue.claim(["stage"], by: worker, most: 1, at: time(now)).first).lease }

    @Test("the highest priority goes first in its lane, then the oldest; unknown kinds are left alone", arguments: StoreKind.allCases)
    func order(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b"), job("c", priority: 5), job("d", priority: 9, kind: "other"), job("e", priority: 9, lane: .heavy))
        #expect(try await names(queue.claim(["stage"], by: worker, most: 9, at: time(1))) == ["c", "a", "b", "e"])
        #expect(try await queue.claim(["stage"], by: worker, most: 9, at: time(1)).isEmpty)
        #expect(try await state(queue, "d") == .available)
    }

    @Test("what waits is what could run: not what waits for others, for its time, or runs", arguments: StoreKind.allCases)
    func waiting(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b"), job("c", after: ["a"]), job("d", lane: .heavy))
        #expect(try await queue.waiting(at: time(-1)).isEmpty)
        let all = try await queue.waiting(at: time(5))
        #expect(all[.light]?.count == 2 && all[.light]?.oldest == time(0) && all[.heavy]?.count == 1)
        let a = try await lease(queue, 6)
        #expect(try await queue.waiting(at: time(6))[.light]?.count == 1)
        #expect(try await queue.release(a, until: time(9), at: time(6)))
        #expect(try await queue.waiting(at: time(8))[.light]?.count == 1)
        #expect(try await queue.waiting(at: time(9))[.light]?.count == 2)
    }

    @Test("a job waits for everything it depends on, and no longer; what the caller rolls back was never done", arguments: StoreKind.allCases)
    func dependencies(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b"), job("c", after: ["a", "b"]))
        let (a, b) = (try await lease(queue, 1), try await lease(queue, 1))
        #expect(try await queue.claim(["stage"], by: worker, most: 1, at: time(1)).isEmpty)
        await #expect(throws: Broken.self) { try await queue.complete(a, breaks: true, at: time(2)) }
        #expect(try await state(queue, "a") == .running)
        #expect(try await queue.complete(a, breaks: false, at: time(2)))
        #expect(try await state(queue, "c") == .blocked)
        #expect(try await queue.complete(b, breaks: false, at: time(2)))
        #expect(try await lease(queue, 3).job.rawValue == "c")
        #expect(try await queue.job(JobID(rawValue: "a")!)?.progress == 1)
    }

    @Test("a new attempt's progress begins at zero; the furthest that a job came never falls, and may have been done before it", arguments: StoreKind.allCases)
    func furthest(kind: StoreKind) async throws {
        var begun = job("a")
        begun.furthest = 0.25
        let queue = try await queue(kind, begun)
        func shares() async throws -> [Double?] { [try await queue.job(JobID(rawValue: "a")!)?.progress, try await queue.job(JobID(rawValue: "a")!)?.furthest] }
        #expect(try await shares() == [0, 0.25])
        let first = try await lease(queue, 0)
        for (report, shown) in [(0.125, [0.125, 0.25]), (0.75, [0.75, 0.75])] {
            #expect(try await queue.report(first, report))
            #expect(try await shares() == shown)
        }
        #expect(try await queue.release(first, until: nil, at: time(1)))
        let second = try await lease(queue, 1)
        #expect(try await shares() == [0, 0.75])
        #expect(try await queue.report(second, 0.5))
        #expect(try await shares() == [0.5, 0.75])
        #expect(try await queue.complete(second, breaks: false, at: time(2)))
        #expect(try await shares() == [1, 1])
    }

    @Test("who lost the lease can write nothing any more, and a worker that was given up has no beat", arguments: StoreKind.allCases)
    func fencing(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"))
        let old = try await lease(queue, 0)
        #expect(try await queue.beat(worker))
        #expect(try await names(queue.rescue(worker, at: time(31))) == ["a"])
        #expect(try await !queue.beat(worker))
        #expect(try await queue.claim(["stage"], by: worker, most: 1, at: time(1_000)).isEmpty, "and claims nothing")
        try await queue.register(worker, at: time(999))
        let new = try await lease(queue, 1_000)
        #expect(new.token == old.token + 1)
        #expect(try await !queue.report(old, 1))
        #expect(try await !queue.checkpoint(old))
        #expect(try await !queue.complete(old, breaks: false, at: time(1_001)))
        #expect(try await !queue.fail(old, .error, jitter: 0, at: time(1_001)))
        #expect(try await !queue.release(old, until: nil, at: time(1_001)))
        #expect(try await queue.held([old, new]) == [new])
        #expect(try await queue.complete(new, breaks: false, at: time(1_001)))
        #expect(try await queue.job(old.job)?.standing == JobStanding(state: .done, token: 2, losses: 1))
    }

    @Test("errors are tried again ever later and end in the dead letter with the reason; a retry revives", arguments: StoreKind.allCases)
    func backoff(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b", after: ["a"]))
        var delays: [Double] = []
        for attempt in 0..<5 {
            let now = Double(attempt) * 1_000 + 1
            #expect(try await queue.fail(lease(queue, now), .error, jitter: 0.5, at: time(now)))
            delays.append(try #require(try await queue.job(JobID(rawValue: "a")!)).runAfter.seconds - now)
        }
        #expect(delays.prefix(4) == [2, 4, 8, 16])
        #expect(try await queue.job(JobID(rawValue: "a")!)?.standing == JobStanding(state: .failed, token: 5, errors: 5, reason: "why"))
        #expect(try await queue.claim(["stage"], by: worker, most: 1, at: time(99_999)).isEmpty)
        #expect(try await queue.retry(JobID(rawValue: "a")!, at: time(6_000)))
        #expect(try await lease(queue, 6_001).job.rawValue == "a")
        #expect(try await !queue.retry(JobID(rawValue: "a")!, at: time(6_000)))
    }

    @Test("a third crash is quarantine unless it came further meanwhile; releases and a full disk are free; what cannot be helped is not tried again", arguments: StoreKind.allCases)
    func counters(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"))
        for attempt in 1...10 { #expect(try await queue.release(lease(queue, Double(attempt)), until: nil, at: time(Double(attempt)))) }
        for attempt in 1...2 { #expect(try await queue.fail(lease(queue, Double(attempt) * 1_000), .crash, jitter: 0, at: time(Double(attempt) * 1_000))) }
        let further = try await lease(queue, 3_000)
        #expect(try await queue.checkpoint(further))
        #expect(try await queue.fail(further, .crash, jitter: 0, at: time(3_000)))
        #expect(try await queue.job(further.job)?.standing == JobStanding(state: .available, token: 13, crashes: 1, releases: 10, reason: "why"))
        for attempt in 4...5 { #expect(try await queue.fail(lease(queue, Double(attempt) * 1_000), .crash, jitter: 0, at: time(Double(attempt) * 1_000))) }
        #expect(try await state(queue, "a") == .quarantined)
        try await queue.enqueue([job("full")], owner: "f", at: time(0))
        for attempt in 1...20 { #expect(try await queue.fail(lease(queue, 6_000 + Double(attempt) * 10), .noRoom, jitter: 0, at: time(6_000 + Double(attempt) * 10))) }
        #expect(try await queue.job(JobID(rawValue: "full")!)?.standing == JobStanding(state: .available, token: 20, releases: 20, reason: "why"))
        try await queue.cancel(owner: "f", at: time(7_000))
        try await queue.enqueue([job("p")], owner: "h", at: time(0))
        #expect(try await queue.fail(lease(queue, 9_000), .permanent, jitter: 0, at: time(9_000)))
        #expect(try await state(queue, "p") == .failed)
    }

    @Test("a worker's death counts with every job it ran, as no crash of theirs, and those run alone from then on", arguments: StoreKind.allCases)
    func workerDeath(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b"))
        _ = try await queue.claim(["stage"], by: worker, most: 2, at: time(1))
        _ = try await queue.rescue(worker, at: time(2))
        try await queue.register(worker, at: time(3))
        #expect(try await queue.candidates(by: worker, at: time(100)).map(\.runsAlone) == [true, true])
        #expect(try await queue.all().map(\.standing) == Array(repeating: JobStanding(state: .available, token: 1, losses: 1, runsAlone: true, reason: "its worker died"), count: 2))
        _ = try await queue.claim(["stage"], by: worker, most: 2, at: time(100))
        try await queue.disown(worker, at: time(101))
        #expect(try await queue.all().map(\.standing.losses) == [1, 1])
        #expect(try await queue.workers().isEmpty)
    }

    @Test("cancelling ends a job and what waits for it, not its neighbours; an owner's cancel ends all that is not done", arguments: StoreKind.allCases)
    func cancel(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b", after: ["a"]), job("c", after: ["b"]), job("d"))
        let a = try await lease(queue, 1)
        #expect(try await queue.cancel(a.job, at: time(2)).map(\.rawValue) == ["a", "b", "c"])
        #expect(try await queue.held([a]).isEmpty)
        #expect(try await state(queue, "d") == .available)
        #expect(try await queue.cancel(a.job, at: time(2)).isEmpty)
        try await queue.cancel(owner: "g", at: time(3))
        #expect(try await queue.all().allSatisfy { $0.state == .cancelled })
    }

    @Test("what was interrupted or postponed keeps its counters, and hastening makes it run now", arguments: StoreKind.allCases)
    func postpone(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"))
        let first = try await lease(queue, 1)
        try await queue.interrupt(owner: "g", at: time(2))
        #expect(try await queue.held([first]).isEmpty)
        #expect(try await queue.release(lease(queue, 3), until: time(500), at: time(3)))
        #expect(try await queue.claim(["stage"], by: worker, most: 1, at: time(499)).isEmpty)
        try await queue.hasten(owner: "g", at: time(4))
        #expect(try await lease(queue, 4).token == 3)
        #expect(try await queue.job(first.job)?.standing.releases == 2)
    }

    @Test("a pause stops claiming in its scope only", arguments: StoreKind.allCases)
    func pause(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b", lane: .heavy), job("c", kind: "mix"))
        func claimable() async throws -> [String] {
            let claimed = try await queue.claim(["stage", "mix"], by: worker, most: 9, at: time(1))
            for job in claimed { _ = try await queue.release(job.lease, until: nil, at: time(0)) }
            return names(claimed)
        }
        for (scope, rest) in [("all", []), ("lane:heavy", ["a", "c"]), ("kind:mix", ["a", "b"])] {
            try await queue.setPaused(true, #require(PauseScope(scope)))
            #expect(try await claimable() == rest)
            try await queue.setPaused(false, #require(PauseScope(scope)))
        }
        #expect(try await claimable() == ["a", "c", "b"])
        #expect(["lane:other", "none", "", "kind", "all:x"].allSatisfy { PauseScope($0) == nil })
    }

    @Test("what a kind was measured to take stands for what a job does not declare, as a running average", arguments: StoreKind.allCases)
    func demand(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"), job("b", demand: Demand(memoryBytes: 7)))
        for bytes in [100, 300] { try await queue.measure("stage", Demand(cpuShares: 1_000, memoryBytes: Int64(bytes), diskBytes: 50)) }
        #expect(try await queue.candidates(by: worker, at: time(1)).map(\.demand) == [Demand(cpuShares: 1_000, memoryBytes: 200, diskBytes: 50), Demand(cpuShares: 1_000, memoryBytes: 7, diskBytes: 50)])
    }

    @Test("finished runs are pruned by age, dead letters later, what still happens never", arguments: StoreKind.allCases)
    func prune(kind: StoreKind) async throws {
        let queue = try await queue(kind, job("a"))
        #expect(try await queue.complete(lease(queue, 1), breaks: false, at: time(10)))
        try await queue.enqueue([job("b"), job("c", after: ["b"])], owner: "dead", at: time(0))
        #expect(try await queue.fail(lease(queue, 11), .permanent, jitter: 0, at: time(20)))
        try await queue.enqueue([job("d"), job("e")], owner: "open", at: time(30))
        #expect(try await queue.complete(lease(queue, 31), breaks: false, at: time(31)))
        #expect(try await queue.prune(done: time(10), dead: time(0)) == 0)
        #expect(try await queue.prune(done: time(1_000), dead: time(20)) == 1)
        #expect(try await queue.prune(done: time(1_000), dead: time(1_000)) == 2)
        #expect(try await Set(names(queue.all())) == ["d", "e"])
        try await queue.enqueue([job("f")], owner: "open", at: time(40))
        #expect(try await queue.currentJobs(owner: "open").map(\.run) == [2])
    }
}
