import GRDB
import Media

/// A durable unit of work.
///
/// States and what may happen in each:
///
/// | from | event | to |
/// |---|---|---|
/// | waiting | last dependency completed | available |
/// | waiting, available | cancel | cancelled |
/// | available | claim (a new lease token) | running |
/// | running | complete | succeeded |
/// | running | fail, attempts left | available (after a backoff) |
/// | running | fail, none left | dead |
/// | running | fail, trying again cannot help | dead |
/// | running | crash, fewer than 3 | available (after a backoff) |
/// | running | crash, the third | dead |
/// | running | release (shutdown, lost worker at boot) | available |
/// | running | lease expired | as a crash |
/// | running | cancel | cancelled |
/// | dead | retry | available |
/// | dead | cancel | cancelled |
///
/// Every write of a worker names its lease token; where it does not hold any more, nothing is written and the worker must discard.
public struct Job: Codable, Hashable, Sendable, FetchableRecord, PersistableRecord {
    public enum State: String, Codable, Sendable, CaseIterable {
        case waiting, available, running, succeeded, dead, cancelled

        public var isFinal: Bool { self == .succeeded || self == .dead || self == .cancelled }
    }

    public static let databaseTableName = "job"

    public var id: String
    /// Jobs of one recording belong together.
    public var group: String
    public var kind: String
    /// Unique within the group: the name in the pipeline.
    public var name: String
    public var payload: String
    public var state: State
    /// Higher goes first.
    public var priority: Int
    public var pendingDependencies: Int
    /// Not before this moment, in ns since 1970.
    public var runAfter: Int64
    public var leaseToken: Int64
    public var leaseExpires: Int64?
    public var progress: Double
    public var errors: Int
    public var crashes: Int
    public var releases: Int
    /// Why it last failed, in words.
    public var lastError: String?
    public var createdAt: Int64
    public var finishedAt: Int64?

    enum CodingKeys: String, CodingKey {
        case id, group = "job_group", kind, name, payload, state, priority, pendingDependencies = "pending_dependencies", runAfter = "run_after"
        case leaseToken = "lease_token", leaseExpires = "lease_expires", progress, errors, crashes, releases, lastError = "last_error"
        case createdAt = "created_at", finishedAt = "finished_at"
    }
}

/// A job to be enqueued, with the names of those in its group that come before it.
public struct NewJob: Sendable {
    public var id: JobID
    public var kind: String
    public var name: String
    public var payload: String
    public var priority: Int
    public var dependencies: [String]

    public init(id: JobID, kind: String, name: String, payload: String, priority: Int = 0, dependencies: [String] = []) {
        self.id = id
        self.kind = kind
        self.name = name
        self.payload = payload
        self.priority = priority
        self.dependencies = dependencies
    }
}

/// The right to write about one run of a job.
public struct Lease: Hashable, Sendable {
    public var job: JobID
    public var token: Int64
}

/// When a failed job is tried again: errors are retried with a growing delay, crashes are quarantined sooner.
public struct RetryPolicy: Hashable, Sendable {
    public var errorsMax = 5
    public var crashesMax = 3
    public var firstDelay = Nanoseconds.seconds(2)
    public var longestDelay = Nanoseconds.seconds(300)

    public init() {}

    /// The delay before the next attempt, doubled for each error and spread by `jitter` (0..<1) over ±25 %.
    public func delay(afterErrors errors: Int, jitter: Double) -> Nanoseconds {
        let doubled = min(Double(firstDelay.count) * Double(1 << min(errors - 1, 20)), Double(longestDelay.count))
        return Nanoseconds(count: Int64(doubled * (0.75 + jitter / 2)))
    }
}
