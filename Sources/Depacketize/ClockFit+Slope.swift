/// How fast an envelope rises: several answers, and the one that most of it bears out.
extension ClockFit {
    /// Packets that came faster than a path allows for: fewer than what makes a level (``DelayStep/windowsMin``).
    private static let belowMax = DelayStep.windowsMin - 1
    /// Of so many parts of the envelope each counts, wholly if this share of its windows comes down to the line.
    private static let parts = 10
    private static let shareMax = 0.25
    /// The hull's edge is left only for what is borne out by so much more.
    private static let supportRatioMin = 1.1
    /// The medians are over pairs of blocks of so many windows, so many blocks apart.
    private static let blockWindows = 4
    private static let blocksApart = [2, 5]
    /// A drift that is smaller, over a short time, is rather the network's own change.
    private static let shortSlopeMin = 100e-6

    /// What lies as near together as this is level: by how much neighbours differ (the median deviation, as a normal distribution's sigma).
    static func tolerance(_ envelope: [Minimum]) -> Double {
        let differences = zip(envelope, envelope.dropFirst()).compactMap { $1.media - $0.media <= DelayStep.pauseSecondsMax ? $1.delay - $0.delay : nil }
        let usual = Wander.median(differences)
        let sigma = 1.4826 / 2.0.squareRoot() * Wander.median(differences.map { abs($0 - usual) })
        return max(DelayStep.levelSeconds, 2.5 * sigma)
    }

    /// The slope of the line below all of `envelope`, ascending in media time; nil where none could be a clock's.
    static func slope(_ envelope: [Minimum]) -> Double? {
        let tolerance = tolerance(envelope)
        let supported = candidates(envelope).map { (slope: $0, support: support(envelope, $0, tolerance)) }
        guard let first = supported.first, let best = supported.max(by: { $0.support < $1.support }) else { return nil }
        return best.support > supportRatioMin * first.support ? best.slope : first.slope
    }

    /// The slope in which most windows lie at one level, whichever; 0 where it is too little to be told from the network.
    static func localSlope(_ envelope: [Minimum], _ tolerance: Double) -> Double {
        guard let first = envelope.first, let last = envelope.last else { return 0 }
        let alike = candidates(envelope).map { (slope: $0, count: mode(envelope, $0, tolerance)) }
        let slope = alike.max { $0.count < $1.count }?.slope ?? 0
        return last.media - first.media >= slopeSecondsMin || abs(slope) >= shortSlopeMin ? slope : 0
    }

    /// The edge of the lower convex hull under the mean time (Moon, Skelly and Towsley 1999), which no queue moves, and medians over pairs
    /// that are near each other, which no other path moves.
    private static func candidates(_ envelope: [Minimum]) -> [Double] {
        let blocks = stride(from: 0, to: envelope.count, by: blockWindows).compactMap { begin in
            envelope[begin..<min(envelope.count, begin + blockWindows)].min { $0.delay < $1.delay }
        }
        let medians = blocksApart.compactMap { apart -> Double? in
            let slopes = zip(blocks, blocks.dropFirst(apart)).compactMap { $0.media < $1.media ? ($1.delay - $0.delay) / ($1.media - $0.media) : nil }
            return slopes.isEmpty ? nil : Wander.median(slopes)
        }
        return ([hullSlope(envelope)].compactMap { $0 } + medians).filter { abs($0) <= driftMax }
    }

    private static func hullSlope(_ envelope: [Minimum]) -> Double? {
        var hull: [Minimum] = []
        for point in envelope {
            while hull.count >= 2 {
                let (a, b) = (hull[hull.count - 2], hull[hull.count - 1])
                guard (b.delay - a.delay) * (point.media - a.media) >= (point.delay - a.delay) * (b.media - a.media) else { break }
                hull.removeLast()
            }
            hull.append(point)
        }
        let mean = envelope.reduce(0) { $0 + $1.media } / Double(envelope.count)
        guard let right = hull.firstIndex(where: { $0.media >= mean }), right > 0, hull[right].media > hull[right - 1].media else { return nil }
        return (hull[right].delay - hull[right - 1].delay) / (hull[right].media - hull[right - 1].media)
    }

    /// In how many of the envelope's parts windows come down to the line of this slope below all but a few of them.
    private static func support(_ envelope: [Minimum], _ slope: Double, _ tolerance: Double) -> Double {
        let rests = envelope.map { $0.delay - slope * $0.media }
        let lowest = rests.sorted().prefix(min(belowMax, rests.count / 8) + 1)
        return lowest.map { low in
            (0..<parts).reduce(0) { sum, part in
                let windows = rests[rests.count * part / parts..<rests.count * (part + 1) / parts]
                guard !windows.isEmpty else { return sum }
                return sum + min(1, Double(windows.count { $0 >= low && $0 <= low + tolerance }) / (Double(windows.count) * shareMax))
            }
        }.max() ?? 0
    }

    /// The most windows that lie at one level of this slope.
    private static func mode(_ envelope: [Minimum], _ slope: Double, _ tolerance: Double) -> Int {
        let rests = envelope.map { $0.delay - slope * $0.media }.sorted()
        var (first, most) = (0, 0)
        for place in rests.indices {
            while rests[place] - rests[first] > tolerance { first += 1 }
            most = max(most, place - first + 1)
        }
        return most
    }
}
