import CFFmpeg

/// Reads packets of one container whose format is named, never guessed. One thread.
public final class Demuxer {
    public enum Container: String, Sendable {
        case matroska = "matroska"
        case mp4 = "mov"
        case ogg = "ogg"
    }

    public static let streamsMax = 8

    private var context: UnsafeMutablePointer<AVFormatContext>?
    private let io: IOContext

    public init(_ source: any MediaSource, as container: Container) throws(FFmpegError) {
        io = IOContext(source)
        guard let format = av_find_input_format(container.rawValue) else { throw FFmpegError("av_find_input_format \(container.rawValue)", cffmpeg_error_io()) }
        context = avformat_alloc_context()
        context?.pointee.pb = io.raw
        context?.pointee.max_streams = Int32(Self.streamsMax)
        ForeignFile.harden(context, format)
        // On failure libav frees the context itself.
        try check(avformat_open_input(&context, nil, format, nil), "avformat_open_input")
        try ForeignFile.findStreams(context)
    }

    deinit { avformat_close_input(&context) }

    public struct Stream {
        public var index: Int
        public var timeBase: Rational
        public var isAudio: Bool
        public var isVideo: Bool
        public var parameters: UnsafeMutablePointer<AVCodecParameters>
        /// Packets that the file's index has of it; 0 where it has none.
        public var indexed = 0

        public var isOpus: Bool { parameters.pointee.codec_id == AV_CODEC_ID_OPUS }
        /// Seconds by which the delay that times are corrected for is longer than the decoder's own: it is rounded to the time base.
        public var paddingRoundedSeconds: Double {
            guard parameters.pointee.sample_rate > 0 else { return 0 }
            let seconds = Double(parameters.pointee.initial_padding) / Double(parameters.pointee.sample_rate)
            return (seconds / timeBase.value).rounded() * timeBase.value - seconds
        }
    }

    public var streams: [Stream] {
        guard let context else { return [] }
        return (0..<Int(context.pointee.nb_streams)).compactMap { index in
            guard let stream = context.pointee.streams[index]?.pointee, let parameters = stream.codecpar else { return nil }
            return Stream(index: index, timeBase: Rational(stream.time_base), isAudio: parameters.pointee.codec_type == AVMEDIA_TYPE_AUDIO,
                          isVideo: parameters.pointee.codec_type == AVMEDIA_TYPE_VIDEO, parameters: parameters, indexed: Int(stream.nb_frames))
        }
    }

    /// Seconds of the longest stream, or 0 where the container does not say.
    public var duration: Double { max(0, Double(context?.pointee.duration ?? 0) / Double(AV_TIME_BASE)) }

    /// Returns false only at the end of the file; an I/O error always throws.
    public func read(into packet: borrowing Packet) throws -> Bool {
        packet.unref()
        let code = av_read_frame(context, packet.raw)
        if code == cffmpeg_error_eof(), io.failure == nil { return false }
        if let failure = io.failure { throw failure }
        try check(code, "av_read_frame")
        return true
    }

    /// Goes to the last key frame at or before `seconds`.
    public func seek(to seconds: Double) throws(FFmpegError) {
        try check(av_seek_frame(context, -1, Int64(seconds * Double(AV_TIME_BASE)), AVSEEK_FLAG_BACKWARD), "av_seek_frame")
    }
}
