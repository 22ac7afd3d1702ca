import JobQueue
import Media

/// The rules of the transition table again, without a database and written by themselves: what a store is compared with.
private struct ReferenceQueue {
    struct Entry: Hashable {
        var owner: String
        var state: JobState
        var needs: Set<String>
        var lane: Lane
        var priority: Int
        var runAfter: Int64
        var createdAt: Int64
        var finishedAt: Int64?
        var worker: WorkerID?
        var token: Int64 = 0
        var errors = 0, crashes = 0, losses = 0, releases = 0
        var isAlone = false
    }

    var entries: [String: Entry] = [:]
    let policy = queuePolicy

    func next(_ now: WallTime) -> [String] {
        func first(_ lane: Lane) -> [String] {
            entries.filter { $0.value.lane == lane && $0.value.state == .available && $0.value.runAfter <= now.nanoseconds }
                .sorted { ($1.value.priority, $0.value.runAfter, $0.value.createdAt, $0.key) < ($0.value.priority, $1.value.runAfter, $1.value.createdAt, $1.key) }.map(\.key)
        }
        return first(.light) + first(.heavy)
    }

    func holds(_ lease: Lease) -> Bool { entries[lease.job.rawValue].map { $0.state == .running && $0.token == lease.token } ?? false }

    mutating func change(_ name: String, _ body: (inout Entry) -> Void) { body(&entries[name]!) }

    mutating func succeed(_ name: String, _ now: WallTime) {
        change(name) { ($0.state, $0.worker, $0.isAlone, $0.finishedAt) = (.done, nil, false, now.nanoseconds) }
        for (waiting, entry) in entries where entry.state == .blocked && entry.needs.contains(name) {
            change(waiting) {
                $0.needs.remove(name)
                $0.runAfter = now.nanoseconds
                if $0.needs.isEmpty { $0.state = .available }
            }
        }
    }

    mutating func fail(_ name: String, _ failure: JobFailure, jitter: Double, _ now: WallTime) {
        let policy = policy
        change(name) {
            if failure == .noRoom {
                ($0.state, $0.worker, $0.runAfter, $0.releases) = (.available, nil, (now + .seconds(5)).nanoseconds, $0.releases + 1)
                return
            }
            if failure == .crash { $0.crashes += 1 } else { $0.errors += 1 }
            $0.worker = nil
            if failure == .permanent || (failure == .error && $0.errors == 5) {
                $0.state = .failed
            } else {
                $0.state = failure == .crash && $0.crashes == 3 ? .quarantined : .available
            }
            if $0.state == .available { $0.runAfter = (now + policy.delay(afterFailures: $0.errors + $0.crashes, losses: $0.losses, jitter: jitter)).nanoseconds } else { $0.finishedAt = now.nanoseconds }
        }
    }

    mutating func lose(_ name: String, _ now: WallTime) {
        let policy = policy
        change(name) {
            ($0.losses, $0.isAlone, $0.worker) = ($0.losses + 1, true, nil)
            if $0.losses == policy.lossesMax {
                ($0.state, $0.finishedAt) = (.quarantined, now.nanoseconds)
            } else {
                ($0.state, $0.runAfter) = (.available, (now + policy.delay(afterFailures: $0.errors + $0.crashes, losses: $0.losses, jitter: 0)).nanoseconds)
            }
        }
    }

    mutating func giveBack(_ name: String, _ date: WallTime) {
        change(name) {
            ($0.state, $0.worker, $0.runAfter) = (.available, nil, date.nanoseconds)
            $0.releases += 1
        }
    }

    mutating func cancel(_ name: String, _ now: WallTime) { change(name) { ($0.state, $0.worker, $0.finishedAt) = (.cancelled, nil, now.nanoseconds) } }

    /// Those that wait for a job, and for those in turn.
    func below(_ name: String) -> [String] {
        var found: Set<String> = [name]
        while true {
            let more = entries.filter { !found.contains($0.key) && !$0.value.needs.isDisjoint(with: found) }.map(\.key)
            if more.isEmpty { return found.filter { $0 != name } }
            found.formUnion(more)
        }
    }
}

/// A seeded random history of everything that can happen to jobs, against a reference model; the whole table is compared as it goes.
public struct JobHistory: Sendable {
    public let seed: UInt64
    public let steps: Int
    /// States that jobs ended in.
    public private(set) var ends: Set<JobState> = []

