import JobQueue
import Media
import Testing

@Suite("Job state machine, admission and lease watch")
struct JobMachineTests {
    private static let events: [(name: String, event: JobStanding.Event)] = [
        ("dependencyDone", .dependencyDone), ("claim", .claim), ("complete", .complete(token: 1)), ("stale complete", .complete(token: 0)), ("checkpoint", .checkpoint(token: 1)),
        ("release", .release(token: 1)), ("stale release", .release(token: 2)), ("error", .fail(token: 1, .error, reason: "r", jitter: 0)),
        ("stale error", .fail(token: 9, .error, reason: "r", jitter: 0)), ("noRoom", .fail(token: 1, .noRoom, reason: "r", jitter: 0)), ("permanent", .fail(token: 1, .permanent, reason: "r", jitter: 0)),
        ("crash", .fail(token: 1, .crash, reason: "r", jitter: 0)), ("workerLost", .workerLost(reason: "r", jitter: 0)), ("interrupt", .interrupt), ("cancel", .cancel), ("retry", .retry),
    ]

    /// State and event to the next state; what is not named is refused.
    private static let table: [JobState: [String: JobState]] = [
        .blocked: ["dependencyDone": .available, "cancel": .cancelled],
        .available: ["claim": .running, "cancel": .cancelled],
        .running: ["complete": .done, "checkpoint": .running, "release": .available, "error": .available, "noRoom": .available, "permanent": .failed, "crash": .available, "workerLost": .available,
                   "interrupt": .available, "cancel": .cancelled],
        .failed: ["cancel": .cancelled, "retry": .available],
        .quarantined: ["cancel": .cancelled, "retry": .available],
    ]

    @Test("every event in every state does what the transition table says, and what it does not name changes nothing", arguments: JobState.allCases)
    func transitions(state: JobState) {
        for (name, event) in Self.events {
            let before = JobStanding(state: state, pendingDependencies: state == .blocked ? 1 : 0, token: 1)
            var after = before
            let answer = after.apply(event, policy: RetryPolicy())
            guard let next = Self.table[state]?[name] else {
                #expect(answer == .refused && after == before, "\(state), \(name)")
                continue
            }
            #expect(answer != .refused && after.state == next, "\(state), \(name)")
        }
    }

    @Test("delays double, are spread by a quarter either way, and end somewhere")
    func delays() {
        let policy = RetryPolicy()
        #expect((1...4).map { policy.delay(afterFailures: $0, jitter: 0.5).seconds } == [2, 4, 8, 16])
        #expect(policy.delay(afterFailures: 1, jitter: 0).seconds == 1.5 && policy.delay(afterFailures: 1_000, jitter: 0.5).seconds == 300)
        #expect((0...7).map { policy.delay(afterFailures: 0, losses: $0, jitter: 0.5).seconds } == [0, 0, 2, 4, 8, 16, 16, 16])
        #expect(policy.delay(afterFailures: 1, losses: 2, jitter: 0.5).seconds == 4)
    }

    private func candidate(_ name: String, _ memory: Int64, lane: Lane = .light, cpu: Int = 0, alone: Bool = false) -> Admission.Candidate {
        .init(id: JobID(rawValue: name)!, lane: lane, demand: Demand(cpuShares: cpu, memoryBytes: memory), runsAlone: alone)
    }
    private func chosen(_ admission: inout Admission, _ candidates: Admission.Candidate...) -> [String] { admission.choose(from: candidates, slots: [.light: 9, .heavy: 9]).map(\.rawValue) }

    @Test("memory is the machine's, processor time a lane's; a job larger than the machine runs alone, and so does a suspect")
    func admission() {
        var admission = Admission(capacity: Demand(cpuShares: 2_000, memoryBytes: 100, diskBytes: 100))
        #expect(chosen(&admission, candidate("a", 60), candidate("b", 60), candidate("c", 40)) == ["a", "c"])
        admission.remove(JobID(rawValue: "a")!)
        admission.remove(JobID(rawValue: "c")!)
        #expect(chosen(&admission, candidate("huge", 1_000), candidate("small", 1)) == ["huge"])
        admission.remove(JobID(rawValue: "huge")!)
        #expect(chosen(&admission, candidate("h", 1, lane: .heavy, cpu: 2_000), candidate("i", 1, lane: .heavy, cpu: 1), candidate("l", 1, cpu: 2_000)) == ["h", "l"])
        #expect(chosen(&admission, candidate("s", 1, alone: true)) == [])
        for name in ["h", "l"] { admission.remove(JobID(rawValue: name)!) }
        #expect(chosen(&admission, candidate("s", 1, alone: true), candidate("t", 1)) == ["s"])
        #expect(chosen(&admission, candidate("t", 1)) == [])
    }

    @Test("slots are a lane's own")
    func slots() {
        var admission = Admission(capacity: Demand(cpuShares: 9_000, memoryBytes: 100, diskBytes: 0))
        let all = ["a", "b", "c"].map { candidate($0, 1) } + [candidate("h", 1, lane: .heavy)]
        #expect(admission.choose(from: all, slots: [.light: 1, .heavy: 1]).map(\.rawValue) == ["a", "h"])
    }

    @Test("what does not fit is not overtaken for ever: its lane waits for it, then the machine")
    func overtaken() {
        var admission = Admission(capacity: Demand(cpuShares: 2_000, memoryBytes: 100, diskBytes: 100))
        #expect(chosen(&admission, candidate("x", 60)) == ["x"])
        let big = candidate("big", 200, lane: .heavy)
        var overtakes = 0
        // One small job after the other runs beside `x`, and there is always another.
        for number in 0..<100 {
            let name = "small\(number)"
            guard !chosen(&admission, big, candidate(name, 10)).isEmpty else { break }
            overtakes += 1
            admission.remove(JobID(rawValue: name)!)
        }
        #expect(overtakes == Admission.overtakesMax)
        admission.remove(JobID(rawValue: "x")!)
        #expect(chosen(&admission, big, candidate("y", 10)) == ["big"])
    }

    @Test("a worker is lost after a whole lease of silence by the observer's own clock, and never because the observer slept")
    func silence() {
        let (a, b) = (WorkerID(rawValue: "a")!, WorkerID(rawValue: "b")!)
        var watch = LeaseWatch(lease: .seconds(30), gapMax: .seconds(10))
        #expect(watch.observe([a: 1, b: 1], now: .seconds(100)) == [])
        for second in stride(from: 105, through: 125, by: 5) { #expect(watch.observe([a: 1, b: Int64(second)], now: .seconds(Int64(second))) == []) }
        #expect(watch.observe([a: 1, b: 2], now: .seconds(130)) == [a])
        // Everybody was stopped for an hour: the first who wakes waits as long as ever.
        var slept = LeaseWatch(lease: .seconds(30), gapMax: .seconds(10))
        _ = slept.observe([a: 1], now: .seconds(0))
        #expect(slept.observe([a: 1], now: .seconds(3_600)) == [])
        #expect(slept.observe([a: 2], now: .seconds(3_605)) == [])
        for look in [3_615, 3_625] { #expect(slept.observe([a: 2], now: .seconds(Int64(look))) == []) }
        #expect(slept.observe([a: 2], now: .seconds(3_635)) == [a])
        // Who has nothing to do is not watched, and begins anew.
        _ = slept.observe([:], now: .seconds(3_640))
        #expect(slept.observe([a: 2], now: .seconds(3_645)) == [])
    }
}
