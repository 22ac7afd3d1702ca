import CFFmpeg

/// Decodes one stream. One thread.
public final class Decoder {
    /// Pictures larger than this are refused.
    public static let pixelsMax = 4_096 * 2_304

    /// Samples of one frame of sound, likewise: ten seconds at 192 kHz.
    public static let samplesMax = 1_920_000

    let context: UnsafeMutablePointer<AVCodecContext>

    private init(named name: String) throws(FFmpegError) {
        guard let codec = avcodec_find_decoder_by_name(name), let made = avcodec_alloc_context3(codec) else { throw FFmpegError("no decoder \(name)", cffmpeg_error_io()) }
        context = made
        context.pointee.thread_count = 1
        context.pointee.max_pixels = Int64(Self.pixelsMax)
        context.pointee.err_recognition = Int32(AV_EF_EXPLODE)
        try check(avcodec_open2(context, codec, nil), "avcodec_open2")
    }

    /// For one still picture, which needs no container.
    public static func jpeg() throws(FFmpegError) -> Decoder { try Decoder(named: "mjpeg") }

    /// The decoder of a demuxed stream, by the implementation that is named here, without frames held back for threads.
    ///
    /// Pictures: what is damaged is an error and never a guess; see also ``Frame/isDamaged``.
    ///
    /// `threads`: for pictures of our own making only, since more than one hold frames back.
    public init(_ stream: Demuxer.Stream, threads: Int = 1) throws(FFmpegError) {
        let id = stream.parameters.pointee.codec_id
        guard let codec = Self.implementation(id).flatMap({ avcodec_find_decoder_by_name($0) }), let made = avcodec_alloc_context3(codec) else {
            throw FFmpegError("no decoder for \(String(cString: avcodec_get_name(id)))", cffmpeg_error_io())
        }
        context = made
        try check(avcodec_parameters_to_context(context, stream.parameters), "avcodec_parameters_to_context")
        context.pointee.thread_count = Int32(threads)
        context.pointee.max_pixels = Int64(Self.pixelsMax)
        context.pointee.max_samples = Int64(Self.samplesMax)
        context.pointee.pkt_timebase = stream.timeBase.raw
        if stream.isVideo {
            // Concealment stays on: where it had to act, the picture says so.
            context.pointee.err_recognition = Int32(AV_EF_EXPLODE)
            // dav1d takes it as "one picture in, one out"; the others need none, as one thread holds nothing back but what B frames ask for.
            if id == AV_CODEC_ID_AV1 { context.pointee.flags |= Int32(AV_CODEC_FLAG_LOW_DELAY) }
        }
        try check(avcodec_open2(context, codec, nil), "avcodec_open2")
    }

    private static func implementation(_ id: AVCodecID) -> String? {
        switch id {
        case AV_CODEC_ID_VP8: "vp8"
        case AV_CODEC_ID_VP9: "vp9"
        case AV_CODEC_ID_H264: "h264"
        case AV_CODEC_ID_HEVC: "hevc"
        case AV_CODEC_ID_AV1: "libdav1d"
        case AV_CODEC_ID_PCM_MULAW: "pcm_mulaw"
        case AV_CODEC_ID_PCM_ALAW: "pcm_alaw"
        case AV_CODEC_ID_ADPCM_G722: "g722"
        case AV_CODEC_ID_PCM_S16BE: "pcm_s16be"
        // What only finished files have, and what we write ourselves.
        case AV_CODEC_ID_OPUS: "opus"
        case AV_CODEC_ID_AAC: "aac"
        case AV_CODEC_ID_MP3: "mp3float"
        case AV_CODEC_ID_VORBIS: "vorbis"
        case AV_CODEC_ID_FLAC: "flac"
        case AV_CODEC_ID_PCM_S16LE: "pcm_s16le"
        case AV_CODEC_ID_PCM_S24LE: "pcm_s24le"
        case AV_CODEC_ID_PCM_S24BE: "pcm_s24be"
        case AV_CODEC_ID_PCM_S32LE: "pcm_s32le"
        case AV_CODEC_ID_PCM_F32LE: "pcm_f32le"
        case AV_CODEC_ID_PCM_U8: "pcm_u8"
        default: nil
        }
    }

    /// The formats of tracks whose decoder this libavcodec lacks.
    public static var missing: [CodedStream.Format] {
        CodedStream.Format.allCases.filter { format in format != .opus && implementation(format.id).map { avcodec_find_decoder_by_name($0) == nil } ?? true }
    }

    deinit {
        var pointer: UnsafeMutablePointer<AVCodecContext>? = context
        avcodec_free_context(&pointer)
    }

    public func send(_ packet: borrowing Packet) throws(FFmpegError) { try check(avcodec_send_packet(context, packet.raw), "avcodec_send_packet") }

    /// No more packets come: what is held back can be received.
    public func drain() throws(FFmpegError) { try check(avcodec_send_packet(context, nil), "avcodec_send_packet") }

