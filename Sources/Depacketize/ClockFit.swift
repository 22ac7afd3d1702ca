import Media

/// Relates a sender's media clock to the wall clock from arrival times alone.
///
/// The network only ever delays, so the fastest packets tell: for each, delay = arrival - media time is smallest. The minimum over each
/// second is kept; the line below all minima (the edge of their lower convex hull under the mean time, Moon, Skelly and Towsley 1999)
/// gives offset and drift. Stalls and bursts lie above it and move nothing.
struct ClockFit {
    /// Seconds of arrival that one minimum stands for; doubled when there are too many.
    private var windowSeconds = 1.0
    private(set) var minima: [(media: Double, delay: Double)] = []
    private var windowStart = -Double.infinity

    static let minimaMax = 20_000
    /// A slope is believed only over at least this long: a millisecond of jitter over two minutes is 8 ppm.
    static let slopeSecondsMin = 120.0
    /// More is no clock.
    static let driftMax = 500e-6

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

    /// wall = media + offset + slope x (media - at); `slope` is nil where the span is too short to tell one.
    func line() -> (at: Double, offset: Double, slope: Double?) {
        guard let first = minima.first, let last = minima.last else { return (0, 0, nil) }
        let flat = (first.media, minima.map(\.delay).min() ?? 0, nil as Double?)
        guard last.media - first.media >= Self.slopeSecondsMin else { return flat }
        var hull: [(media: Double, delay: Double)] = []
        for point in minima {
            while hull.count >= 2 {
                let (a, b) = (hull[hull.count - 2], hull[hull.count - 1])
                guard (b.delay - a.delay) * (point.media - a.media) >= (point.delay - a.delay) * (b.media - a.media) else { break }
                hull.removeLast()
            }
            hull.append(point)
        }
        let mean = minima.reduce(0) { $0 + $1.media } / Double(minima.count)
        guard let right = hull.firstIndex(where: { $0.media >= mean }), right > 0 else { return flat }
        let (a, b) = (hull[right - 1], hull[right])
        let slope = (b.delay - a.delay) / (b.media - a.media)
        guard abs(slope) <= Self.driftMax else { return flat }
        return (a.media, a.delay, slope)
    }
}
