import CFFmpeg

/// One stream of a finished file that somebody brought, packet by packet and undecoded. One thread.
///
/// The demuxer is named by the caller, never guessed; libav opens nothing by itself, neither a URL nor another file, and only the decoders that
/// are listed may look at parameters that the container left out. Packets of the other streams are thrown away as they are read.
public final class ForeignFile {
    /// libav's names of the demuxers.
    public enum Container: String, Sendable {
        case mp4 = "mov"
        case matroska, wav, ogg
    }

    public struct Stream: Sendable {
        public var index: Int
        public var isAudio: Bool
        public var isVideo: Bool
        /// libav's name, such as `aac` or `h264`.
        public var codec: String
        /// The container's own choice where there are several.
        public var isDefault: Bool
        /// A cover, not a film.
        public var isPicture: Bool
        public var sampleRate: Int
        public var channels: Int
        public var width: Int
        public var height: Int
        /// By how much a decoder gives out sound later than its packets say, in samples.
        public var initialPadding: Int
    }

    public static let streamsMax = 32
    /// What a track may be made of: codecs that Matroska holds and that can be read again.
    public static let codecs: Set<String> = [
        "opus", "vorbis", "aac", "mp3", "flac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_u8", "pcm_alaw", "pcm_mulaw",
        "h264", "hevc", "vp8", "vp9", "av1",
    ]
    private static let decoders = codecs.sorted().joined(separator: ",") + ",g722,mp3float,libopus,libvorbis,libdav1d,libvpx,libvpx-vp9"
    /// Times beyond this, in nanoseconds, are no times of a recording.
    private static let timeMax: Int64 = 48 * 3_600 * 1_000_000_000

    private var context: UnsafeMutablePointer<AVFormatContext>?
    private let io: IOContext
    private var chosen = -1
    private var lastDTS: Int64?
    private var awaitsKey = false
    /// Packets that no time could be found for, or that an edit list cuts out.
    public private(set) var leftOut = 0
    /// The file is damaged from here on: what came before was read.
    public private(set) var isDamaged = false

    public init(_ source: any MediaSource, as container: Container) throws(FFmpegError) {
        io = IOContext(source)
        guard let format = av_find_input_format(container.rawValue) else { throw FFmpegError("av_find_input_format \(container.rawValue)", cffmpeg_error_io()) }
        context = avformat_alloc_context()
        context?.pointee.pb = io.raw
        context?.pointee.max_streams = Int32(Self.streamsMax)
        Self.harden(context, format)
        // On failure libav frees the context itself.
        try check(avformat_open_input(&context, nil, format, nil), "avformat_open_input")
        try Self.findStreams(context)
    }

    /// Lets a demuxer open nothing, hand over to no other, and look at packets with the decoders that are named here only.
    static func harden(_ context: UnsafeMutablePointer<AVFormatContext>?, _ format: UnsafePointer<AVInputFormat>) {
        context?.pointee.io_open = { _, _, _, _, _ in cffmpeg_error_io() }
        context?.pointee.protocol_whitelist = av_strdup("none")
        context?.pointee.format_whitelist = av_strdup(String(cString: format.pointee.name))
        context?.pointee.codec_whitelist = av_strdup(Self.decoders)
    }

    /// Reads what the streams are; a decoder that looks into their packets for it is bounded like one that decodes them.
    static func findStreams(_ context: UnsafeMutablePointer<AVFormatContext>?) throws(FFmpegError) {
        var options = [OpaquePointer?](repeating: nil, count: max(1, Int(context?.pointee.nb_streams ?? 0)))
        for place in options.indices {
            av_dict_set(&options[place], "max_pixels", String(Decoder.pixelsMax), 0)
            av_dict_set(&options[place], "max_samples", String(Decoder.samplesMax), 0)
        }
        defer { for place in options.indices { av_dict_free(&options[place]) } }
        try check(avformat_find_stream_info(context, &options), "avformat_find_stream_info")
    }

    deinit { avformat_close_input(&context) }

    public var streams: [Stream] {
        guard let context else { return [] }
        return (0..<Int(context.pointee.nb_streams)).compactMap { index in
            guard let stream = context.pointee.streams[index]?.pointee, let parameters = stream.codecpar?.pointee else { return nil }
            return Stream(index: index, isAudio: parameters.codec_type == AVMEDIA_TYPE_AUDIO, isVideo: parameters.codec_type == AVMEDIA_TYPE_VIDEO,
                          codec: String(cString: avcodec_get_name(parameters.codec_id)), isDefault: stream.disposition & AV_DISPOSITION_DEFAULT != 0,
                          isPicture: stream.disposition & AV_DISPOSITION_ATTACHED_PIC != 0, sampleRate: Int(parameters.sample_rate),
                          channels: Int(parameters.ch_layout.nb_channels), width: Int(parameters.width), height: Int(parameters.height),
                          initialPadding: Int(parameters.initial_padding))
        }
    }

