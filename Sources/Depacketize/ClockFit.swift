import Media

/// Relates a sender's clock to the wall clock from arrival times alone.
///
/// The network only ever delays, so the fastest packets tell: for each, delay = arrival - media time is smallest. The minimum over each
/// second is kept; the line below all minima (the edge of their lower convex hull under the mean time, Moon, Skelly and Towsley 1999)
/// gives offset and drift. Stalls and bursts lie above it and move nothing.
struct ClockFit: Sendable {
    /// wall = media + offset + slope x (media - at); `slope` is nil where it cannot be told from the network's own changes.
    struct Line: Sendable {
        var at: Double
        var offset: Double
        var slope: Double?

        func delay(_ media: Double) -> Double { offset + (slope ?? 0) * (media - at) }
    }

    /// Seconds of arrival that one minimum stands for; doubled when there are too many.
    private var windowSeconds = 1.0
    var minima: [(media: Double, delay: Double)] = []
    private var windowStart = -Double.infinity

    static let minimaMax = 20_000
    /// From this length on a slope is believed as it is: a millisecond of jitter over two minutes is 8 ppm.
    static let slopeSecondsMin = 120.0
    /// Before, only a slope that moves the end by more than the network would.
    static let shortSlopeSecondsMin = 20.0
    static let shortSlopeShiftMin = 0.015
    /// Clocks are within ±500 ppm; a little more is an error of measurement, much more is no clock.
    static let driftMax = 1_000e-6

    /// `media` seconds on the sender's clock, `arrival` seconds on ours, both from origins of their own that stay the same.
    mutating func observe(media: Double, arrival: Double) {
        let delay = arrival - media
        if arrival - windowStart >= windowSeconds || minima.isEmpty {
            if minima.count >= Self.minimaMax { coarsen() }
            windowStart = arrival
            minima.append((media, delay))
        } else if delay < minima[minima.count - 1].delay {
            minima[minima.count - 1] = (media, delay)
        }
    }

    private mutating func coarsen() {
        windowSeconds *= 2
        minima = stride(from: 0, to: minima.count, by: 2).map { i in
            i + 1 < minima.count && minima[i + 1].delay < minima[i].delay ? minima[i + 1] : minima[i]
        }
    }

    /// The smallest delay of about the last ten windows.
    var recentDelay: Double? { minima.suffix(10).map(\.delay).min() }

    func line() -> Line {
        // In the order of media time: packets overtake each other.
        let points = minima.sorted { $0.media < $1.media }
        guard let first = points.first, let last = points.last else { return Line(at: 0, offset: 0, slope: nil) }
        let flat = Line(at: first.media, offset: points.map(\.delay).min() ?? 0, slope: nil)
        let span = last.media - first.media
        guard span >= Self.shortSlopeSecondsMin else { return flat }
        var hull: [(media: Double, delay: Double)] = []
        for point in points {
            while hull.count >= 2 {
                let (a, b) = (hull[hull.count - 2], hull[hull.count - 1])
                guard (b.delay - a.delay) * (point.media - a.media) >= (point.delay - a.delay) * (b.media - a.media) else { break }
                hull.removeLast()
            }
            hull.append(point)
        }
        let mean = points.reduce(0) { $0 + $1.media } / Double(points.count)
        guard let right = hull.firstIndex(where: { $0.media >= mean }), right > 0, hull[right].media > hull[right - 1].media else { return flat }
        let (a, b) = (hull[right - 1], hull[right])
        let slope = (b.delay - a.delay) / (b.media - a.media)
        guard abs(slope) <= Self.driftMax, span >= Self.slopeSecondsMin || abs(slope) * span >= Self.shortSlopeShiftMin else { return flat }
        return Line(at: a.media, offset: a.delay, slope: slope)
    }

    /// What `line` leaves over, where a clock's wandering can be told: see ``Wander``.
    func wander(around line: Line) -> [(media: Double, rest: Double)] {
        guard line.slope != nil else { return [] }
        let rests = minima.sorted { $0.media < $1.media }.map { (media: $0.media, rest: $0.delay - line.delay($0.media)) }
        return Wander.knots(rests) { $0.min() ?? 0 }
    }
}
