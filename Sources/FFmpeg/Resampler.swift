import CFFmpeg

/// Interleaved float sound from one rate to 48 kHz, with a rate that can be bent while it runs (libswresample). One thread.
public final class Resampler {
    /// Samples that the filter needs on both sides of a sample, with room to spare.
    public static let primingSamples = 64
    /// What sound may have; beyond it nothing real is.
    public static let rates = 4_000...768_000
    private static let capacity = 1 << 14
    /// Outputs over which a compensation is spread; asked for anew long before they are over.
    private static let distance: Int32 = 1 << 20

    private var context: OpaquePointer?
    private let rate: Int
    private let channels: Int
    private var scratch: [Float]

    public init(rate: Int, channels: Int) throws(FFmpegError) {
        precondition(Self.rates.contains(rate))
        (self.rate, self.channels) = (rate, channels)
        scratch = [Float](repeating: 0, count: Self.capacity * channels)
        var layout = AVChannelLayout()
        av_channel_layout_default(&layout, Int32(channels))
        var same = layout
        try check(swr_alloc_set_opts2(&context, &layout, AV_SAMPLE_FMT_FLT, 48_000, &same, AV_SAMPLE_FMT_FLT, Int32(rate), 0, nil), "swr_alloc_set_opts2")
        let raw = UnsafeMutableRawPointer(context)
        // Many phases with interpolation between them: a bent rate falls between any table's entries.
        for (option, value) in [("exact_rational", 0), ("linear_interp", 1), ("flags", Int64(SWR_FLAG_RESAMPLE))] as [(String, Int64)] {
            try check(av_opt_set_int(raw, option, value, 0), "option \(option) of swr")
        }
        try check(swr_init(context), "swr_init")
    }

    deinit { swr_free(&context) }

    /// From here on, gives `ppm` more (or less) samples than the rates ask for.
    public func compensate(ppm: Double) throws(FFmpegError) {
        let delta = Int32((ppm * 1e-6 * Double(Self.distance)).rounded())
        try check(swr_set_compensation(context, delta, Self.distance), "swr_set_compensation")
    }

    /// Samples at 48 kHz that went in and are not out yet; below zero before anything went in.
    public var delay: Double { Double(swr_get_delay(context, 48_000 << 10)) / 1024 }

    /// Takes interleaved samples and appends what comes out.
    public func push(_ samples: UnsafeBufferPointer<Float>, into output: inout [Float]) throws(FFmpegError) {
        // Whatever comes out of so many, and of what is held back, has room.
        let most = Self.capacity * rate / 192_000
        var used = 0
        let total = samples.count / channels
        repeat {
            let count = min(most, total - used)
            var from: UnsafePointer<UInt8>? = samples.baseAddress.map { UnsafeRawPointer($0 + used * channels).assumingMemoryBound(to: UInt8.self) }
            var got: Int32 = 0
            scratch.withUnsafeMutableBytes { bytes in
                var to: UnsafeMutablePointer<UInt8>? = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
                got = swr_convert(context, &to, Int32(Self.capacity), &from, Int32(count))
            }
            try check(got, "swr_convert")
            output.append(contentsOf: scratch[..<(Int(got) * channels)])
            used += count
        } while used < total
    }
}
