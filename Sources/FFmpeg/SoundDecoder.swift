import CFFmpeg

/// Decodes sound by libavcodec to interleaved floats at the sound's own rate, in as many channels as asked for. One thread.
///
/// One channel sounds alike in each of several; several are averaged into one.
public final class SoundDecoder {
    private let decoder: Decoder
    private let channels: Int
    private let frame = Frame()
    private var context: OpaquePointer?
    private var source: (format: Int32, rate: Int32, channels: Int32) = (-1, 0, 0)
    private var scratch: [Float] = []

    /// Samples per second of what was decoded last; before that, what the container says.
    public private(set) var rate: Int

    public init(_ stream: Demuxer.Stream, channels: Int) throws(FFmpegError) {
        decoder = try Decoder(stream)
        self.channels = channels
        let told = Int(stream.parameters.pointee.sample_rate)
        rate = Resampler.rates.contains(told) ? told : 48_000
    }

    deinit { swr_free(&context) }

    /// Calls `body` with the time (in the stream's time base) and the samples of each frame that the packet completes.
    public func decode(_ packet: borrowing Packet, _ body: (_ pts: Int64, _ samples: UnsafeBufferPointer<Float>) throws -> Void) throws {
        try decoder.send(packet)
        try give(body)
    }

    /// Gives what the decoder holds back.
    public func drain(_ body: (_ pts: Int64, _ samples: UnsafeBufferPointer<Float>) throws -> Void) throws {
        try decoder.drain()
        try give(body)
    }

    private func give(_ body: (Int64, UnsafeBufferPointer<Float>) throws -> Void) throws {
        while try decoder.receive(into: frame) {
            guard frame.hasTime, frame.samples > 0 else { continue }
            try configure()
            let count = frame.samples
            if scratch.count < count * channels { scratch = [Float](repeating: 0, count: count * channels) }
            let isPlanar = av_sample_fmt_is_planar(AVSampleFormat(rawValue: source.format)) == 1
            var planes = (0..<Int(frame.raw.pointee.ch_layout.nb_channels)).map { frame.raw.pointee.extended_data[isPlanar ? $0 : 0].map { UnsafePointer($0) } }
            var got: Int32 = 0
            scratch.withUnsafeMutableBytes { bytes in
                var to: UnsafeMutablePointer<UInt8>? = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
                got = swr_convert(context, &to, Int32(count), &planes, Int32(count))
            }
            try check(got, "swr_convert")
            try scratch.withUnsafeBufferPointer { try body(frame.pts, UnsafeBufferPointer(rebasing: $0[..<(Int(got) * channels)])) }
        }
    }

    /// Formats may change in mid-stream.
    private func configure() throws(FFmpegError) {
        let raw = frame.raw
        guard raw.pointee.format != source.format || raw.pointee.sample_rate != source.rate || raw.pointee.ch_layout.nb_channels != source.channels else { return }
        guard Resampler.rates.contains(Int(raw.pointee.sample_rate)), raw.pointee.ch_layout.nb_channels > 0 else {
            throw FFmpegError("sound with \(raw.pointee.sample_rate) samples a second", cffmpeg_error_io())
        }
        source = (raw.pointee.format, raw.pointee.sample_rate, raw.pointee.ch_layout.nb_channels)
        rate = Int(source.rate)
        swr_free(&context)
        var layout = AVChannelLayout()
        av_channel_layout_default(&layout, Int32(channels))
        try check(swr_alloc_set_opts2(&context, &layout, AV_SAMPLE_FMT_FLT, source.rate, &raw.pointee.ch_layout, AVSampleFormat(rawValue: source.format),
                                      source.rate, 0, nil), "swr_alloc_set_opts2")
        if source.channels == 1, channels > 1 {
            try check(swr_set_matrix(context, [Double](repeating: 1, count: channels), 1), "swr_set_matrix")
        } else if source.channels != channels {
            // Floats may exceed 1, so libswresample would add instead of averaging.
            try check(av_opt_set_double(UnsafeMutableRawPointer(context), "rematrix_maxval", 1, 0), "option rematrix_maxval of swr")
        }
        try check(swr_init(context), "swr_init")
    }
}
