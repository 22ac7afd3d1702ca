/// Keeps samples below a ceiling without audible pumping: gain falls over 5 ms before a peak and rises again after it. Pure.
///
/// The gain at each sample is the mean, over the look-ahead, of the smallest gain any sample in the look-ahead before it needed. A sample comes
/// out when its own need is in every one of these minima, so its gain is never larger than it allows.
struct PeakLimiter {
    private static let lookAhead = 240
    private let ceiling: Float
    private let channels: Int
    private var delayed: [Float]
    /// Samples so far; the last smallest gains by place; their sum.
    private var place = 0
    private var recent: [Float]
    private var sum: Double
    /// Gains below 1 that may yet be the smallest, with their places.
    private var falling: [(place: Int, gain: Float)] = []
    /// Up to here a gain below 1 has its effect.
    private var restUntil = 0

    init(ceiling: Float, channels: Int) {
        self.ceiling = ceiling
        self.channels = channels
        delayed = Array(repeating: 0, count: Self.delay * channels)
        recent = Array(repeating: 1, count: Self.lookAhead)
        sum = Double(Self.lookAhead)
    }

    /// Samples that come out later than they went in.
    static var delay: Int { lookAhead - 1 }

    /// The loudest of some samples.
    static func peak(_ samples: [Float]) -> Float {
        samples.withUnsafeBufferPointer { all in
            var peak: Float = 0
            if let sample = all.baseAddress { for i in 0..<all.count { peak = max(peak, abs(sample[i])) } }
            return peak
        }
    }

    /// Replaces interleaved samples by limited ones, `delay` samples later.
    mutating func process(_ samples: inout [Float]) {
        let (count, ahead) = (samples.count / channels, Self.delay * channels)
        let isLoud = Self.peak(samples) > ceiling
        // The last 239 come out with the next samples.
        var all = delayed + samples
        delayed = Array(all.suffix(ahead))
        all.removeLast(ahead)
        // The usual case is nothing to limit, only the delay.
        if isLoud || place < restUntil { limit(&all, by: samples, count) } else { place += count }
        samples = all
    }

    /// Gains of `coming` on the samples that come out, `delay` earlier.
    private mutating func limit(_ out: inout [Float], by coming: [Float], _ count: Int) {
        out.withUnsafeMutableBufferPointer { out in
            coming.withUnsafeBufferPointer { coming in
                for i in 0..<count {
                    var loudest: Float = 0
                    for channel in i * channels..<(i + 1) * channels { loudest = max(loudest, abs(coming[channel])) }
                    let least = smallest(adding: loudest > ceiling ? ceiling / loudest : 1)
                    let slot = place % Self.lookAhead
                    sum += Double(least) - Double(recent[slot])
                    recent[slot] = least
                    place += 1
                    guard least < 1 || place < restUntil else { continue }
                    if least < 1 { restUntil = place + Self.lookAhead }
                    let gain = Float(min(1, max(0, sum / Double(Self.lookAhead))))
                    for channel in i * channels..<(i + 1) * channels { out[channel] *= gain }
                }
            }
        }
        if place >= restUntil {
            // Everything is at 1 again; sums of doubles are not quite.
            (sum, falling) = (Double(Self.lookAhead), [])
            for slot in recent.indices { recent[slot] = 1 }
        }
    }

    /// The smallest of the last `lookAhead` gains: those that a later, smaller one has not outdone, in rising order.
    private mutating func smallest(adding gain: Float) -> Float {
        while let last = falling.last, last.gain >= gain { falling.removeLast() }
        if gain < 1 { falling.append((place, gain)) }
        if let first = falling.first, first.place <= place - Self.lookAhead { falling.removeFirst() }
        return falling.first?.gain ?? 1
    }
}
