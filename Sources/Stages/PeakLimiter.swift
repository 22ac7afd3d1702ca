/// Keeps samples below a ceiling without audible pumping: gain falls over 5 ms before a peak and rises again after it. Pure.
///
/// The gain at each sample is the mean, over the look-ahead, of the smallest gain any sample in the look-ahead before it needed. A sample comes
/// out when its own need is in every one of these minima, so its gain is never larger than it allows.
struct PeakLimiter {
    private static let lookAhead = 240
    private let ceiling: Float
    private let channels: Int
    private var delayed: [Float]
    private var needed: [Float]
    private var smallest: [Float]
    private var sum: Double

    init(ceiling: Float, channels: Int) {
        self.ceiling = ceiling
        self.channels = channels
        delayed = Array(repeating: 0, count: Self.delay * channels)
        needed = Array(repeating: 1, count: Self.lookAhead)
        smallest = Array(repeating: 1, count: Self.lookAhead)
        sum = Double(Self.lookAhead)
    }

    /// Samples that come out later than they went in.
    static var delay: Int { lookAhead - 1 }

    /// Replaces interleaved samples by limited ones, `delay` samples later.
    mutating func process(_ samples: inout [Float]) {
        let peak = samples.reduce(Float(0)) { max($0, abs($1)) }
        if peak <= ceiling, sum >= Double(Self.lookAhead) - 1e-9, needed.allSatisfy({ $0 == 1 }) {
            // The usual case: nothing to limit, only the delay.
            let tail = Array(samples.suffix(delayed.count))
            guard samples.count >= delayed.count else { return slow(&samples) }
            samples = delayed + samples.dropLast(delayed.count)
            delayed = tail
            return
        }
        slow(&samples)
    }

    private mutating func slow(_ samples: inout [Float]) {
        for i in 0..<samples.count / channels {
            var loudest: Float = 0
            for channel in 0..<channels { loudest = max(loudest, abs(samples[i * channels + channel])) }
            needed.removeFirst()
            needed.append(loudest > ceiling ? ceiling / loudest : 1)
            let least = needed.min() ?? 1
            sum += Double(least) - Double(smallest.removeFirst())
            smallest.append(least)
            let gain = Float(min(1, max(0, sum / Double(Self.lookAhead))))
            for channel in 0..<channels {
                delayed.append(samples[i * channels + channel])
                samples[i * channels + channel] = delayed.removeFirst() * gain
            }
        }
    }
}
