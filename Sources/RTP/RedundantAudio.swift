/// Redundant audio data (RFC 2198): earlier packets' payloads before the present one.
public enum RedundantAudio {
    public static let blocksMax = 32

    public struct Block: Hashable, Sendable {
        public var payloadType: UInt8
        /// How much earlier than the packet's own time stamp, in units of its clock; 0 for the primary block.
        public var timestampOffset: UInt16
        /// In the payload.
        public var range: Range<Int>

        public init(payloadType: UInt8, timestampOffset: UInt16, range: Range<Int>) {
            self.payloadType = payloadType
            self.timestampOffset = timestampOffset
            self.range = range
        }
    }

    /// The blocks in their order, the primary one last; nil where the lengths do not fit or there are more than ``blocksMax``.
    public static func blocks(_ payload: UnsafeRawBufferPointer) -> [Block]? {
        var blocks: [Block] = []
        var at = 0
        var bodies = 0
        // Headers of four bytes with a length each, then one byte for the primary block, which takes the rest (section 3).
        while true {
            guard at < payload.count, blocks.count < blocksMax else { return nil }
            let type = payload[at] & 0x7F
            guard payload[at] & 0x80 != 0 else {
                at += 1
                blocks.append(Block(payloadType: type, timestampOffset: 0, range: bodies..<bodies))
                break
            }
            guard at + 4 <= payload.count else { return nil }
            let length = Int(payload[at + 2] & 3) << 8 | Int(payload[at + 3])
            blocks.append(Block(payloadType: type, timestampOffset: UInt16(payload[at + 1]) << 6 | UInt16(payload[at + 2] >> 2), range: bodies..<bodies + length))
            at += 4
            bodies += length
        }
        guard at + bodies <= payload.count else { return nil }
        for place in blocks.indices {
            let range = blocks[place].range
            blocks[place].range = at + range.lowerBound..<(place == blocks.count - 1 ? payload.count : at + range.upperBound)
        }
        return blocks
    }
}
