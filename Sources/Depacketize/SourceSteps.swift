/// Where a source lost, or made up, a little sound at once while its time stamps went on: from there on all of it arrives later, or
/// earlier, than before.
///
/// Browsers hand captured sound on in pieces of 10 ms (WebRTC's frame), and now and then one is lost on its way to the encoder. The lower
/// envelope of the delays shows it: level before, level behind, each touched again and again, and a step between them. A network's path
/// that changes looks alike, so the envelope alone is believed only where the step is whole pieces of 10 ms; where the sender's reports
/// tell (they know nothing of the network), they decide. Stalls, bursts and queues do not stay level, or come back.
struct SourceSteps: Sendable {
    struct Step: Hashable, Sendable {
        /// Media seconds of the last sign of the old level, of the first window of the new one, and of the first sign of it.
        var from: Double
        var at: Double
        var to: Double
        /// Later from there on.
        var seconds: Double
    }

    /// What the sender's reports say about a step.
    enum Opinion: Hashable, Sendable { case none, confirmed, contradicted }

    static let none = SourceSteps(steps: [])
    /// Windows of the envelope on each side, at least and at most, and how many of them must come down to the level.
    static let windowsMin = 8
    static let windowsMax = 20
    static let touchesMin = 4
    /// As near to the level is on it.
    static let levelSeconds = 0.001
    /// A pause longer than this between two windows breaks the envelope off.
    static let pauseSecondsMax = 30.0
    static let pieceSeconds = 0.010
    /// Larger ones are no slip of a source, but a jump or a network.
    static let secondsMax = 0.055
    /// The least step that reports can confirm.
    static let secondsMin = 0.005
    static let stepsMax = 1_000

    private(set) var steps: [Step]

    private init(steps: [Step]) { self.steps = steps }

    /// Looks for steps in an envelope's `minima`, ascending in media time, of a clock that drifts by `slope`.
    init(_ minima: [(media: Double, delay: Double)], slope: Double, opinion: (Step) -> Opinion) {
        steps = []
        let rests = minima.map { (media: $0.media, delay: $0.delay - slope * $0.media) }
        var (begin, place) = (0, Self.windowsMin)
        while place + Self.windowsMin <= rests.count, steps.count < Self.stepsMax {
            if rests[place].media - rests[place - 1].media > Self.pauseSecondsMax { (begin, place) = (place, place + Self.windowsMin) }
            guard place + Self.windowsMin <= rests.count, var found = Self.step(rests, begin, place, opinion) else {
                place += 1
                continue
            }
            // A rise is found at once behind the old level's last sign, a fall up to the new one's first sign.
            while found.seconds < 0, place + 1 + Self.windowsMin <= rests.count, let next = Self.step(rests, begin, place + 1, opinion), next.seconds < 0 {
                (found, place) = (next, place + 1)
            }
            steps.append(found)
            (begin, place) = (place, place + Self.windowsMin)
        }
    }

    private static func step(_ rests: [(media: Double, delay: Double)], _ begin: Int, _ place: Int, _ opinion: (Step) -> Opinion) -> Step? {
        let before = rests[max(begin, place - windowsMax)..<place], behind = rests[place..<min(rests.count, place + windowsMax)]
        guard let low = level(before), let high = level(behind), abs(high - low) >= secondsMin, abs(high - low) <= secondsMax else { return nil }
        guard let from = before.last(where: { $0.delay <= low + levelSeconds }), let to = behind.first(where: { $0.delay <= high + levelSeconds }),
              from.media < to.media else { return nil }
        let pieces = ((high - low) / pieceSeconds).rounded() * pieceSeconds
        var step = Step(from: from.media, at: rests[place].media, to: to.media, seconds: high - low)
        switch opinion(step) {
        case .confirmed: return step
        case .contradicted: return nil
        case .none:
            guard pieces != 0, abs(step.seconds - pieces) <= levelSeconds else { return nil }
            step.seconds = pieces
            return step
        }
    }

    /// What a stretch of the envelope comes down to again and again; nil where it does not, or breaks off.
    private static func level(_ windows: ArraySlice<(media: Double, delay: Double)>) -> Double? {
        guard windows.count >= windowsMin, let least = windows.map(\.delay).min() else { return nil }
        guard zip(windows, windows.dropFirst()).allSatisfy({ $1.media - $0.media <= pauseSecondsMax }) else { return nil }
        return windows.count { $0.delay <= least + levelSeconds } >= touchesMin ? least : nil
    }

    /// All steps up to `media`: what must be taken off to see the clock alone.
    func sum(upTo media: Double) -> Double { steps.prefix { $0.at <= media }.reduce(0) { $0 + $1.seconds } }

    /// The same without a step: each is spread from the last sign before it to the first behind it.
    private func spread(at media: Double) -> Double {
        steps.reduce(0) { $0 + $1.seconds * min(1, max(0, (media - $1.from) / ($1.to - $1.from))) }
    }

    /// A mapping of the clock alone, with the steps laid into it.
    func bend(_ clock: ReportFit.Mapping) -> ReportFit.Mapping {
        guard !steps.isEmpty else { return clock }
        let places = Set(clock.knots.map(\.media) + steps.flatMap { [$0.from, $0.to] }).sorted()
        return ReportFit.Mapping(knots: places.map { ($0, clock.wall($0) + spread(at: $0)) }, slope: clock.slope)
    }
}

extension ClockFit {
    /// Blocks of this many windows, so many blocks apart, tell a long envelope's slope whatever steps are in it.
    private static let blockWindows = 4
    private static let blocksApart = 5

    /// Where the source slipped, as far as it is certain; `reports` of the same clock.
    func steps(_ reports: ReportFit) -> SourceSteps {
        let sorted = minima.sorted { $0.media < $1.media }
        guard let first = sorted.first, let last = sorted.last else { return .none }
        var slope = 0.0
        if last.media - first.media >= Self.slopeSecondsMin {
            let blocks = stride(from: 0, to: sorted.count, by: Self.blockWindows).compactMap { begin in
                sorted[begin..<min(sorted.count, begin + Self.blockWindows)].min { $0.delay < $1.delay }
            }
            slope = Wander.median(zip(blocks, blocks.dropFirst(Self.blocksApart)).compactMap { $0.media < $1.media ? ($1.delay - $0.delay) / ($1.media - $0.media) : nil })
        }
        return SourceSteps(sorted, slope: abs(slope) <= Self.driftMax ? slope : 0) { reports.opinion(of: $0) }
    }

    func without(_ steps: SourceSteps) -> ClockFit {
        guard !steps.steps.isEmpty else { return self }
        var fit = self
        fit.minima = minima.map { ($0.media, $0.delay - steps.sum(upTo: $0.media)) }
        return fit
    }
}
