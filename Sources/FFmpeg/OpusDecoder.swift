import COpus

/// libopus' decoder at 48 kHz, with its forward error correction and concealment. One thread.
public final class OpusDecoder {
    /// Samples by which decoded sound lags behind what was encoded (RFC 7845 section 4.2; libopus at 48 kHz).
    public static let preskip = 312
    /// Most samples of one packet: 120 ms.
    public static let packetSamplesMax = 5_760


    private let raw: OpaquePointer
    private let channels: Int

    public init(channels: Int) throws(FFmpegError) {
        var code: Int32 = 0
        guard let made = opus_decoder_create(48_000, Int32(channels), &code), code == OPUS_OK else { throw FFmpegError("opus_decoder_create", code) }
        raw = made
        self.channels = channels
    }

    deinit { opus_decoder_destroy(raw) }

    /// Decodes a packet into interleaved samples; how many per channel, or nil for a packet that is none.
    public func decode(_ packet: UnsafeRawBufferPointer, into samples: inout [Float]) -> Int? {
        count(opus_decode_float(raw, packet.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(packet.count), &samples,
                                Int32(samples.count / channels), 0))
    }

    /// The `missing` samples before `packet`, from the redundancy that it carries for the one before it.
    public func recover(missing: Int, from packet: UnsafeRawBufferPointer, into samples: inout [Float]) -> Int? {
        count(opus_decode_float(raw, packet.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(packet.count), &samples, Int32(missing), 1))
    }

    /// Makes up `missing` samples (a multiple of 120) from what came before.
    public func conceal(missing: Int, into samples: inout [Float]) -> Int? { count(opus_decode_float(raw, nil, 0, &samples, Int32(missing), 0)) }

    /// Samples that a packet holds; 0 for one that is none.
    public static func samples(_ packet: UnsafeRawBufferPointer) -> Int {
        guard let base = packet.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return 0 }
        return max(0, Int(opus_packet_get_nb_samples(base, Int32(packet.count), 48_000)))
    }

    /// Whether a packet carries its predecessor once more (RFC 6716 section 2.1.7): the flags that open each of its SILK frames.
    public static func carriesPredecessor(_ packet: UnsafeRawBufferPointer) -> Bool {
        guard let toc = packet.first, toc >> 3 < 16, let base = packet.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return false }
        var sizes = [opus_int16](repeating: 0, count: 48), frames = [UnsafePointer<UInt8>?](repeating: nil, count: 48)
        guard opus_packet_parse(base, Int32(packet.count), nil, &frames, &sizes, nil) > 0, sizes[0] > 0, let first = frames[0]?.pointee else { return false }
        let silkFrames = max(1, Int(opus_packet_get_samples_per_frame(base, 48_000)) / 960)
        // One flag of voice for each 20 ms, then the wanted one; the side channel's follow.
        let mid = first >> UInt8(7 - silkFrames) & 1
        return mid == 1 || toc & 4 != 0 && first >> UInt8(max(0, 6 - 2 * silkFrames)) & 1 == 1
    }

    /// The header of RFC 7845 section 5.1, with the pre-skip that libopus has.
    static func head(channels: Int) -> [UInt8] {
        let preskip = withUnsafeBytes(of: UInt16(preskip).littleEndian, Array.init)
        return Array("OpusHead".utf8) + [1, UInt8(channels)] + preskip + [0x80, 0xBB, 0, 0, 0, 0, 0]
    }

    private func count(_ code: Int32) -> Int? { code < 0 ? nil : Int(code) }
}
