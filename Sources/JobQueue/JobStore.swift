import Media

/// Where jobs are kept. One contract suite runs over every store.
///
/// Each call about jobs runs in a `Transaction` of the store's database, which the caller may use for its own writes as well: enqueueing or
/// completing a job and what belongs to it happen together or not at all. Transactions are serialised by the database, which is the only
/// arbiter; every decision is ``JobStanding``'s. `now` is the service's clock and decides only when a job may run, never who is alive.
public protocol JobStore: Sendable {
    /// A connection within a transaction. Not to be kept.
    associatedtype Transaction

    /// Wakes whoever waits for work or cancellation, in this process and in others, once a transaction that changed something is committed.
    var changes: JobChanges { get }

    /// One transaction: all of it, or nothing. Throws what the body or the database throws.
    func write<Value: Sendable>(_ body: @escaping @Sendable (Transaction) throws -> Value) async throws -> Value
    /// One consistent state.
    func read<Value: Sendable>(_ body: @escaping @Sendable (Transaction) throws -> Value) async throws -> Value

    // Workers

    func register(_ worker: Worker, now: WallTime, in transaction: Transaction) throws
    /// Counts the worker's beat up; false where it was given up: it holds nothing any more.
    func beat(_ worker: WorkerID, in transaction: Transaction) throws -> Bool
    func workers(in transaction: Transaction) throws -> [Worker]
    /// Takes a lost worker's jobs from it, a loss each, and forgets the worker.
    func rescue(_ worker: WorkerID, reason: String, policy: RetryPolicy, jitter: Double, now: WallTime, in transaction: Transaction) throws -> [Job]
    /// Takes a worker's jobs from it without blame, and forgets the worker.
    func disown(_ worker: WorkerID, now: WallTime, in transaction: Transaction) throws

    // Attempts: each is fenced by the lease, false where it is lost

    /// Takes those jobs that `choose` picks among the candidates, which come by priority and age within their lane.
    func claim(_ request: ClaimRequest, now: WallTime, in transaction: Transaction, choose: ([Admission.Candidate]) -> [JobID]) throws -> [Job]
    /// Whether a claim would find candidates.
    func hasCandidates(_ request: ClaimRequest, now: WallTime, in transaction: Transaction) throws -> Bool
    /// Notes how far this attempt is. What the job shows as its furthest never falls, whatever attempts do.
    func report(_ lease: Lease, progress: Double, in transaction: Transaction) throws -> Bool
    /// Notes that what was done so far is kept.
    func checkpoint(_ lease: Lease, in transaction: Transaction) throws -> Bool
    /// Marks a job done and frees those that waited for nothing else. On false the caller rolls back what it brought.
    func complete(_ lease: Lease, now: WallTime, in transaction: Transaction) throws -> Bool
    func fail(_ lease: Lease, _ failure: JobFailure, reason: String, policy: RetryPolicy, jitter: Double, now: WallTime, in transaction: Transaction) throws -> Bool
    /// Gives a job back unharmed, not to be tried before `date`; at once without.
    func release(_ lease: Lease, until date: WallTime?, now: WallTime, in transaction: Transaction) throws -> Bool
    /// Which of these are still held.
    func held(_ leases: [Lease], in transaction: Transaction) throws -> Set<Lease>

    // From outside

    /// Adds the owner's next run and returns its number. Each job stands after those it depends on.
    @discardableResult func enqueue(_ jobs: [NewJob], owner: String, now: WallTime, in transaction: Transaction) throws -> Int
    /// Ends a job and all that wait for it; the jobs that ended.
    func cancel(_ id: JobID, now: WallTime, in transaction: Transaction) throws -> [Job]
    /// Ends everything of an owner that is not done.
    func cancel(owner: String, now: WallTime, in transaction: Transaction) throws
    /// Makes a dead job available again; false where it is not dead.
    func retry(_ id: JobID, now: WallTime, in transaction: Transaction) throws -> Bool
    /// Takes an owner's jobs from their workers: those find their lease lost, and discard.
    func interrupt(owner: String, now: WallTime, in transaction: Transaction) throws
    /// Lets what was postponed run now.
    func hasten(owner: String, now: WallTime, in transaction: Transaction) throws
    /// Stops or resumes claiming within a scope; what runs goes on.
    func setPaused(_ isPaused: Bool, _ scope: PauseScope, in transaction: Transaction) throws
    func pauses(in transaction: Transaction) throws -> Set<PauseScope>
    /// Removes runs of which nothing happens any more: ended before `done`, or with a dead job before `dead`. How many jobs went.
    func prune(done: WallTime, dead: WallTime, in transaction: Transaction) throws -> Int

    // Looking

    func job(_ id: JobID, in transaction: Transaction) throws -> Job?
    func jobs(owner: String, run: Int, in transaction: Transaction) throws -> [Job]
    /// The jobs of the owner's latest run, in the order they were enqueued.
    func currentJobs(owner: String, in transaction: Transaction) throws -> [Job]
    /// Newest first.
    func list(states: Set<JobState>, limit: Int, in transaction: Transaction) throws -> [Job]
    func counts(in transaction: Transaction) throws -> [Lane: [JobState: Int]]
    /// Of the jobs that could run at `now`: how many there are in each lane, and since when the oldest could. Paused ones count.
    func waiting(now: WallTime, in transaction: Transaction) throws -> [Lane: (count: Int, oldest: WallTime)]
    /// How many jobs of these kinds run, or can run now or later without anything else happening.
    func unfinished(kinds: Set<JobKind>, in transaction: Transaction) throws -> Int
    /// When the first job waits whose time has not come.
    func nextRunAfter(now: WallTime, in transaction: Transaction) throws -> WallTime?
    /// Enters what an attempt took into its kind's running average.
    func measure(_ kind: JobKind, _ demand: Demand, seconds: Double, in transaction: Transaction) throws
    func measured(in transaction: Transaction) throws -> [JobKind: (demand: Demand, seconds: Double, samples: Int)]
}

/// One boot of a worker, as its row says.
public struct Worker: Hashable, Sendable {
    public var id: WorkerID
    /// Whose locks can be tested from there.
    public var machine: String
    public var beat: Int64
    public var runningJobs: Int

    public init(id: WorkerID, machine: String, beat: Int64 = 0, runningJobs: Int = 0) {
        self.id = id
        self.machine = machine
        self.beat = beat
        self.runningJobs = runningJobs
    }
}

/// What a worker could take on.
public struct ClaimRequest: Sendable {
    public var worker: WorkerID
    public var kinds: Set<JobKind>
    public var lanes: Set<Lane>

    /// Most candidates of a lane that are looked at.
    public static let candidatesMax = 64

    public init(worker: WorkerID, kinds: Set<JobKind>, lanes: Set<Lane> = Set(Lane.allCases)) {
        self.worker = worker
        self.kinds = kinds
        self.lanes = lanes
    }
}

/// What claiming can be stopped for.
public enum PauseScope: Hashable, Sendable {
    case all
    case lane(Lane)
    case kind(JobKind)

    /// `all`, `lane:heavy`, `kind:compose`.
    public init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
        switch (parts.first, parts.count) {
        case ("all", 1): self = .all
        case ("lane", 2):
            guard let lane = Lane(rawValue: parts[1]) else { return nil }
            self = .lane(lane)
        case ("kind", 2) where parts[1].count <= 100: self = .kind(JobKind(rawValue: parts[1]))
        default: return nil
        }
    }

    public var text: String {
        switch self {
        case .all: "all"
        case .lane(let lane): "lane:\(lane.rawValue)"
        case .kind(let kind): "kind:\(kind.rawValue)"
        }
    }
}
