import CEBUR128

/// EBU R128 integrated loudness (libebur128). One thread.
public final class LoudnessMeter {
    private var state: UnsafeMutablePointer<ebur128_state>?
    private let channels: Int

    public init(channels: Int) {
        self.channels = channels
        // Fails only without memory.
        state = ebur128_init(UInt32(channels), 48_000, Int32(EBUR128_MODE_I.rawValue) | Int32(EBUR128_MODE_HISTOGRAM.rawValue))
    }

    deinit { ebur128_destroy(&state) }

    /// Interleaved samples.
    public func add(_ samples: UnsafeBufferPointer<Float>) { ebur128_add_frames_float(state, samples.baseAddress, samples.count / channels) }

    /// LUFS; nil for silence.
    public var integrated: Double? {
        var value = 0.0
        guard ebur128_loudness_global(state, &value) == 0, value.isFinite, value > -70 else { return nil }
        return value
    }
}
