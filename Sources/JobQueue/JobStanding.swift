import Media

/// Where a job stands.
public enum JobState: String, Sendable, CaseIterable {
    /// Waits for jobs it depends on.
    case blocked
    case available
    case running
    case done
    /// The dead letter: not tried again by itself; the reason says why in words.
    case failed
    /// It took its process down too often, or its workers died of it: not tried again by itself.
    case quarantined
    case cancelled

    /// Nothing happens to it any more by itself.
    public var isFinal: Bool { self == .done || isDead || self == .cancelled }
    /// Ended without its result, and `retry` brings it back.
    public var isDead: Bool { self == .failed || self == .quarantined }
}

/// Why an attempt came to nothing.
public enum JobFailure: Hashable, Sendable, CaseIterable {
    /// The job said what is wrong.
    case error
    /// Its process died, hung or was stopped at a limit.
    case crash
    /// Trying again cannot help.
    case permanent
    /// The disk was full. That is nobody's fault, and over once somebody made room: it is tried again for as long as it takes.
    case noRoom
}

/// The state machine of a job: no clock, no I/O, every store applies it.
///
/// | from | event | guard | to | counted |
/// |---|---|---|---|---|
/// | blocked | dependencyDone | others pending | blocked | |
/// | blocked | dependencyDone | the last one | available | |
/// | available | claim | its time has come | running, a new lease token | |
/// | running | complete | lease | done | |
/// | running | checkpoint | lease | running | crashes = losses = 0: it came past where it crashed |
/// | running | fail(error) | lease, fewer than `errorsMax` | available, after a backoff | errors + 1 |
/// | running | fail(error) | lease, the last | failed | errors + 1 |
/// | running | fail(permanent) | lease | failed | errors + 1 |
/// | running | fail(crash) | lease, fewer than `crashesMax` | available, after a backoff | crashes + 1 |
/// | running | fail(crash) | lease, the last | quarantined | crashes + 1 |
/// | running | fail(noRoom) | lease | available, after `roomDelay` | releases + 1, with the reason |
/// | running | workerLost | fewer than `lossesMax` | available, the first time at once, then after a backoff; from then on it runs alone | losses + 1 |
/// | running | workerLost | the last | quarantined | losses + 1 |
/// | running | release | lease | available | releases + 1, free |
/// | running | interrupt | | available | releases + 1, free |
/// | blocked, available, running, failed, quarantined | cancel | | cancelled | |
/// | failed, quarantined | retry | | available | errors = crashes = losses = 0 |
///
/// Everything else is refused and changes nothing. *Lease*: the event names the token of the running attempt. A worker whose event is
/// refused has lost its job and discards what it made.
///
/// A worker's death is counted with every job that it ran, for one of them may have caused it; they run alone afterwards, so that the guilty
/// one takes nobody with it again. It has a counter and a limit of its own, for mostly it is a rescue: power that went, a kill, an update.
public struct JobStanding: Hashable, Sendable {
    public var state: JobState
    public var pendingDependencies: Int
    /// Counts the attempts.
    public var token: Int64
    public var errors: Int
    public var crashes: Int
    /// Attempts during which the worker died.
    public var losses: Int
    public var releases: Int
    /// Runs with nothing beside it: a worker died while it ran.
    public var runsAlone: Bool
    /// Why it last failed, in words.
    public var reason: String?

    /// Longest reason kept, in characters.
    public static let reasonMax = 1_000

    public init(state: JobState, pendingDependencies: Int = 0, token: Int64 = 0, errors: Int = 0, crashes: Int = 0, losses: Int = 0, releases: Int = 0, runsAlone: Bool = false, reason: String? = nil) {
        self.state = state
        self.pendingDependencies = pendingDependencies
        self.token = token
        self.errors = errors
        self.crashes = crashes
        self.losses = losses
        self.releases = releases
        self.runsAlone = runsAlone
        self.reason = reason
    }

    /// A new job that waits for `dependencies` others.
    public init(dependencies: Int) { self.init(state: dependencies == 0 ? .available : .blocked, pendingDependencies: dependencies) }

    public enum Event: Hashable, Sendable {
        case dependencyDone, claim
        case complete(token: Int64), checkpoint(token: Int64), release(token: Int64)
        /// `jitter` is a random number in 0..<1.
        case fail(token: Int64, JobFailure, reason: String, jitter: Double)
        /// The worker that ran it is gone, or was not heard of for a whole lease.
        case workerLost(reason: String, jitter: Double)
        case interrupt, cancel, retry
    }

    public enum Answer: Hashable, Sendable {
        /// Nothing changed.
        case refused
        /// `after`: how long from now it may be claimed again; nil where that is no question.
        case applied(after: Nanoseconds? = nil)
    }

    public mutating func apply(_ event: Event, policy: RetryPolicy) -> Answer {
        switch (state, event) {
        case (.blocked, .dependencyDone):
            pendingDependencies -= 1
            if pendingDependencies == 0 { state = .available }
            return .applied(after: .zero)
        case (.available, .claim):
            state = .running
            token += 1
            return .applied()
        case (.running, .complete(token)):
            (state, reason, runsAlone) = (.done, nil, false)
            return .applied()
        case (.running, .checkpoint(token)):
            (crashes, losses) = (0, 0)
            return .applied()
        case (.running, .fail(token, let failure, let why, let jitter)):
            return fail(failure, why, policy, jitter)
        case (.running, .workerLost(let why, let jitter)):
            (losses, runsAlone) = (losses + 1, true)
            return give(back: losses >= policy.lossesMax ? .quarantined : .available, why, policy, jitter)
        case (.running, .release(token)), (.running, .interrupt):
            (state, releases) = (.available, releases + 1)
            return .applied(after: .zero)
        case (.blocked, .cancel), (.available, .cancel), (.running, .cancel), (.failed, .cancel), (.quarantined, .cancel):
            state = .cancelled
            return .applied()
        case (.failed, .retry), (.quarantined, .retry):
            (state, errors, crashes, losses) = (.available, 0, 0, 0)
            return .applied(after: .zero)
        default: return .refused
        }
    }

    private mutating func fail(_ failure: JobFailure, _ why: String, _ policy: RetryPolicy, _ jitter: Double) -> Answer {
        switch failure {
        case .error, .permanent: errors += 1
        case .crash: crashes += 1
        case .noRoom:
            (state, releases, reason) = (.available, releases + 1, String(why.prefix(Self.reasonMax)))
            return .applied(after: policy.roomDelay)
        }
        let next: JobState = switch failure {
        case .noRoom: .available
        case .permanent: .failed
        case .error: errors >= policy.errorsMax ? .failed : .available
        case .crash: crashes >= policy.crashesMax ? .quarantined : .available
        }
        return give(back: next, why, policy, jitter)
    }

    private mutating func give(back next: JobState, _ why: String, _ policy: RetryPolicy, _ jitter: Double) -> Answer {
        (state, reason) = (next, String(why.prefix(Self.reasonMax)))
        return .applied(after: next == .available ? policy.delay(afterFailures: errors + crashes, losses: losses, jitter: jitter) : nil)
    }
}
