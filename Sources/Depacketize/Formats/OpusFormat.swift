/// Opus in RTP (RFC 7587): one packet, one access unit; its length stands in the table-of-contents byte (RFC 6716 section 3.1).
public enum OpusFormat {
    /// Samples at 48 kHz in a packet; nil where the packet is none (RFC 6716 section 3.4).
    public static func samples(_ payload: UnsafeRawBufferPointer) -> Int? { OpusPacket(payload).map { $0.frameSamples * $0.frames } }

    /// 1 or 2, as the packet was encoded; nil where it is none. It can change from packet to packet.
    public static func channels(_ payload: UnsafeRawBufferPointer) -> Int? { OpusPacket(payload).map { $0.isStereo ? 2 : 1 } }

    /// Whether the sender found nothing worth sending: there is no frame in it, or an empty one (RFC 7587 section 3.1.3).
    public static func isDTX(_ payload: UnsafeRawBufferPointer) -> Bool { (1...2).contains(payload.count) }

    /// Whether a packet holds a coarse copy of the sound before it, by which a decoder restores a lost packet (in-band FEC).
    public static func carriesRedundancy(_ payload: UnsafeRawBufferPointer) -> Bool { redundantSamples(payload) != nil }

    /// Samples at 48 kHz right before the packet that its redundancy stands for: one frame's length, whatever was lost before that. Nil
    /// where it has none, and where it is no packet.
    ///
    /// The first bits of the first frame are, for each channel, one voice activity flag per 20 ms (one for 10 ms) and then the flag that is
    /// asked for (RFC 6716 sections 4.2.3 and 4.2.4). Frames of CELT alone have none.
    public static func redundantSamples(_ payload: UnsafeRawBufferPointer) -> Int? {
        guard let packet = OpusPacket(payload), packet.configuration < 16, let flags = payload[packet.firstFrame].first else { return nil }
        let parts = max(packet.frameSamples / 960, 1)
        let middle = flags >> UInt8(7 - parts) & 1
        let side = packet.isStereo ? flags >> UInt8(6 - 2 * parts) & 1 : 0
        return middle | side == 1 ? packet.frameSamples : nil
    }
}

/// What an Opus packet's framing says; nil where it breaks one of the rules R1 to R7 of RFC 6716 section 3.4.
struct OpusPacket: Hashable, Sendable {
    static let frameBytesMax = 1_275
    /// 120 ms at 48 kHz.
    static let samplesMax = 5_760

    /// Mode, bandwidth and frame size: below 12 SILK, below 16 hybrid, then CELT.
    let configuration: Int
    let isStereo: Bool
    /// Samples at 48 kHz in each frame.
    let frameSamples: Int
    let frames: Int
    let firstFrame: Range<Int>

    init?(_ payload: UnsafeRawBufferPointer) {
        guard let contents = payload.first else { return nil }
        configuration = Int(contents >> 3)
        isStereo = contents & 4 != 0
        frameSamples = Self.frameSamples(configuration)
        let first: Range<Int>?
        switch contents & 3 {
        case 0: (frames, first) = (1, 1..<payload.count)
        case 1: (frames, first) = (2, payload.count % 2 == 1 ? 1..<1 + (payload.count - 1) / 2 : nil)
        case 2:
            var at = 1
            let length = Self.length(payload, &at, payload.count)
            (frames, first) = (2, length.flatMap { payload.count - at - $0 <= Self.frameBytesMax ? at..<at + $0 : nil })
        default:
            guard payload.count >= 2 else { return nil }
            frames = Int(payload[1] & 0x3F)
            guard frames > 0, frames * frameSamples <= Self.samplesMax else { return nil }
            first = Self.firstOfMany(payload, frames)
        }
        guard let first, first.count <= Self.frameBytesMax else { return nil }
        firstFrame = first
    }

    /// Table 2.
    private static func frameSamples(_ configuration: Int) -> Int {
        switch configuration {
        case 0..<12: 480 * (configuration & 3 == 3 ? 6 : 1 << (configuration & 3))
        case 12..<16: 480 << (configuration & 1)
        default: 120 << (configuration & 3)
        }
    }

    /// The first frame of a packet that says how many there are (code 3), where all of them fit.
    private static func firstOfMany(_ payload: UnsafeRawBufferPointer, _ frames: Int) -> Range<Int>? {
        var at = 2
        var end = payload.count
        if payload[1] & 0x40 != 0 {
            // 255 stands for 254 bytes of padding and one more byte of its length.
            while true {
                guard at < end else { return nil }
                let count = Int(payload[at])
                at += 1
                end -= min(count, 254)
                if count < 255 { break }
            }
        }
        guard at <= end else { return nil }
        guard payload[1] & 0x80 != 0 else { return (end - at) % frames == 0 ? at..<at + (end - at) / frames : nil }
        var (firstLength, sum) = (0, 0)
        for frame in 0..<frames - 1 {
            guard let length = length(payload, &at, end) else { return nil }
            if frame == 0 { firstLength = length }
            sum += length
        }
        let last = end - at - sum
        guard (0...frameBytesMax).contains(last) else { return nil }
        return at..<at + (frames > 1 ? firstLength : last)
    }

    /// A frame's length in one or two bytes (section 3.2.1), where so many bytes are left.
    private static func length(_ payload: UnsafeRawBufferPointer, _ at: inout Int, _ end: Int) -> Int? {
        guard at < end else { return nil }
        var length = Int(payload[at])
        at += 1
        if length >= 252 {
            guard at < end else { return nil }
            length += 4 * Int(payload[at])
            at += 1
        }
        return length <= end - at ? length : nil
    }
}
