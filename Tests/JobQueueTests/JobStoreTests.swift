import GRDB
import JobQueue
import Media
import TestSupport
import Testing

@Suite("Job queue")
struct JobStoreTests {
    let database: DatabaseQueue

    init() throws {
        database = try DatabaseQueue()
        try database.write { try JobStore.createTables($0) }
    }

    private func time(_ seconds: Double) -> WallTime { WallTime(seconds: seconds) }
    private func job(_ name: String, after: [String] = [], priority: Int = 0, kind: String = "stage") -> NewJob {
        NewJob(id: JobID(rawValue: name)!, kind: kind, name: name, payload: "{}", priority: priority, dependencies: after)
    }
    private func enqueue(_ jobs: NewJob..., at now: Double = 0) throws { try database.write { try JobStore.enqueue(jobs, group: "g#1", now: time(now), $0) } }
    private func claim(_ now: Double = 1) throws -> Lease? { try database.write { try JobStore.claim(kinds: ["stage"], now: time(now), $0)?.lease } }
    private func state(_ name: String) throws -> Job { try database.read { try Job.fetchOne($0, key: name)! } }
    private func fail(_ lease: Lease, _ failure: JobStore.Failure, at now: Double) throws -> Bool {
        try database.write { try JobStore.fail(lease, failure, reason: "why", policy: RetryPolicy(), jitter: 0.5, now: time(now), $0) }
    }

    @Test("the highest priority goes first, then the oldest; unknown kinds are left alone")
    func order() throws {
        try enqueue(job("a"), job("b"), job("c", priority: 5), job("d", priority: 9, kind: "other"))
        #expect(try [claim(), claim(), claim(), claim()].map { $0?.job.rawValue } == ["c", "a", "b", nil])
        #expect(try state("d").state == .available)
    }

    @Test("a job waits for everything it depends on, and no longer")
    func dependencies() throws {
        try enqueue(job("a"), job("b"), job("c", after: ["a", "b"]))
        let (a, b) = (try claim()!, try claim()!)
        #expect(try claim() == nil)
        #expect(try database.write { try JobStore.complete(a, now: time(2), $0) })
        #expect(try claim(3) == nil)
        #expect(try database.write { try JobStore.complete(b, now: time(2), $0) })
        #expect(try claim(3)?.job.rawValue == "c")
    }

    @Test("a worker that overslept its lease can write nothing any more")
    func fencing() throws {
        try enqueue(job("a"))
        let old = try claim(0)!
        #expect(try database.write { try JobStore.rescue(all: false, policy: RetryPolicy(), now: time(29), $0) } == 0)
        #expect(try database.write { try JobStore.rescue(all: false, policy: RetryPolicy(), now: time(31), $0) } == 1)
        let new = try claim(1_000)!
        #expect(new.token == old.token + 1)
        #expect(try !database.write { try JobStore.heartbeat(old, progress: 1, now: time(1_001), $0) })
        #expect(try !database.write { try JobStore.complete(old, now: time(1_001), $0) })
        #expect(try !fail(old, .error, at: 1_001))
        #expect(try !database.write { try JobStore.release(old, now: time(1_001), $0) })
        #expect(try database.write { try JobStore.complete(new, now: time(1_001), $0) })
        #expect(try state("a").crashes == 1)
    }

    @Test("errors are tried again ever later and end in the dead letter with the reason; a retry revives")
    func backoff() throws {
        try enqueue(job("a"), job("b", after: ["a"]))
        var delays: [Double] = []
        for attempt in 0..<5 {
            let now = Double(attempt) * 1_000 + 1
            #expect(try fail(claim(now)!, .error, at: now))
            delays.append(Double(try state("a").runAfter) / 1e9 - now)
        }
        #expect(delays.prefix(4) == [2, 4, 8, 16])
        #expect(try state("a").state == .dead && state("a").lastError == "why")
        #expect(try claim(99_999) == nil)
        #expect(try database.write { try JobStore.retry(JobID(rawValue: "a")!, now: time(6_000), $0) })
        #expect(try claim(6_001)?.job.rawValue == "a")
    }

    @Test("a third crash is quarantine; releases are free; what cannot be helped is not tried again")
    func counters() throws {
        try enqueue(job("a"), job("b"))
        for attempt in 0..<10 {
            let lease = try claim(Double(attempt) + 1)!
            #expect(try database.write { try JobStore.release(lease, now: time(Double(attempt) + 1), $0) })
        }
        #expect(try state("a").releases + state("b").releases == 10)
        var now = 100.0
        while try state("a").state != .dead || state("b").state != .dead {
            let lease = try claim(now)!
            #expect(try fail(lease, lease.job.rawValue == "a" ? .crash : .permanent, at: now))
            now += 1_000
        }
        #expect(try (state("a").crashes, state("b").errors) == (3, 1))
    }

    @Test("a cancelled group stops at its next heartbeat")
    func cancel() throws {
        try enqueue(job("a"), job("b"), job("c", after: ["a"]))
        let lease = try claim()!
        try database.write { try JobStore.cancel(group: "g#1", now: time(2), $0) }
        #expect(try !database.write { try JobStore.heartbeat(lease, progress: 0.5, now: time(3), $0) })
        #expect(try ["a", "b", "c"].map { try state($0).state } == [.cancelled, .cancelled, .cancelled])
    }

    @Test("enqueueing is one with what the caller changes: both or neither")
    func transactional() throws {
        struct Stop: Error {}
        #expect(throws: Stop.self) { try database.write { db in
            try JobStore.enqueue([job("a")], group: "g#1", now: time(0), db)
            throw Stop()
        } }
        #expect(try database.read { try Job.fetchCount($0) } == 0)
    }

    @Test("random histories agree with a model: no job runs twice at once, none is lost", arguments: 0..<8 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = Seeded(seed)
        var model: [String: Job.State] = [:]
        var held: [Lease] = []
        var now = 0.0
        for step in 0..<600 {
            now += Double.random(in: 0...5, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0:
                let names = ["s\(step)-a", "s\(step)-b"]
                try database.write { try JobStore.enqueue([job(names[0]), job(names[1], after: [names[0]])], group: "g\(step)#1", now: time(now), $0) }
                (model[names[0]], model[names[1]]) = (.available, .waiting)
            case 1, 2, 3:
                guard let lease = try claim(now) else { continue }
                #expect(model[lease.job.rawValue] == .available)
                model[lease.job.rawValue] = .running
                held.append(lease)
            case 4, 5:
                guard let lease = held.randomElement(using: &random) else { continue }
                held.removeAll { $0 == lease }
                #expect(try database.write { try JobStore.complete(lease, now: time(now), $0) } == (model[lease.job.rawValue] == .running))
                if model[lease.job.rawValue] == .running {
                    model[lease.job.rawValue] = .succeeded
                    let next = String(lease.job.rawValue.dropLast()) + "b"
                    if model[next] == .waiting { model[next] = .available }
                }
            case 6:
                guard let lease = held.randomElement(using: &random) else { continue }
                held.removeAll { $0 == lease }
                #expect(try fail(lease, .error, at: now))
                model[lease.job.rawValue] = try state(lease.job.rawValue).state == .dead ? .dead : .available
            default:
                for lease in held { #expect(try database.write { try JobStore.heartbeat(lease, progress: 0.1, now: time(now), $0) }) }
            }
        }
        for (name, expected) in model { #expect(try state(name).state == expected, "\(name)") }
    }
}
