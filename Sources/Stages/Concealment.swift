/// Makes up sound that packets without redundancy of their own left out (G.711, G.722, L16), in the spirit of ITU-T G.711 appendix I: the
/// last pitch period goes on, fading out over 60 ms. Pure.
struct Concealment {
    /// The whole of it.
    static let seconds = 0.060
    private let rate: Int
    private let channels: Int
    private var history: [Float] = []
    /// What would have gone on where real sound begins again, for the cross-fade.
    private var going: [Float] = []

    init(rate: Int, channels: Int) { (self.rate, self.channels) = (rate, channels) }

    private var historySamples: Int { rate * 40 / 1000 }
    private var fadeSamples: Int { rate * 4 / 1000 }

    /// Real sound: fades into it out of what was made up, and remembers it.
    mutating func follow(_ samples: inout [Float]) {
        let count = min(going.count, samples.count) / channels
        for i in 0..<count {
            let share = Float(i + 1) / Float(count + 1)
            for channel in i * channels..<(i + 1) * channels { samples[channel] = samples[channel] * share + going[channel] * (1 - share) }
        }
        going = []
        history.append(contentsOf: samples)
        let most = historySamples * channels
        if history.count > most { history.removeFirst(history.count - most) }
    }

    /// At most ``seconds`` of `missing` samples.
    mutating func conceal(missing: Int) -> [Float] {
        let whole = Int(Double(rate) * Self.seconds)
        let period = pitch()
        guard period > 0 else { return [] }
        let count = min(missing, whole)
        let base = history.count / channels - period
        let made = (0..<(count + fadeSamples) * channels).map { place -> Float in
            let (i, channel) = (place / channels, place % channels)
            return history[(base + i % period) * channels + channel] * max(0, 1 - Float(i) / Float(whole))
        }
        going = Array(made[(count * channels)...])
        return Array(made[..<(count * channels)])
    }

    /// Nothing is remembered behind a rest.
    mutating func rest() { (history, going) = ([], []) }

    /// Samples after which the last 20 ms are most like themselves (between 2.5 and 15 ms); 0 without enough sound.
    private func pitch() -> Int {
        let window = rate * 20 / 1000
        let total = history.count / channels
        guard total >= historySamples else { return 0 }
        var best = (score: -Float.infinity, lag: rate * 10 / 1000)
        for lag in rate * 25 / 10_000...rate * 15 / 1000 {
            var (product, energy): (Float, Float) = (0, 1e-9)
            for i in total - window..<total {
                let (now, then) = (history[i * channels], history[(i - lag) * channels])
                product += now * then
                energy += then * then
            }
            let score = product / energy.squareRoot()
            if score > best.score { best = (score, lag) }
        }
        return best.lag
    }
}