    public init(seed: UInt64, steps: Int) {
        self.seed = seed
        self.steps = steps
    }

    /// What did not agree, with the step at which it was seen; empty for a store that keeps the rules.
    public mutating func run(on queue: any QueueUnderTest) async throws -> [String] {
        var random = Seeded(seed)
        var model = ReferenceQueue()
        // Every lease ever handed out: most are stale, and a stale one must change nothing.
        var leases: [Lease] = []
        var now = WallTime(seconds: 1_000)
        var workers: [WorkerID] = []
        var broken: [String] = []
        for step in 0..<steps {
            now = now + Nanoseconds(seconds: Double.random(in: 0...6, using: &random))
            // The service's clock may be set, back as well.
            if step % 97 == 96 { now = now + .seconds([-3_600, 3_600].randomElement(using: &random)!) }
            if workers.count < 3 {
                workers.append(WorkerID(using: &random))
                try await queue.register(workers[workers.count - 1], at: now)
            }
            let worker = workers.randomElement(using: &random)!
            let names = model.entries.keys.sorted()
            switch Int.random(in: 0..<20, using: &random) {
            case 0, 1: try await enqueue(step, now, &random, &model, queue)
            case 2, 3, 4, 5:
                let most = Int.random(in: 1...3, using: &random)
                let expected = Array(model.next(now).prefix(most))
                let claimed = try await queue.claim(["stage"], by: worker, most: most, at: now)
                if claimed.map(\.id.rawValue) != expected { broken.append("seed \(seed), step \(step): claimed \(claimed.map(\.id)), not \(expected)") }
                for name in expected { model.change(name) { ($0.state, $0.worker, $0.token) = (.running, worker, $0.token + 1) } }
                leases += claimed.map(\.lease)
            case 6:
                workers.removeAll { $0 == worker }
                let isBlamed = Bool.random(using: &random)
                if isBlamed { _ = try await queue.rescue(worker, at: now) } else { try await queue.disown(worker, at: now) }
                for (name, entry) in model.entries where entry.worker == worker {
                    if isBlamed {
                        model.lose(name, now)
                    } else {
                        model.giveBack(name, now)
                    }
                }
                if try await queue.beat(worker) { broken.append("seed \(seed), step \(step): a worker that was given up still beats") }
            case 7, 8:
                guard let name = names.filter({ model.entries[$0]!.state.isDead }).randomElement(using: &random) ?? names.randomElement(using: &random) else { continue }
                let isDead = model.entries[name]!.state.isDead
                if try await queue.retry(JobID(rawValue: name)!, at: now) != isDead { broken.append("seed \(seed), step \(step): retry of \(name)") }
                if isDead { model.change(name) { ($0.state, $0.errors, $0.crashes, $0.losses, $0.runAfter, $0.finishedAt) = (.available, 0, 0, 0, now.nanoseconds, nil) } }
            case 9 where step % 3 == 0:
                guard let name = names.randomElement(using: &random) else { continue }
                if Bool.random(using: &random) {
                    let owner = model.entries[name]!.owner
                    try await queue.cancel(owner: owner, at: now)
                    for (name, entry) in model.entries where entry.owner == owner && entry.state != .done && entry.state != .cancelled { model.cancel(name, now) }
                } else {
                    let state = model.entries[name]!.state
                    _ = try await queue.cancel(JobID(rawValue: name)!, at: now)
                    guard state != .done, state != .cancelled else { break }
                    let below = model.below(name).filter { model.entries[$0]!.state == .blocked }
                    for name in below + [name] { model.cancel(name, now) }
                }
            case 10:
                guard let owner = names.randomElement(using: &random).map({ model.entries[$0]!.owner }) else { continue }
                try await queue.interrupt(owner: owner, at: now)
                for (name, entry) in model.entries where entry.owner == owner && entry.state == .running { model.giveBack(name, now) }
            case 11 where step % 5 == 0:
                let (done, dead) = (now - .seconds(600), now - .seconds(1_800))
                _ = try await queue.prune(done: done, dead: dead)
                for (owner, all) in Dictionary(grouping: model.entries, by: { $0.value.owner }) {
                    let states = all.map(\.value.state)
                    let hasDead = states.contains { $0.isDead }
                    guard !states.contains(.available), !states.contains(.running), hasDead || !states.contains(.blocked), let last = all.compactMap(\.value.finishedAt).max() else { continue }
                    if last < (hasDead ? dead : done).nanoseconds { model.entries = model.entries.filter { $0.value.owner != owner } }
                }
            default:
                guard let lease = leases.suffix(12).randomElement(using: &random) else { continue }
                if try await !write(lease, now, &random, &model, queue) { broken.append("seed \(seed), step \(step): a lease of \(lease.job) that was lost wrote, or one that was held did not") }
            }
            if step % 25 == 0 { broken += try await compare(model, queue, "seed \(seed), step \(step)") }
            if broken.count > 5 { break }
        }
        return broken + (try await compare(model, queue, "seed \(seed), end"))
    }

