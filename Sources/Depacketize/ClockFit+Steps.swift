import Media

extension ClockFit {
    /// Where the delays' level steps.
    ///
    /// The clock's drift must be known to see them, and they must be known to see the drift: so both are found twice.
    func steps() -> [DelayStep] {
        let envelope = sorted()
        guard envelope.count >= 2 * DelayStep.windowsMin else { return [] }
        let tolerance = Self.tolerance(envelope)
        var steps: [DelayStep] = []
        for _ in 0..<2 { steps = DelayStep.all(in: envelope, slope: Self.localSlope(Self.level(envelope, steps), tolerance), tolerance: tolerance) }
        return steps
    }

    /// The clock alone, without the source's slips and the network's other paths; the slips come back to be laid into its mapping.
    func clock(_ reports: ReportFit, isSound: Bool) -> (fit: ClockFit, slips: SourceSteps) {
        let found = steps()
        // What pictures lose is not sent, and their time stamps know of it.
        let slips = isSound ? SourceSteps(among: found) { reports.opinion(of: $0) } : .none
        let places = Set(slips.steps.map(\.at))
        return (without(slips).withoutDetours(found.filter { !places.contains($0.at) }), slips)
    }

    private func without(_ slips: SourceSteps) -> ClockFit {
        guard !slips.steps.isEmpty else { return self }
        var fit = self
        fit.minima = minima.map { Minimum(media: $0.media, delay: $0.delay - slips.sum(upTo: $0.media)) }
        return fit
    }

    /// Levels that go on in one direction by more than this many of their largest step are in doubt.
    private static let oneWayStepsMax = 2.0

    /// Everything as if it had taken the shortest of its paths: `detours` say where the way became longer or shorter.
    ///
    /// Steps that go on in one direction look like a clock that drifts and is set again and again, and such a clock looks like them. Of the
    /// two drifts the smaller is believed.
    func withoutDetours(_ detours: [DelayStep]) -> ClockFit {
        guard !detours.isEmpty else { return self }
        let levels = detours.reduce(into: [0.0]) { $0.append($0[$0.count - 1] + $1.seconds) }
        let range = (levels.max() ?? 0) - (levels.min() ?? 0)
        var fit = self
        fit.minima = Self.level(minima, detours)
        guard range > Self.oneWayStepsMax * (detours.map { abs($0.seconds) }.max() ?? 0) + DelayStep.levelSeconds else { return fit }
        return abs(Self.slope(fit.sorted()) ?? 0) < abs(Self.slope(sorted()) ?? 0) ? fit : self
    }

    /// `minima` less the level of each, the lowest of which is 0.
    private static func level(_ minima: [Minimum], _ steps: [DelayStep]) -> [Minimum] {
        guard !steps.isEmpty else { return minima }
        let levels = steps.reduce(into: [0.0]) { $0.append($0[$0.count - 1] + $1.seconds) }
        let least = levels.min() ?? 0
        return minima.map { minimum in
            Minimum(media: minimum.media, delay: minimum.delay - levels[steps.prefix { $0.at <= minimum.media }.count] + least)
        }
    }
}
