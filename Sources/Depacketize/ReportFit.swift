import Media

/// Relates a sender's RTP clock to the wall clock by its sender reports (RFC 3550 section 6.4.1): RTP time to the sender's NTP clock, and
/// that to ours.
///
/// The NTP clock is the one that a sender's tracks share, so tracks related by it are in step however their packets travelled. Its own
/// offset and drift are found from the reports' arrivals (the fastest tell), never believed: a sender's clock may be years off.
struct ReportFit: Sendable {
    /// One report: seconds on the sender's media clock and on its NTP clock, from origins of their own that stay the same.
    private struct Report: Sendable {
        var media: Double
        var ntp: Double
    }

    private var reports: [Report] = []
    private var arrivals = ClockFit()
    private var every = 1
    private var seen = 0

    static let reportsMax = 8_192
    /// Fewer prove nothing: one may have been held up.
    static let reportsMin = 3
    static let secondsMin = 4.0
    /// A report that lies this far from the line of the others is left out.
    static let outlierSeconds = 0.1
    /// A slope that is not so many times its error is none: a few reports of a source whose sound comes in leaps (a browser's synthesised
    /// sound runs 2 ms a second behind and makes up 10 ms at a time) show one that is not there.
    private static let errorsMin = 3.0
    /// Pairs from which the slope is taken are among at most this many reports.
    private static let slopeReportsMax = 200

    mutating func observe(media: Double, ntp: Double, arrival: Double) {
        arrivals.observe(media: ntp, arrival: arrival)
        defer { seen += 1 }
        guard seen % every == 0 else { return }
        if reports.count >= Self.reportsMax {
            reports = stride(from: 0, to: reports.count, by: 2).map { reports[$0] }
            every *= 2
        }
        reports.append(Report(media: media, ntp: ntp))
    }

    /// Wall seconds (on the arrivals' axis) at media seconds: straight pieces between `knots`, and their slope outside of them.
    struct Mapping: Sendable {
        /// At least one, ascending.
        var knots: [(media: Double, wall: Double)]
        /// Wall seconds less media seconds per media second; nil where too short to tell.
        var slope: Double?

        func wall(_ media: Double) -> Double {
            guard let right = knots.firstIndex(where: { $0.media > media }) else { return outside(knots[knots.count - 1], media) }
            guard right > 0 else { return outside(knots[0], media) }
            let (a, b) = (knots[right - 1], knots[right])
            return a.wall + (media - a.media) * (b.wall - a.wall) / (b.media - a.media)
        }

        private func outside(_ knot: (media: Double, wall: Double), _ media: Double) -> Double { knot.wall + (media - knot.media) * (1 + (slope ?? 0)) }
    }

    /// Nil where the reports are too few or contradict each other.
    func mapping() -> Mapping? {
        let sorted = reports.sorted { $0.media < $1.media }
        guard sorted.count >= Self.reportsMin, let first = sorted.first, let last = sorted.last, last.media - first.media >= Self.secondsMin else { return nil }
        let span = last.media - first.media
        let slope = Self.slope(sorted)
        let offset = Wander.median(sorted.map { $0.ntp - $0.media * (1 + slope) })
        let rests = sorted.map { (media: $0.media, rest: $0.ntp - $0.media * (1 + slope) - offset) }
        let good = rests.filter { abs($0.rest) <= Self.outlierSeconds }
        guard good.count * 4 >= rests.count * 3, abs(slope) <= ClockFit.driftMax else { return nil }
        let toWall = arrivals.withoutDetours(arrivals.steps()).line()
        func wall(_ media: Double, _ rest: Double) -> Double {
            let ntp = media * (1 + slope) + offset + rest
            return ntp + toWall.delay(ntp)
        }
        let wander = Wander.knots(good) { Wander.median($0) }
        let knots = wander.isEmpty ? [(first.media, wall(first.media, 0)), (last.media, wall(last.media, 0))] : wander.map { ($0.media, wall($0.media, $0.rest)) }
        let total = (1 + slope) * (1 + (toWall.slope ?? 0)) - 1
        return Mapping(knots: knots, slope: span >= ClockFit.shortSlopeSecondsMin ? total : nil)
    }

    /// Reports this near to a step, in media seconds, and at least so many on each side, tell of it.
    static let opinionSecondsMax = 25.0
    static let opinionReportsMin = 2

    /// Whether the sender's own clocks step against each other where its packets' delays do: then it is no network.
    func opinion(of step: DelayStep) -> SourceSteps.Opinion {
        func rests(_ range: ClosedRange<Double>) -> [Double] { reports.filter { range.contains($0.media) }.map { $0.ntp - $0.media } }
        let before = rests(step.from - Self.opinionSecondsMax...step.from), behind = rests(step.to...step.to + Self.opinionSecondsMax)
        guard before.count >= Self.opinionReportsMin, behind.count >= Self.opinionReportsMin else { return .none }
        return abs(Wander.median(behind) - Wander.median(before) - step.seconds) <= abs(step.seconds) / 4 ? .confirmed : .contradicted
    }

    func without(_ steps: SourceSteps) -> ReportFit {
        guard !steps.steps.isEmpty else { return self }
        var fit = self
        for place in fit.reports.indices { fit.reports[place].ntp -= steps.sum(upTo: fit.reports[place].media) }
        return fit
    }

    /// The median slope over pairs (Theil and Sen) that are at least half the span apart; 0 where it cannot be told from none.
    private static func slope(_ sorted: [Report]) -> Double {
        guard let first = sorted.first, let last = sorted.last, last.media - first.media >= ClockFit.shortSlopeSecondsMin else { return 0 }
        let step = max(1, sorted.count / slopeReportsMax)
        let some = stride(from: 0, to: sorted.count, by: step).map { sorted[$0] }
        var slopes: [Double] = []
        for (place, a) in some.enumerated() {
            for b in some[(place + 1)...] where b.media - a.media >= (last.media - first.media) / 2 {
                slopes.append((b.ntp - a.ntp - (b.media - a.media)) / (b.media - a.media))
            }
        }
        let slope = Wander.median(slopes)
        return abs(slope) > errorsMin * error(of: slope, sorted) ? slope : 0
    }

    /// By how much a slope of the reports may be wrong: what it leaves over, as the standard error of a line through as many.
    private static func error(of slope: Double, _ sorted: [Report]) -> Double {
        let all = sorted.map { $0.ntp - $0.media * (1 + slope) }
        let middle = Wander.median(all)
        let rests = all.filter { abs($0 - middle) <= outlierSeconds }
        let mean = rests.reduce(0, +) / Double(max(1, rests.count))
        let variance = rests.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(1, rests.count - 2))
        return (variance * 12 / Double(max(1, rests.count))).squareRoot() / (sorted[sorted.count - 1].media - sorted[0].media)
    }
}
