import Media

/// Finds workers that are not heard of any more, without trusting anybody's wall clock.
///
/// A worker's row carries a beat that it counts up. An observer that has seen the same beat for a whole lease, by its own monotonic clock,
/// calls the worker lost. A step of the wall clock changes nothing, and clocks of two machines are never compared. Time in which the observer
/// itself did not look (stopped, or its machine suspended) counts as one gap at most: who was stopped with everybody else blames nobody.
public struct LeaseWatch: Sendable {
    public var lease: Nanoseconds
    /// Most that two looks in a row add to a worker's silence.
    public var gapMax: Nanoseconds
    private var seen: [WorkerID: (beat: Int64, silence: Nanoseconds)] = [:]
    private var lastLook: Nanoseconds?

    public init(lease: Nanoseconds = .seconds(30), gapMax: Nanoseconds = .seconds(10)) {
        self.lease = lease
        self.gapMax = gapMax
    }

    /// Takes note of the beats of all workers that run jobs, at `now` on a monotonic clock; returns the lost ones.
    public mutating func observe(_ beats: [WorkerID: Int64], now: Nanoseconds) -> [WorkerID] {
        let gap = min(max(now - (lastLook ?? now), .zero), gapMax)
        lastLook = now
        seen = beats.reduce(into: [:]) { next, worker in
            let before = seen[worker.key]
            next[worker.key] = (worker.value, before?.beat == worker.value ? (before?.silence ?? .zero) + gap : .zero)
        }
        return seen.filter { $0.value.silence >= lease }.keys.sorted()
    }
}
