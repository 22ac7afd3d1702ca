import FFmpeg

/// Lays stretches of one stream's sound at their places in samples at 48 kHz, without a seam where they follow each other.
///
/// Sound at 48 kHz of a clock like ours goes straight through; all else through a resampler that a ``DriftLoop`` steers. Nothing is ever
/// doubled: what overlaps sound that was given out is cut.
struct SoundPlacer {
    /// Straight sound that has crept this far from its place needs the resampler after all.
    private static let creepMax = 144.0

    let rate: Int
    private let channels: Int
    private(set) var loop = DriftLoop()
    private var resampler: Resampler?
    /// Place of the next sample that is given out.
    private var next = 0
    private var isRunning = false
    /// Place behind everything that was given out.
    private var written = Int.min / 2
    /// The last samples that went straight through, for a resampler that begins in mid-sound.
    private var recent: [Float] = []
    private var output: [Float] = []

    init(rate: Int, channels: Int, isDrifting: Bool) throws {
        (self.rate, self.channels) = (rate, channels)
        if isDrifting || rate != 48_000 { try engage() }
    }

    /// Where the next contiguous sample goes; nil after a rest.
    var front: Double? { isRunning ? Double(next) + (resampler?.delay ?? 0) : nil }

    /// A stretch of `seconds` that should begin at `place` is about to be pushed behind the one before.
    mutating func steer(to place: Double, seconds: Double) throws {
        guard let front else { return }
        if resampler == nil, abs(loop.error) > Self.creepMax { try engage() }
        loop.observe(error: place - front, seconds: seconds, isSteering: resampler != nil)
        try resampler?.compensate(ppm: loop.ppm)
    }

    /// The next stretch begins at `place`, whatever came before.
    mutating func begin(at place: Double) {
        next = Int((place - (resampler?.delay ?? 0)).rounded())
        isRunning = true
        loop.restart()
    }

    /// Takes interleaved samples; gives what sounds, and where.
    mutating func push(_ samples: UnsafeBufferPointer<Float>, _ give: (Int, [Float]) -> Void) throws {
        guard !samples.isEmpty else { return }
        output.removeAll(keepingCapacity: true)
        if let resampler {
            try resampler.push(samples, into: &output)
        } else {
            output.append(contentsOf: samples)
            let most = Resampler.primingSamples * channels
            recent = samples.count >= most ? Array(samples.suffix(most)) : recent.suffix(most - samples.count) + samples
        }
        emit(give)
    }

    /// Nothing follows for a while: gives out what the resampler holds back.
    mutating func rest(_ give: (Int, [Float]) -> Void) throws {
        guard isRunning else { return }
        if let resampler {
            output.removeAll(keepingCapacity: true)
            let silence = [Float](repeating: 0, count: Resampler.primingSamples * channels)
            try silence.withUnsafeBufferPointer { try resampler.push($0, into: &output) }
            emit(give)
        }
        recent = []
        isRunning = false
    }

    private mutating func emit(_ give: (Int, [Float]) -> Void) {
        let count = output.count / channels
        let cut = max(0, written - next)
        if cut < count { give(next + cut, cut == 0 ? output : Array(output[(cut * channels)...])) }
        next += count
        written = max(written, next)
    }

    private mutating func engage() throws {
        let made = try Resampler(rate: rate, channels: channels)
        // Its filter looks back: on what sounded last, or on silence.
        let most = Resampler.primingSamples * channels
        let before = [Float](repeating: 0, count: max(0, most - recent.count)) + recent
        var dropped: [Float] = []
        try before.withUnsafeBufferPointer { try made.push($0, into: &dropped) }
        // What it holds back of these was given out already, and is cut.
        if isRunning { next = Int((Double(next) - made.delay).rounded()) }
        resampler = made
    }
}
