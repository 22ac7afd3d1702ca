/// Opus in RTP (RFC 7587): one packet, one access unit; its length stands in the table-of-contents byte (RFC 6716 section 3.1).
public enum OpusFormat {
    /// Samples at 48 kHz in a packet; nil where the packet is none.
    public static func samples(_ payload: UnsafeRawBufferPointer) -> Int? {
        guard let toc = payload.first else { return nil }
        let configuration = Int(toc >> 3)
        let frame: Int
        switch configuration {
        case 0..<12: frame = [480, 960, 1920, 2880][configuration & 3]
        case 12..<16: frame = [480, 960][configuration & 1]
        default: frame = [120, 240, 480, 960][configuration & 3]
        }
        let frames: Int
        switch toc & 3 {
        case 0: frames = 1
        case 1, 2: frames = 2
        default:
            guard payload.count >= 2 else { return nil }
            frames = Int(payload[1] & 0x3F)
        }
        let total = frame * frames
        return (1...5_760).contains(total) ? total : nil  // at most 120 ms
    }
}