    /// Returns false when more packets are needed or everything was given out.
    public func receive(into frame: borrowing Frame) throws(FFmpegError) -> Bool {
        let code = avcodec_receive_frame(context, frame.raw)
        if code == cffmpeg_error_again() || code == cffmpeg_error_eof() { return false }
        try check(code, "avcodec_receive_frame")
        return true
    }
}

/// Encodes one stream. One thread.
public final class Encoder {
    let context: UnsafeMutablePointer<AVCodecContext>
    public let timeBase: Rational

    init(_ name: String, _ timeBase: Rational, options: [String: String], _ configure: (inout AVCodecContext) -> Void) throws(FFmpegError) {
        guard let codec = avcodec_find_encoder_by_name(name), let made = avcodec_alloc_context3(codec) else {
            throw FFmpegError("the encoder \(name) is not in this libavcodec", cffmpeg_error_io())
        }
        context = made
        self.timeBase = timeBase
        context.pointee.time_base = timeBase.raw
        context.pointee.flags |= Int32(AV_CODEC_FLAG_GLOBAL_HEADER) | Int32(AV_CODEC_FLAG_BITEXACT)
        configure(&context.pointee)
        var dictionary: OpaquePointer?
        defer { av_dict_free(&dictionary) }
        for (key, value) in options { av_dict_set(&dictionary, key, value, 0) }
        try check(avcodec_open2(context, codec, &dictionary), "avcodec_open2 \(name)")
    }

    deinit {
        var pointer: UnsafeMutablePointer<AVCodecContext>? = context
        avcodec_free_context(&pointer)
    }

    /// H.264 by x264: closed groups of two seconds, constant quality, a pinned number of threads. Two streams of the same parameters can be put
    /// one behind the other (`stitchable`: no header is fitted to the pictures that happen to be in it).
    public static func h264(width: Int, height: Int, frameRate: Int, preset: String, constantRateFactor: Double, threads: Int) throws(FFmpegError) -> Encoder {
        try Encoder("libx264", Rational(1, Int32(frameRate)), options: ["preset": preset, "crf": String(constantRateFactor), "x264-params": "stitchable=1"]) { context in
            context.width = Int32(width)
            context.height = Int32(height)
            context.pix_fmt = AV_PIX_FMT_YUV420P
            context.framerate = AVRational(num: Int32(frameRate), den: 1)
            context.gop_size = Int32(2 * frameRate)
            context.thread_count = Int32(threads)
            context.color_range = AVCOL_RANGE_MPEG
        }
    }

    /// With the coder that costs half as much and is nearer to the original in speech (decision note 17).
    public static func aac(channels: Int, bitrate: Int) throws(FFmpegError) -> Encoder {
        try sound("aac", channels, bitrate, AV_SAMPLE_FMT_FLTP, options: ["aac_coder": "fast"])
    }
    public static func opus(channels: Int, bitrate: Int) throws(FFmpegError) -> Encoder { try sound("libopus", channels, bitrate, AV_SAMPLE_FMT_FLT) }

    private static func sound(_ name: String, _ channels: Int, _ bitrate: Int, _ format: AVSampleFormat, options: [String: String] = [:]) throws(FFmpegError) -> Encoder {
        try Encoder(name, Rational(1, 48_000), options: options) { context in
            context.sample_rate = 48_000
            context.sample_fmt = format
            context.bit_rate = Int64(bitrate)
            av_channel_layout_default(&context.ch_layout, Int32(channels))
        }
    }

    public static func jpeg(width: Int, height: Int) throws(FFmpegError) -> Encoder {
        try Encoder("mjpeg", Rational(1, 25), options: [:]) { context in
            context.width = Int32(width)
            context.height = Int32(height)
            context.pix_fmt = AV_PIX_FMT_YUVJ420P
            context.flags |= Int32(AV_CODEC_FLAG_QSCALE)
            context.global_quality = 4 * FF_QP2LAMBDA
        }
    }

    /// Samples a frame of sound must have (the last may have fewer).
    public var frameSamples: Int { Int(context.pointee.frame_size) }
    public var isPlanar: Bool { av_sample_fmt_is_planar(context.pointee.sample_fmt) == 1 }

    /// Nil ends the stream. `receive` must be called until it returns false after each call.
    public func send(_ frame: borrowing Frame) throws(FFmpegError) { try check(avcodec_send_frame(context, frame.raw), "avcodec_send_frame") }
    public func drain() throws(FFmpegError) { try check(avcodec_send_frame(context, nil), "avcodec_send_frame") }

    public func receive(into packet: borrowing Packet) throws(FFmpegError) -> Bool {
        let code = avcodec_receive_packet(context, packet.raw)
        if code == cffmpeg_error_again() || code == cffmpeg_error_eof() { return false }
        try check(code, "avcodec_receive_packet")
        return true
    }
}
