import CFFmpeg

/// Writes packets of a few streams into a container. One thread; nothing is whole before ``finish()``.
public final class Muxer {
    public enum Container: String, Sendable {
        case matroska, mp4, ogg
    }

    private let context: UnsafeMutablePointer<AVFormatContext>
    private let io: IOContext
    private let options: [String: String]

    /// `options` are libav's private options of the muxer, such as `moov_size`. `isDirect`: what the muxer writes goes to the sink at once
    /// and as it is, for a container that is put together in large pieces (Matroska's clusters).
    public init(_ sink: any MediaSink, as container: Container, options: [String: String] = [:], isDirect: Bool = false) throws(FFmpegError) {
        io = IOContext(sink)
        io.raw.pointee.direct = isDirect ? 1 : 0
        self.options = options
        var made: UnsafeMutablePointer<AVFormatContext>?
        try check(avformat_alloc_output_context2(&made, nil, container.rawValue, nil), "avformat_alloc_output_context2")
        guard let made else { throw FFmpegError("avformat_alloc_output_context2", cffmpeg_error_io()) }
        context = made
        context.pointee.pb = io.raw
        // Same inputs, same bytes; no encoder versions, dates or names in the file.
        context.pointee.flags |= AVFMT_FLAG_BITEXACT
        context.pointee.avoid_negative_ts = container == .mp4 ? 0 : context.pointee.avoid_negative_ts
    }

    deinit { avformat_free_context(context) }

    /// Adds a stream as its encoder describes it; its place is returned.
    public func addStream(_ encoder: Encoder) throws(FFmpegError) -> Int {
        let stream = try newStream(timeBase: encoder.timeBase)
        try check(avcodec_parameters_from_context(stream.pointee.codecpar, encoder.context), "avcodec_parameters_from_context")
        stream.pointee.avg_frame_rate = encoder.context.pointee.framerate
        return Int(stream.pointee.index)
    }

    /// Adds a copy of another file's stream.
    public func addStream(copying source: Demuxer.Stream) throws(FFmpegError) -> Int {
        let stream = try newStream(timeBase: source.timeBase)
        try check(avcodec_parameters_copy(stream.pointee.codecpar, source.parameters), "avcodec_parameters_copy")
        stream.pointee.codecpar.pointee.codec_tag = 0
        return Int(stream.pointee.index)
    }

    /// Adds a stream whose packets come as they were sent.
    public func addStream(_ coded: CodedStream) throws(FFmpegError) -> Int {
        let stream = try newStream(timeBase: Rational(1, 1000))
        coded.describe(stream.pointee.codecpar)
        return Int(stream.pointee.index)
    }

    /// Whether a container can be begun with this stream: what a sender calls a parameter set may be none.
    public static func accepts(_ coded: CodedStream, in container: Container) -> Bool {
        final class Nowhere: MediaSink {
            var position = 0
            func append(_ bytes: UnsafeRawBufferPointer) { position += bytes.count }
            func overwrite(at offset: Int, _ bytes: UnsafeRawBufferPointer) {}
        }
        do {
            let muxer = try Muxer(Nowhere(), as: container)
            _ = try muxer.addStream(coded)
            try muxer.writeHeader()
            return true
        } catch {
            return false
        }
    }

    private func newStream(timeBase: Rational) throws(FFmpegError) -> UnsafeMutablePointer<AVStream> {
        guard let stream = avformat_new_stream(context, nil) else { throw FFmpegError("avformat_new_stream", cffmpeg_error_io()) }
        stream.pointee.time_base = timeBase.raw
        return stream
    }

    public func writeHeader() throws {
        var dictionary: OpaquePointer?
        defer { av_dict_free(&dictionary) }
        for (key, value) in options { av_dict_set(&dictionary, key, value, 0) }
        try surfacing(avformat_write_header(context, &dictionary), "avformat_write_header")
        guard av_dict_count(dictionary) == 0 else { throw FFmpegError("a muxer option is not known", cffmpeg_error_io()) }
    }

    /// Writes one packet whose times are in `timeBase`; streams may come in any order.
    public func write(_ packet: borrowing Packet, stream: Int, timeBase: Rational) throws {
        guard let target = context.pointee.streams[stream] else { preconditionFailure("no such stream") }
        packet.raw.pointee.stream_index = Int32(stream)
        packet.raw.pointee.pos = -1
        packet.rescale(from: timeBase, to: Rational(target.pointee.time_base))
        try surfacing(av_interleaved_write_frame(context, packet.raw), "av_interleaved_write_frame")
    }

    /// Writes one packet at once; all streams' packets must come in the order of time. A stream may stay silent for as long as it likes.
    public func append(_ packet: borrowing Packet, stream: Int, timeBase: Rational) throws {
        guard let target = context.pointee.streams[stream] else { preconditionFailure("no such stream") }
        packet.raw.pointee.stream_index = Int32(stream)
        packet.raw.pointee.pos = -1
        packet.rescale(from: timeBase, to: Rational(target.pointee.time_base))
        try surfacing(av_write_frame(context, packet.raw), "av_write_frame")
    }

    /// Writes what is held back, the index and the head.
    public func finish() throws {
        try surfacing(av_write_trailer(context), "av_write_trailer")
        avio_flush(io.raw)
        if let failure = io.failure { throw failure }
    }

    private func surfacing(_ code: Int32, _ operation: String) throws {
        if code < 0, let failure = io.failure { throw failure }
        try check(code, operation)
    }
}
