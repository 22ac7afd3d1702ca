import Media

/// Maps one epoch's extended RTP time stamps to wall time: a line of straight pieces without a step.
public struct MediaClock: Hashable, Sendable {
    struct Knot: Hashable, Sendable {
        var timestamp: Int64
        var wall: WallTime
    }

    /// At least one, ascending in both.
    let knots: [Knot]
    /// Before the first knot and after the last.
    let nanosecondsPerTick: Double

    init(knots: [Knot], nanosecondsPerTick: Double) {
        precondition(!knots.isEmpty)
        self.knots = knots
        self.nanosecondsPerTick = nanosecondsPerTick
    }

    /// Wall time of an extended time stamp of this epoch.
    public func wall(_ timestamp: Int64) -> WallTime {
        let first = knots[0], last = knots[knots.count - 1]
        if timestamp <= first.timestamp || knots.count == 1 { return along(first, timestamp, nanosecondsPerTick) }
        if timestamp >= last.timestamp { return along(last, timestamp, nanosecondsPerTick) }
        var (low, high) = (0, knots.count - 1)
        while high - low > 1 {
            let middle = (low + high) / 2
            if knots[middle].timestamp <= timestamp { low = middle } else { high = middle }
        }
        let (a, b) = (knots[low], knots[high])
        return along(a, timestamp, Double((b.wall - a.wall).count) / Double(b.timestamp - a.timestamp))
    }

    /// The time stamp at a moment: the other way round, to a tick or two.
    func timestamp(at time: WallTime) -> Int64 {
        let place = max(0, (knots.firstIndex { $0.wall > time } ?? knots.count) - 1)
        let knot = knots[place]
        var slope = nanosecondsPerTick
        if time > knot.wall, place + 1 < knots.count { slope = Double((knots[place + 1].wall - knot.wall).count) / Double(knots[place + 1].timestamp - knot.timestamp) }
        return knot.timestamp + Int64((Double((time - knot.wall).count) / slope).rounded())
    }

    private func along(_ knot: Knot, _ timestamp: Int64, _ slope: Double) -> WallTime {
        let length = Double(timestamp &- knot.timestamp) * slope
        // Years away is no time of this recording, and must not trap.
        return abs(length) < 4e18 ? knot.wall + Nanoseconds(count: Int64(length.rounded())) : WallTime(nanoseconds: length < 0 ? .min / 2 : .max / 2)
    }
}

/// Follows what a straight line leaves over: clocks wander, slowly.
///
/// One value a minute, each the median of itself and its neighbours, so that a bad minute moves nothing, and never changing faster than a
/// clock can.
enum Wander {
    static let windowSeconds = 60.0
    /// Faster is the network and no clock.
    static let slopeMax = 100e-6
    /// Smaller than this it is left alone.
    static let secondsMin = 0.005

    /// `points` in ascending order of `media`; `merge` makes one value of those of a window. Empty where a straight line does.
    static func knots(_ points: [(media: Double, rest: Double)], merge: ([Double]) -> Double) -> [(media: Double, rest: Double)] {
        guard let first = points.first, let last = points.last, last.media - first.media >= 4 * windowSeconds else { return [] }
        var windows: [(media: Double, rest: Double)] = []
        var place = 0
        while place < points.count {
            let begin = points[place].media
            var values: [Double] = []
            while place < points.count, points[place].media < begin + windowSeconds {
                values.append(points[place].rest)
                place += 1
            }
            windows.append((begin + windowSeconds / 2, merge(values)))
        }
        let smooth = windows.indices.map { i in median([windows[max(0, i - 1)].rest, windows[i].rest, windows[min(windows.count - 1, i + 1)].rest]) }
        guard let least = smooth.min(), let most = smooth.max(), most - least > secondsMin else { return [] }
        var knots = [(media: windows[0].media, rest: smooth[0])]
        for (window, rest) in zip(windows, smooth).dropFirst() {
            let before = knots[knots.count - 1]
            let limit = slopeMax * (window.media - before.media)
            knots.append((window.media, min(max(rest, before.rest - limit), before.rest + limit)))
        }
        return knots
    }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    }
}