    /// Seconds of the file, or 0 where the container does not say.
    public var duration: Double { max(0, Double(context?.pointee.duration ?? 0) / Double(AV_TIME_BASE)) }

    /// How a player is told to turn the picture: clockwise by 0, 90, 180 or 270 degrees (the display matrix of ISO/IEC 14496-12 section 8.3.2).
    public func rotation(of index: Int) -> Int {
        guard let stream = context?.pointee.streams[index], let bytes = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, nil) else { return 0 }
        // Of the nine numbers the first two are cosine and sine, in 16.16.
        let (cosine, sine) = bytes.withMemoryRebound(to: Int32.self, capacity: 9) { ($0[0], $0[1]) }
        return abs(Int64(cosine)) >= abs(Int64(sine)) ? (cosine < 0 ? 180 : 0) : (sine > 0 ? 90 : 270)
    }

    /// From here on only this stream's packets are read.
    public func choose(_ index: Int) {
        guard let context else { return }
        for place in 0..<Int(context.pointee.nb_streams) where place != index { context.pointee.streams[place]?.pointee.discard = AVDISCARD_ALL }
        chosen = index
    }

    /// The chosen stream's next packet, with times in nanoseconds. False at the end, and where the rest is damaged; an error of the source throws.
    ///
    /// What an edit list cuts out is left out: somebody wanted it gone. After such a cut a picture goes on at the next key frame.
    public func read(into packet: borrowing Packet) throws -> Bool {
        guard let context, let stream = context.pointee.streams[chosen] else { return false }
        while true {
            packet.unref()
            let code = av_read_frame(context, packet.raw)
            if let failure = io.failure { throw failure }
            guard code >= 0 else {
                isDamaged = code != cffmpeg_error_eof()
                return false
            }
            guard packet.streamIndex == chosen else { continue }
            packet.rescale(from: Rational(stream.pointee.time_base), to: Rational(1, 1_000_000_000))
            if isUsable(packet, stream.pointee.codecpar.pointee.codec_type == AVMEDIA_TYPE_VIDEO) { return true }
            leftOut += 1
        }
    }

    private func isUsable(_ packet: borrowing Packet, _ isVideo: Bool) -> Bool {
        let isCut = packet.raw.pointee.flags & AV_PKT_FLAG_DISCARD != 0
        awaitsKey = isVideo && (isCut || awaitsKey) && !(packet.isKey && !isCut)
        guard !isCut, !awaitsKey else { return false }
        if !packet.hasTime { packet.pts = packet.dts }
        guard packet.hasTime, abs(packet.pts.clamped) <= Self.timeMax else { return false }
        if packet.dts == cffmpeg_no_time() || abs(packet.dts.clamped) > Self.timeMax { packet.dts = min(packet.pts, lastDTS ?? packet.pts) }
        // A muxer takes them in order only.
        packet.dts = min(packet.pts, max(packet.dts, lastDTS ?? packet.dts))
        guard lastDTS.map({ packet.dts >= $0 }) ?? true else { return false }
        lastDTS = packet.dts
        return true
    }
}

extension Int64 {
    /// Without the one value that has no absolute one.
    fileprivate var clamped: Int64 { Swift.max(self, -.max) }
}

extension Muxer {
    /// Adds a copy of a foreign file's stream: its codec's parameters, none of its names, languages or dates.
    public func addStream(copying file: ForeignFile, _ index: Int) throws(FFmpegError) -> Int {
        try file.withParameters(of: index) { (stream) throws(FFmpegError) in try self.addStream(copying: stream) }
    }
}

extension ForeignFile {
    fileprivate func withParameters(of index: Int, _ body: (Demuxer.Stream) throws(FFmpegError) -> Int) throws(FFmpegError) -> Int {
        guard let stream = context?.pointee.streams[index], let parameters = stream.pointee.codecpar else { throw FFmpegError("no such stream", cffmpeg_error_io()) }
        return try body(Demuxer.Stream(index: index, timeBase: Rational(stream.pointee.time_base), isAudio: parameters.pointee.codec_type == AVMEDIA_TYPE_AUDIO,
                                       isVideo: parameters.pointee.codec_type == AVMEDIA_TYPE_VIDEO, parameters: parameters))
    }
}
