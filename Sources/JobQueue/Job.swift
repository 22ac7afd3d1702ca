import Media

extension Entity {
    public enum Worker: Sendable {}
}

/// One boot of one worker: a restarted worker is another one.
public typealias WorkerID = Identifier<Entity.Worker>

/// What a job does; a worker claims only kinds that it knows.
public struct JobKind: RawRepresentable, Hashable, Sendable, ExpressibleByStringLiteral {
    public var rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public init(stringLiteral value: String) { rawValue = value }
}

/// A queue with slots of its own, so that short steps never stand behind long ones.
public enum Lane: String, Sendable, CaseIterable {
    /// Short steps: remuxing, mixing, previews, joining.
    case light
    /// Encodes of minutes to hours.
    case heavy
}

/// What a job takes of a machine while it runs. Zero in a declared demand: as measured for its kind.
public struct Demand: Hashable, Sendable {
    /// Thousandths of a core.
    public var cpuShares: Int
    public var memoryBytes: Int64
    /// Written and not yet on the disk when it starts.
    public var diskBytes: Int64

    public init(cpuShares: Int = 0, memoryBytes: Int64 = 0, diskBytes: Int64 = 0) {
        self.cpuShares = cpuShares
        self.memoryBytes = memoryBytes
        self.diskBytes = diskBytes
    }

    public static let unknown = Demand()
}

/// A durable unit of work. What may happen to it is in ``JobStanding``.
public struct Job: Hashable, Sendable {
    public var id: JobID
    /// Whose job it is, a recording's id: jobs of one owner are cancelled and made again together.
    public var owner: String
    /// 1 for the owner's first set of jobs.
    public var run: Int
    public var kind: JobKind
    /// Unique within the run: the name in the pipeline.
    public var name: String
    public var payload: String
    public var lane: Lane
    /// Higher goes first within its lane.
    public var priority: Int
    public var standing: JobStanding
    /// Not before this moment.
    public var runAfter: WallTime
    /// Who runs it; nil unless it is running.
    public var worker: WorkerID?
    /// Share done by the present or last attempt, 0...1.
    public var progress: Double
    /// The most that any attempt had done, or that was done before the first; never falls.
    public var furthest: Double
    public var declared: Demand
    public var createdAt: WallTime
    /// Start of the present or last attempt.
    public var startedAt: WallTime?
    public var finishedAt: WallTime?

    public var state: JobState { standing.state }
    public var lease: Lease { Lease(job: id, token: standing.token) }

    /// Seconds from the start of this attempt to its end, estimated from how far it came; nil before 2 %.
    public func secondsLeft(at now: WallTime) -> Double? {
        guard state == .running, let startedAt, progress >= 0.02, now > startedAt else { return nil }
        return (now - startedAt).seconds * (1 - progress) / progress
    }
}

/// A job to be enqueued, with the names of those in its run that come before it.
public struct NewJob: Sendable {
    public var id: JobID
    public var kind: JobKind
    public var name: String
    public var payload: String
    public var lane: Lane
    public var priority: Int
    public var dependencies: [String]
    public var demand: Demand
    /// Share that is done already, 0...1.
    public var furthest: Double

    public init(id: JobID, kind: JobKind, name: String, payload: String, lane: Lane = .light, priority: Int = 0, dependencies: [String] = [], demand: Demand = .unknown,
                furthest: Double = 0) {
        self.id = id
        self.kind = kind
        self.name = name
        self.payload = payload
        self.lane = lane
        self.priority = priority
        self.dependencies = dependencies
        self.demand = demand
        self.furthest = furthest
    }
}

/// The right to write about one attempt at a job.
public struct Lease: Hashable, Sendable {
    public var job: JobID
    public var token: Int64

    public init(job: JobID, token: Int64) {
        self.job = job
        self.token = token
    }
}
