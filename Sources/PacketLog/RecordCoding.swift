import Media

/// A record in a block: kind (1), arrival in ns since 1970 (8, big-endian), length (4), bytes. Kinds: 1 RTP, 2 RTCP, 3 mark.
enum RecordCoding {
    static let headBytes = 13

    enum Kind: UInt8 {
        case rtp = 1, rtcp = 2, mark = 3
    }

    static func append(_ kind: Kind, _ arrival: WallTime, _ bytes: UnsafeRawBufferPointer, to block: inout [UInt8]) {
        block.append(kind.rawValue)
        withUnsafeBytes(of: arrival.nanoseconds.bigEndian) { block.append(contentsOf: $0) }
        withUnsafeBytes(of: UInt32(bytes.count).bigEndian) { block.append(contentsOf: $0) }
        block.append(contentsOf: bytes)
    }

    /// The record at `offset`, which moves behind it; nil at the end of the block or where it makes no sense.
    static func read(_ block: UnsafeRawBufferPointer, _ offset: inout Int) -> TrackRecord? { lend(block, &offset).map(TrackRecord.init) }

    /// The same without a copy: the record is good for as long as the block is.
    static func lend(_ block: UnsafeRawBufferPointer, _ offset: inout Int) -> LentRecord? {
        guard offset + headBytes <= block.count else { return nil }
        let arrival = WallTime(nanoseconds: Int64(bigEndian: block.loadUnaligned(fromByteOffset: offset + 1, as: Int64.self)))
        let length = Int(UInt32(bigEndian: block.loadUnaligned(fromByteOffset: offset + 9, as: UInt32.self)))
        let start = offset + headBytes
        guard let kind = Kind(rawValue: block[offset]), start + length <= block.count else { return nil }
        offset = start + length
        let bytes = UnsafeRawBufferPointer(rebasing: block[start..<start + length])
        switch kind {
        case .rtp: return .rtp(arrival: arrival, bytes: bytes)
        case .rtcp: return .rtcp(arrival: arrival, bytes: bytes)
        case .mark: return bytes.first.flatMap(TrackRecord.Mark.init).map { .mark(at: arrival, $0) }
        }
    }
}
