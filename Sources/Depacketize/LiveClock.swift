import Media

/// An epoch's clock while it is still being found out: what was given out stays, and what follows is bent towards the better line.
///
/// There is never a step, and never a pace that is further from the sender's than ``correctionMax``.
struct LiveClock: Sendable {
    /// Half a thousandth: 1 ms within 2 s, which neither eye nor ear nor the mix's resampler minds.
    static let correctionMax = 500e-6
    /// A line that turns out to be further off than this was none.
    static let deviationMax = Nanoseconds.milliseconds(40)
    /// Nearer than this the line stays as it is.
    static let deviationMin = Nanoseconds(count: 100_000)
    static let slopeDifferenceMin = 1e-6
    /// Nothing given out lies further back than this many bends.
    static let knotsMax = 64

    private(set) var clock: MediaClock

    init(_ clock: MediaClock) { self.clock = clock }

    /// Bends towards `better` from the moment `given` on, up to which times were given out. False where the two are too far apart.
    mutating func follow(_ better: MediaClock, from given: WallTime) -> Bool {
        let begin = clock.timestamp(at: given)
        let wall = clock.wall(begin)
        let deviation = better.wall(begin) - wall
        guard abs(deviation.count) <= Self.deviationMax.count else { return false }
        let isNear = abs(deviation.count) < Self.deviationMin.count
        if isNear, abs(better.nanosecondsPerTick / clock.nanosecondsPerTick - 1) < Self.slopeDifferenceMin { return true }
        // At least a second, so that a small deviation is no jolt either.
        let length = max(1e9, Double(abs(deviation.count)) / Self.correctionMax)
        let end = begin + Int64((length / better.nanosecondsPerTick).rounded())
        var knots = Array(clock.knots.filter { $0.timestamp < begin && $0.wall < wall }.suffix(Self.knotsMax))
        knots.append(.init(timestamp: begin, wall: wall))
        knots.append(.init(timestamp: end, wall: better.wall(end)))
        clock = MediaClock(knots: knots, nanosecondsPerTick: better.nanosecondsPerTick)
        return true
    }
}
