import CFFmpeg

/// A stream that goes into a container as it was sent, without an encoder here that could describe it.
public struct CodedStream: Hashable, Sendable {
    public enum Format: String, Hashable, Sendable, CaseIterable {
        case opus, mulaw, alaw, g722
        /// 16 bits, big-endian (RFC 3551 section 4.5.11).
        case pcm16
        case vp8, vp9, h264, h265, av1

        public var isAudio: Bool {
            switch self {
            case .opus, .mulaw, .alaw, .g722, .pcm16: true
            case .vp8, .vp9, .h264, .h265, .av1: false
            }
        }

        var id: AVCodecID {
            switch self {
            case .opus: AV_CODEC_ID_OPUS
            case .mulaw: AV_CODEC_ID_PCM_MULAW
            case .alaw: AV_CODEC_ID_PCM_ALAW
            case .g722: AV_CODEC_ID_ADPCM_G722
            case .pcm16: AV_CODEC_ID_PCM_S16BE
            case .vp8: AV_CODEC_ID_VP8
            case .vp9: AV_CODEC_ID_VP9
            case .h264: AV_CODEC_ID_H264
            case .h265: AV_CODEC_ID_HEVC
            case .av1: AV_CODEC_ID_AV1
            }
        }

        /// Bits of a sample as it is sent, where that is fixed.
        var bitsPerSample: Int {
            switch self {
            case .mulaw, .alaw: 8
            case .g722: 4
            case .pcm16: 16
            default: 0
            }
        }
    }

    public var format: Format
    /// Sound: samples per second as they are heard (16 000 for G.722), and channels.
    public var sampleRate: Int
    public var channels: Int
    /// Pictures: size in pixels of the first.
    public var width: Int
    public var height: Int
    /// What a decoder must know first: parameter sets with start codes (H.264, H.265), the sequence header (AV1); empty otherwise.
    /// The muxer makes its own form of it (avcC, hvcC, av1C).
    public var configuration: [UInt8]

    public init(_ format: Format, sampleRate: Int = 0, channels: Int = 0, width: Int = 0, height: Int = 0, configuration: [UInt8] = []) {
        self.format = format
        self.sampleRate = sampleRate
        self.channels = channels
        self.width = width
        self.height = height
        self.configuration = configuration
    }

    func describe(_ target: UnsafeMutablePointer<AVCodecParameters>) {
        target.pointee.codec_type = format.isAudio ? AVMEDIA_TYPE_AUDIO : AVMEDIA_TYPE_VIDEO
        target.pointee.codec_id = format.id
        target.pointee.width = Int32(width)
        target.pointee.height = Int32(height)
        if format.isAudio {
            target.pointee.sample_rate = Int32(sampleRate)
            av_channel_layout_default(&target.pointee.ch_layout, Int32(channels))
            target.pointee.bits_per_coded_sample = Int32(format.bitsPerSample)
            // WAVEFORMATEX (codec id A_MS/ACM) repeats these two.
            target.pointee.block_align = Int32(max(1, format.bitsPerSample * channels / 8))
            target.pointee.bit_rate = Int64(format.bitsPerSample * sampleRate * channels)
        }
        // Matroska's CodecDelay: a reader takes it off the times that stand in the file, since Opus comes out of its decoder so much later.
        if format == .opus { target.pointee.initial_padding = Int32(OpusDecoder.preskip) }
        let extra = format == .opus ? OpusDecoder.head(channels: channels) : configuration
        guard !extra.isEmpty else { return }
        guard let place = av_mallocz(extra.count + Int(AV_INPUT_BUFFER_PADDING_SIZE)) else { fatalError("out of memory") }
        place.copyMemory(from: extra, byteCount: extra.count)
        target.pointee.extradata = place.assumingMemoryBound(to: UInt8.self)
        target.pointee.extradata_size = Int32(extra.count)
    }
}
