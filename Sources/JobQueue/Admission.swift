import Media

/// Which jobs a machine takes on beside those that it runs: no clock, no I/O.
///
/// Memory and disk are the machine's, and what does not fit waits. Processor time is shared out by the kernel, so shares are counted in each
/// lane for itself: a light step is never kept waiting by an encode. A job larger than the machine runs when nothing else does. What was
/// overtaken ``overtakesMax`` times is next in its lane, and once its lane is empty next on the machine: nothing waits for ever.
public struct Admission: Sendable {
    /// A job that could be claimed.
    public struct Candidate: Hashable, Sendable {
        public var id: JobID
        public var lane: Lane
        public var demand: Demand
        public var runsAlone: Bool

        public init(id: JobID, lane: Lane, demand: Demand, runsAlone: Bool = false) {
            self.id = id
            self.lane = lane
            self.demand = demand
            self.runsAlone = runsAlone
        }
    }

    public static let overtakesMax = 16

    public var capacity: Demand
    private(set) public var running: [JobID: Candidate] = [:]
    /// How often each job that did not fit was overtaken.
    private var overtaken: [JobID: (lane: Lane, count: Int)] = [:]
    private var reserved: (id: JobID, lane: Lane)?

    public init(capacity: Demand) { self.capacity = capacity }

    /// Chooses among all that could run, in their order, at most `slots` of a lane.
    public mutating func choose(from candidates: [Candidate], slots: [Lane: Int]) -> [JobID] {
        // What was waiting and is not there any more is forgotten.
        let present = Set(candidates.map(\.id))
        overtaken = overtaken.filter { present.contains($0.key) }
        if let next = reserved, !present.contains(next.id) { reserved = nil }
        var free = slots
        return candidates.filter { candidate in
            guard free[candidate.lane, default: 0] > 0, admit(candidate) else { return false }
            free[candidate.lane]? -= 1
            return true
        }.map(\.id)
    }

    /// Takes the job on, if there is room beside what runs.
    mutating func admit(_ candidate: Candidate) -> Bool {
        precondition(running[candidate.id] == nil, "a job is admitted once")
        if let next = reserved, next.id != candidate.id, next.lane == candidate.lane || !running.values.contains(where: { $0.lane == next.lane }) { return false }
        guard fits(candidate) else {
            if overtaken[candidate.id] == nil { overtaken[candidate.id] = (candidate.lane, 0) }
            return false
        }
        overtaken[candidate.id] = nil
        if reserved?.id == candidate.id { reserved = nil }
        for (id, entry) in overtaken {
            overtaken[id]?.count += 1
            if entry.count + 1 >= Self.overtakesMax, reserved == nil { reserved = (id, entry.lane) }
        }
        running[candidate.id] = candidate
        return true
    }

    public mutating func remove(_ id: JobID) { running[id] = nil }

    private func fits(_ candidate: Candidate) -> Bool {
        if running.isEmpty { return true }
        if candidate.runsAlone || running.values.contains(where: \.runsAlone) { return false }
        let all = running.values.map(\.demand)
        let shares = running.values.filter { $0.lane == candidate.lane }.map(\.demand.cpuShares)
        return (shares.isEmpty || shares.reduce(candidate.demand.cpuShares, +) <= capacity.cpuShares)
            && all.reduce(candidate.demand.memoryBytes) { $0 &+ $1.memoryBytes } <= capacity.memoryBytes
            && all.reduce(candidate.demand.diskBytes) { $0 &+ $1.diskBytes } <= capacity.diskBytes
    }
}
