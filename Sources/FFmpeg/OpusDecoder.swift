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

    private func count(_ code: Int32) -> Int? { code < 0 ? nil : Int(code) }
}
