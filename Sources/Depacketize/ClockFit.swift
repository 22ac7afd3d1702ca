import Media

/// Relates a sender's clock to the wall clock from arrival times alone.
///
/// The network only ever delays, so the fastest packets tell: for each, delay = arrival - media time is smallest. The minimum over each
/// second is kept, an envelope, and the line below all of it gives offset and drift (``slope(_:)``). Stalls and bursts lie above it and move
/// nothing; where the way itself becomes longer or shorter, the envelope steps (``DelayStep``).
struct ClockFit: Sendable {
    /// wall = media + offset + slope x (media - at); `slope` is nil where it cannot be told from the network's own changes.
    struct Line: Sendable {
        var at: Double
        var offset: Double
        var slope: Double?

        func delay(_ media: Double) -> Double { offset + (slope ?? 0) * (media - at) }
    }

    /// The fastest of a window's packets: media seconds, and delay in seconds.
    struct Minimum: Hashable, Sendable {
        var media: Double
        var delay: Double
    }

    /// Seconds of arrival that one minimum stands for; doubled when there are too many.
    private var windowSeconds = 1.0
    var minima: [Minimum] = []
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
            minima.append(Minimum(media: media, delay: delay))
        } else if delay < minima[minima.count - 1].delay {
            minima[minima.count - 1] = Minimum(media: media, delay: delay)
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

    /// In the order of media time: packets overtake each other.
    func sorted() -> [Minimum] { minima.sorted { $0.media < $1.media } }

    func line() -> Line {
        let points = sorted()
        guard let first = points.first, let last = points.last else { return Line(at: 0, offset: 0, slope: nil) }
        let flat = Line(at: first.media, offset: points.map(\.delay).min() ?? 0, slope: nil)
        let span = last.media - first.media
        guard span >= Self.shortSlopeSecondsMin, let slope = Self.slope(points) else { return flat }
        guard span >= Self.slopeSecondsMin || abs(slope) * span >= Self.shortSlopeShiftMin else { return flat }
        guard let lowest = points.min(by: { $0.delay - slope * $0.media < $1.delay - slope * $1.media }) else { return flat }
        return Line(at: lowest.media, offset: lowest.delay, slope: slope)
    }

    /// What `line` leaves over, where a clock's wandering can be told: see ``Wander``.
    func wander(around line: Line) -> [(media: Double, rest: Double)] {
        guard line.slope != nil else { return [] }
        let rests = sorted().map { (media: $0.media, rest: $0.delay - line.delay($0.media)) }
        return Wander.knots(rests) { $0.min() ?? 0 }
    }
}
