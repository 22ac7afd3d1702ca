import Media
import RTP

/// The payload formats of pictures, by codec.
public enum VideoFormats {
    /// The header extension that says which frames a packet's frame needs (RTP payload format for AV1, version 1.0, appendix A).
    public static let dependencyDescriptorURI = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
    /// Longest frame that is put together; a longer one is dropped.
    public static let frameBytesMax = 4 << 20
    /// Most NAL units or OBUs of one frame.
    static let unitsMax = 1_024
    /// Ids of pictures wrap: those further apart than this, in RTP ticks (2 s), are not compared.
    static let nearTicks: Int64 = 180_000

    static func isNear(_ earlier: Int64, _ later: Int64) -> Bool { later >= earlier && later &- earlier <= nearTicks }

    /// What puts `codec`'s packets together; nil where the format is not known. `parameters` is its `a=fmtp` value.
    ///
    /// Interleaved NAL units (H.264 `packetization-mode=2`, H.265 `sprop-max-don-diff` above 0) are not known.
    public static func assembler(for codec: Codec, parameters: String?) -> (any VideoAssembler)? {
        let parameters = FormatParameters(parameters ?? "")
        switch codec.name {
        case "vp8": return VP8Assembler()
        case "vp9": return VP9Assembler()
        case "av1": return AV1Assembler()
        case "h264":
            guard parameters["packetization-mode"] != "2" else { return nil }
            return NALAssembler<H264Syntax>(sprop: [parameters["sprop-parameter-sets"]])
        case "h265":
            guard (parameters["sprop-max-don-diff"] ?? "0") == "0" else { return nil }
            return NALAssembler<H265Syntax>(sprop: [parameters["sprop-vps"], parameters["sprop-sps"], parameters["sprop-pps"]])
        default: return nil
        }
    }

    /// Whether pictures of this codec can be put together.
    public static func isSupported(_ codec: Codec) -> Bool { assembler(for: codec, parameters: nil) != nil }

    /// Whether a payload begins a key frame of `codec`, by its first bytes: enough to stop asking for one.
    public static func beginsKeyFrame(_ payload: UnsafeRawBufferPointer, codec: Codec) -> Bool {
        switch codec.name {
        case "vp8": VP8Descriptor(payload).map { $0.beginsFrame && payload[$0.start] & 1 == 0 } ?? false
        case "vp9":
            VP9Descriptor(payload).map { $0.beginsKeyPicture && VP9Header(UnsafeRawBufferPointer(rebasing: payload[$0.start...]))?.isKey == true }
                ?? false
        case "av1": AV1Syntax.beginsSequence(payload)
        case "h264": H264Syntax.beginsKeyFrame(payload)
        case "h265": H265Syntax.beginsKeyFrame(payload)
        default: false
        }
    }
}
