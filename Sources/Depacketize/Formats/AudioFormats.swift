import Media

/// The payload formats of sound, by codec. A packet's length comes from its payload, never from a packet time that was announced.
public enum AudioFormats {
    /// Longest packet that is taken, but for Opus, which has a limit of its own.
    static let secondsMax = 1

    /// Whether packets of this codec can be decoded.
    public static func isSupported(_ codec: Codec) -> Bool {
        switch codec.name {
        case "opus": codec.clockRate == 48_000
        case "pcmu", "pcma", "g722", "l16": true
        default: false
        }
    }

    /// Whether a codec is carried beside media and is none itself: comfort noise, keys, repair. Its packets are no fault.
    public static func isAuxiliary(_ codec: Codec) -> Bool {
        ["cn", "telephone-event", "red", "rtx", "ulpfec", "flexfec", "flexfec-03"].contains(codec.name)
    }

    /// How long a packet's sound is; nil where the payload is malformed or the codec not known.
    public static func duration(of payload: UnsafeRawBufferPointer, codec: Codec) -> Nanoseconds? {
        guard (1...1_000_000).contains(codec.clockRate), (1...8).contains(codec.channels) else { return nil }
        switch codec.name {
        case "opus": return OpusFormat.samples(payload).map { Nanoseconds(count: Int64($0) * 62_500 / 3) }
        case "pcmu", "pcma": return duration(payload.count, bytesPerSample: codec.channels, rate: codec.clockRate)
        // 16 kHz in 4 bits a sample, though its RTP clock is 8 kHz (RFC 3551 section 4.5.2).
        case "g722": return duration(payload.count, bytesPerSample: codec.channels, rate: 8_000)
        case "l16": return duration(payload.count, bytesPerSample: 2 * codec.channels, rate: codec.clockRate)
        default: return nil
        }
    }

    private static func duration(_ bytes: Int, bytesPerSample: Int, rate: Int) -> Nanoseconds? {
        guard bytes > 0, bytes % bytesPerSample == 0, bytes / bytesPerSample <= rate * secondsMax else { return nil }
        return Nanoseconds(count: Int64(bytes / bytesPerSample) * 1_000_000_000 / Int64(rate))
    }
}
