/// Where the fastest packets' delay goes at once from one level to another: a source that slipped, or another path through the network.
///
/// The lower envelope of the delays shows it: level before, level behind, each touched again and again, and a step between them that is
/// larger than what a ramp could pretend. Stalls, bursts and queues do not stay level, or come back.
struct DelayStep: Hashable, Sendable {
    /// Media seconds of the last sign of the old level, of the first window of the new one, and of the first sign of it.
    var from: Double
    var at: Double
    var to: Double
    /// Later from there on.
    var seconds: Double
    /// Whether both levels are touched to ``levelSeconds``: then the step is known as exactly.
    var isSharp: Bool

    /// Windows of the envelope on each side, at least and at most, and how many of them must come down to the level.
    static let windowsMin = 8
    static let windowsMax = 20
    static let touchesMin = 4
    /// As near to the level is on it, at least.
    static let levelSeconds = 0.001
    /// A pause longer than this between two windows breaks the envelope off.
    static let pauseSecondsMax = 30.0
    /// Larger ones are jumps: see ``TrackSurvey``.
    static let secondsMax = 1.0
    /// A ramp that each half of both sides still touches the levels of rises by less than twice the tolerance from one to the other.
    static let tolerancesMin = 3.0
    /// The least sharp one in an envelope that is not as level everywhere.
    static let sharpSecondsMin = 0.005
    static let stepsMax = 1_000

    /// All steps in an envelope, ascending in media time, of a clock that drifts by `slope`; what lies within `tolerance` seconds is level.
    static func all(in envelope: [ClockFit.Minimum], slope: Double, tolerance: Double) -> [DelayStep] {
        let rests = envelope.map { ClockFit.Minimum(media: $0.media, delay: $0.delay - slope * $0.media) }
        var steps: [DelayStep] = []
        var (begin, place) = (0, windowsMin)
        while place + windowsMin <= rests.count, steps.count < stepsMax {
            if rests[place].media - rests[place - 1].media > pauseSecondsMax { (begin, place) = (place, place + windowsMin) }
            guard place + windowsMin <= rests.count, var found = step(rests, begin, place, tolerance) else {
                place += 1
                continue
            }
            // A rise is found at once behind the old level's last sign, a fall up to the new one's first sign.
            while found.seconds < 0, place + 1 + windowsMin <= rests.count, let next = step(rests, begin, place + 1, tolerance), next.seconds < 0 {
                (found, place) = (next, place + 1)
            }
            steps.append(found)
            (begin, place) = (place, place + windowsMin)
        }
        return steps
    }

    private static func step(_ rests: [ClockFit.Minimum], _ begin: Int, _ place: Int, _ tolerance: Double) -> DelayStep? {
        // As many on both sides: the least of more is less.
        let count = min(windowsMax, place - begin, rests.count - place)
        guard count >= windowsMin else { return nil }
        let before = rests[place - count..<place], behind = rests[place..<place + count]
        return step(before, behind, levelSeconds, secondsMin: sharpSecondsMin)
            ?? step(before, behind, tolerance, secondsMin: tolerancesMin * tolerance)
    }

    private static func step(_ before: ArraySlice<ClockFit.Minimum>, _ behind: ArraySlice<ClockFit.Minimum>, _ tolerance: Double, secondsMin: Double) -> DelayStep? {
        guard let low = level(before, tolerance), let high = level(behind, tolerance) else { return nil }
        guard abs(high - low) >= secondsMin, abs(high - low) <= secondsMax, let at = behind.first else { return nil }
        guard let from = before.last(where: { $0.delay <= low + tolerance }), let to = behind.first(where: { $0.delay <= high + tolerance }),
              from.media < to.media else { return nil }
        return DelayStep(from: from.media, at: at.media, to: to.media, seconds: high - low, isSharp: tolerance <= levelSeconds)
    }

    /// What a stretch of the envelope comes down to again and again, in both of its halves; nil where it does not, or breaks off.
    private static func level(_ windows: ArraySlice<ClockFit.Minimum>, _ tolerance: Double) -> Double? {
        guard let least = windows.map(\.delay).min() else { return nil }
        guard zip(windows, windows.dropFirst()).allSatisfy({ $1.media - $0.media <= pauseSecondsMax }) else { return nil }
        let half = windows.count / 2
        return [windows.prefix(half), windows.suffix(half)].allSatisfy { $0.count { $0.delay <= least + tolerance } >= touchesMin / 2 } ? least : nil
    }
}
