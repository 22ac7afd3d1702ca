import CFFmpeg

/// A compressed packet; freed when it goes out of scope.
public struct Packet: ~Copyable {
    let raw: UnsafeMutablePointer<AVPacket>

    public init() {
        guard let raw = av_packet_alloc() else { fatalError("out of memory") }
        self.raw = raw
    }

    deinit {
        var pointer: UnsafeMutablePointer<AVPacket>? = raw
        av_packet_free(&pointer)
    }

    public func unref() { av_packet_unref(raw) }

    public var pts: Int64 {
        get { raw.pointee.pts }
        nonmutating set { raw.pointee.pts = newValue }
    }
    public var dts: Int64 {
        get { raw.pointee.dts }
        nonmutating set { raw.pointee.dts = newValue }
    }
    public var duration: Int64 {
        get { raw.pointee.duration }
        nonmutating set { raw.pointee.duration = newValue }
    }
    public var isKey: Bool {
        get { raw.pointee.flags & AV_PKT_FLAG_KEY != 0 }
        nonmutating set { raw.pointee.flags = newValue ? raw.pointee.flags | AV_PKT_FLAG_KEY : raw.pointee.flags & ~AV_PKT_FLAG_KEY }
    }
    public var hasTime: Bool { raw.pointee.pts != cffmpeg_no_time() }
    public var hasDecodingTime: Bool { raw.pointee.dts != cffmpeg_no_time() }
    public var streamIndex: Int { Int(raw.pointee.stream_index) }
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: raw.pointee.data, count: Int(raw.pointee.size)) }

    /// Replaces the content with a copy of `source`.
    public func fill(_ source: UnsafeRawBufferPointer) throws(FFmpegError) {
        av_packet_unref(raw)
        try check(av_new_packet(raw, Int32(source.count)), "av_new_packet")
        if let base = source.baseAddress { raw.pointee.data.update(from: base.assumingMemoryBound(to: UInt8.self), count: source.count) }
    }

    /// Refers to `source`, which must stay until the packet is written and then given back (``unref()``).
    ///
    /// For formats whose bytes no muxer looks into: there is no padding behind them.
    public func refer(to source: UnsafeRawBufferPointer) {
        av_packet_unref(raw)
        raw.pointee.data = UnsafeMutablePointer(mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
        raw.pointee.size = Int32(source.count)
    }

    /// Turns the four bytes of length in front of each NAL unit (ISO/IEC 14496-15 section 5.3.3) into start codes (ITU-T H.264 annex B), as an
    /// encoder gives them. False where the lengths do not fill the packet.
    public func replaceLengthsByStartCodes() throws(FFmpegError) -> Bool {
        try check(av_packet_make_writable(raw), "av_packet_make_writable")
        guard let data = raw.pointee.data else { return false }
        let count = Int(raw.pointee.size)
        var at = 0
        while at + 4 <= count {
            let length = (0..<4).reduce(0) { $0 << 8 | Int(data[at + $1]) }
            guard length > 0, length <= count - at - 4 else { return false }
            for (place, byte) in [0, 0, 0, 1].enumerated() { data[at + place] = UInt8(byte) }
            at += 4 + length
        }
        return at == count
    }

    public func rescale(from: Rational, to: Rational) { av_packet_rescale_ts(raw, from.raw, to.raw) }
}

/// A decoded picture or stretch of sound; freed when it goes out of scope.
public struct Frame: ~Copyable {
    public let raw: UnsafeMutablePointer<AVFrame>

    public init() {
        guard let raw = av_frame_alloc() else { fatalError("out of memory") }
        self.raw = raw
    }

    deinit {
        var pointer: UnsafeMutablePointer<AVFrame>? = raw
        av_frame_free(&pointer)
    }

    /// A picture in planar 4:2:0 with buffers of its own.
    public static func picture(width: Int, height: Int, format: PixelFormat = .yuv420p) throws(FFmpegError) -> Frame {
        let frame = Frame()
        frame.raw.pointee.width = Int32(width)
        frame.raw.pointee.height = Int32(height)
        frame.raw.pointee.format = format.raw.rawValue
        try check(av_frame_get_buffer(frame.raw, 0), "av_frame_get_buffer")
        return frame
    }

    /// Float sound with buffers of its own, at 48 kHz.
    public static func sound(samples: Int, channels: Int, planar: Bool) throws(FFmpegError) -> Frame {
        let frame = Frame()
        frame.raw.pointee.nb_samples = Int32(samples)
        frame.raw.pointee.format = (planar ? AV_SAMPLE_FMT_FLTP : AV_SAMPLE_FMT_FLT).rawValue
        frame.raw.pointee.sample_rate = 48_000
        av_channel_layout_default(&frame.raw.pointee.ch_layout, Int32(channels))
        try check(av_frame_get_buffer(frame.raw, 0), "av_frame_get_buffer")
        return frame
    }

    public var pts: Int64 {
        get { raw.pointee.pts }
        nonmutating set { raw.pointee.pts = newValue }
    }
    public var hasTime: Bool { raw.pointee.pts != cffmpeg_no_time() }
    /// Decoded from damaged data, or from pictures that are missing.
    public var isDamaged: Bool { raw.pointee.flags & AV_FRAME_FLAG_CORRUPT != 0 || raw.pointee.decode_error_flags != 0 }
    public var width: Int { Int(raw.pointee.width) }
    public var height: Int { Int(raw.pointee.height) }
    public var samples: Int { Int(raw.pointee.nb_samples) }

    /// One plane of planar float sound.
    public func channel(_ index: Int) -> UnsafeMutableBufferPointer<Float> {
        let start = raw.pointee.extended_data[index].map { UnsafeMutableRawPointer($0).assumingMemoryBound(to: Float.self) }
        return UnsafeMutableBufferPointer(start: start, count: samples)
    }

    /// All channels of interleaved float sound.
    public func interleaved(channels: Int) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(start: channel(0).baseAddress, count: samples * channels)
    }

    /// Makes sure that nobody else reads this frame's buffers before they are written again.
    public func makeWritable() throws(FFmpegError) { try check(av_frame_make_writable(raw), "av_frame_make_writable") }
    public func unref() { av_frame_unref(raw) }

    /// Exchanges contents with another frame without copying.
    public func swap(_ other: borrowing Frame) {
        av_frame_unref(raw)
        av_frame_move_ref(raw, other.raw)
    }
}

/// Pixel layouts that stages use.
public enum PixelFormat: Sendable {
    case yuv420p
    /// Full range, for JPEG.
    case yuvj420p

    var raw: AVPixelFormat { self == .yuv420p ? AV_PIX_FMT_YUV420P : AV_PIX_FMT_YUVJ420P }
}

/// A time base or rate.
public struct Rational: Hashable, Sendable {
    public var numerator: Int32
    public var denominator: Int32
    public init(_ numerator: Int32, _ denominator: Int32) {
        self.numerator = numerator
        self.denominator = denominator
    }
    var raw: AVRational { AVRational(num: numerator, den: denominator) }
    init(_ raw: AVRational) { self.init(raw.num, raw.den) }
    public var value: Double { Double(numerator) / Double(denominator) }
}