    private func enqueue(_ step: Int, _ now: WallTime, _ random: inout Seeded, _ model: inout ReferenceQueue, _ queue: any QueueUnderTest) async throws {
        var jobs: [NewJob] = []
        for place in 0..<Int.random(in: 1...4, using: &random) {
            let needs = jobs.map(\.name).filter { _ in Bool.random(using: &random) }
            let name = "g\(step)-\(place)"
            jobs.append(NewJob(id: JobID(rawValue: name)!, kind: "stage", name: name, payload: "{}", lane: Bool.random(using: &random) ? .light : .heavy,
                               priority: Int.random(in: 0...2, using: &random), dependencies: needs))
            model.entries[name] = .init(owner: "g\(step)", state: needs.isEmpty ? .available : .blocked, needs: Set(needs), lane: jobs[place].lane, priority: jobs[place].priority,
                                        runAfter: now.nanoseconds, createdAt: now.nanoseconds)
        }
        try await queue.enqueue(jobs, owner: "g\(step)", at: now)
    }

    private func write(_ lease: Lease, _ now: WallTime, _ random: inout Seeded, _ model: inout ReferenceQueue, _ queue: any QueueUnderTest) async throws -> Bool {
        let (holds, name) = (model.holds(lease), lease.job.rawValue)
        let jitter = Double.random(in: 0..<1, using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0: return try await queue.report(lease, jitter) == holds
        case 1:
            let date: WallTime? = Bool.random(using: &random) ? now + .seconds(60) : nil
            guard try await queue.release(lease, until: date, at: now) == holds else { return false }
            if holds { model.giveBack(name, date ?? now) }
        case 2, 3:
            let failure = [JobFailure.error, .error, .crash, .permanent, .noRoom].randomElement(using: &random)!
            guard try await queue.fail(lease, failure, jitter: jitter, at: now) == holds else { return false }
            if holds { model.fail(name, failure, jitter: jitter, now) }
        case 4:
            guard try await queue.checkpoint(lease) == holds else { return false }
            if holds { model.change(name) { ($0.crashes, $0.losses) = (0, 0) } }
        case 5: return try await queue.held([lease]).contains(lease) == holds
        default:
            guard try await queue.complete(lease, breaks: false, at: now) == holds else { return false }
            if holds { model.succeed(name, now) }
        }
        return true
    }

    private mutating func compare(_ model: ReferenceQueue, _ queue: any QueueUnderTest, _ place: String) async throws -> [String] {
        let jobs = try await queue.all()
        guard jobs.count == model.entries.count else { return ["\(place): \(jobs.count) jobs, not \(model.entries.count)"] }
        return jobs.compactMap { job in
            ends.insert(job.state)
            let known = model.entries[job.id.rawValue]
            let entry = ReferenceQueue.Entry(
                owner: job.owner, state: job.state, needs: known?.needs ?? [], lane: job.lane, priority: job.priority, runAfter: job.runAfter.nanoseconds, createdAt: job.createdAt.nanoseconds,
                finishedAt: job.finishedAt?.nanoseconds, worker: job.worker, token: job.standing.token, errors: job.standing.errors, crashes: job.standing.crashes,
                losses: job.standing.losses, releases: job.standing.releases, isAlone: job.standing.runsAlone)
            if known != entry { return "\(place): \(job.id) is \(entry), not \(known.map { "\($0)" } ?? "there")" }
            return job.state == .blocked && job.standing.pendingDependencies != known?.needs.count ? "\(place): \(job.id) waits for \(job.standing.pendingDependencies)" : nil
        }
    }
}
