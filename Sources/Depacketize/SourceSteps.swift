/// Where a source lost, or made up, a little sound at once while its time stamps went on: from there on all of it arrives later, or
/// earlier, than before.
///
/// Browsers hand captured sound on in pieces of 10 ms (WebRTC's frame), and now and then one is lost on its way to the encoder. A network's
/// path that changes looks alike (``DelayStep``), so the delays alone are believed only where the step is whole pieces of 10 ms; where the
/// sender's reports tell (they know nothing of the network), they decide.
struct SourceSteps: Sendable {
    /// What the sender's reports say about a step.
    enum Opinion: Hashable, Sendable { case none, confirmed, contradicted }

    static let none = SourceSteps(steps: [])
    static let pieceSeconds = 0.010
    /// Larger ones are no slip of a source, but a jump or a network.
    static let secondsMax = 0.055
    /// Smaller ones are not confirmed by reports either.
    static let secondsMin = DelayStep.sharpSecondsMin

    private(set) var steps: [DelayStep]

    private init(steps: [DelayStep]) { self.steps = steps }

    /// Those of `found` that are the source's.
    init(among found: [DelayStep], opinion: (DelayStep) -> Opinion) { steps = found.compactMap { Self.slip($0, opinion) } }

    private static func slip(_ found: DelayStep, _ opinion: (DelayStep) -> Opinion) -> DelayStep? {
        guard found.isSharp, abs(found.seconds) >= secondsMin, abs(found.seconds) <= secondsMax else { return nil }
        switch opinion(found) {
        case .confirmed: return found
        case .contradicted: return nil
        case .none:
            var step = found
            step.seconds = (found.seconds / pieceSeconds).rounded() * pieceSeconds
            return step.seconds != 0 && abs(step.seconds - found.seconds) <= DelayStep.levelSeconds ? step : nil
        }
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
