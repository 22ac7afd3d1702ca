import FFmpeg

/// The structure of a finished Matroska file, read from its own bytes and by no library (EBML: RFC 8794; Matroska: RFC 9559).
///
/// Every element is gone to by the length of the one before it, and every block's head is read; of what blocks carry not a byte is looked at.
/// Throws ``Fault`` where lengths do not add up to the file's, or an index points to something else than it says. Memory grows with nothing but
/// the tracks.
struct MatroskaOutline {
    struct Fault: Error, CustomStringConvertible { var description: String }

    /// Blocks, each of which is a packet: none is laced.
    private(set) var packets = 0
    /// The greatest time of a block, in milliseconds: the file counts in these.
    private(set) var lastMs: Int64 = 0
    /// Whether no block of a track is earlier than the one before it: pictures that are predicted from later ones are.
    private(set) var isInOrder = true
    /// Blocks that an index points to; each is where it should be, of that track and time, and needs no other.
    private(set) var indexed = 0
    private var newest: [UInt64: Int64] = [:]
    private let source: any MediaSource
    private static let tracksMax = 127

    /// Reads the whole structure; `progress` gets shares of it.
    init(_ source: any MediaSource, progress: (Double) -> Void = { _ in }) throws {
        self.source = source
        let head = try element(at: 0, within: source.length)
        guard head.id == ID.ebml else { throw Fault(description: "it does not begin with an EBML header") }
        let segment = try element(at: head.end, within: source.length)
        guard segment.id == ID.segment, segment.end == source.length else { throw Fault(description: "its segment ends at byte \(segment.end), the file at \(source.length)") }
        var indices: [Element] = []
        try forEach(in: segment) { child in
            switch child.id {
            case ID.cluster:
                try readCluster(child)
                progress(Double(child.end) / Double(segment.end))
            case ID.info: try readInfo(child)
            // They point to what comes later, and are few.
            case ID.seekHead, ID.cues:
                guard indices.count < 8 else { throw Fault(description: "it has more than 8 indices") }
                indices.append(child)
            default: break
            }
        }
        for index in indices { if index.id == ID.cues { try readCues(index, in: segment) } else { try readSeekHead(index, in: segment) } }
    }

    // MARK: Elements

    private enum ID {
        static let ebml: UInt32 = 0x1A45_DFA3, segment: UInt32 = 0x1853_8067, seekHead: UInt32 = 0x114D_9B74, info: UInt32 = 0x1549_A966
        static let cluster: UInt32 = 0x1F43_B675, cues: UInt32 = 0x1C53_BB6B, checksum: UInt32 = 0xBF
        static let timestampScale: UInt32 = 0x2A_D7B1, timestamp: UInt32 = 0xE7, simpleBlock: UInt32 = 0xA3, blockGroup: UInt32 = 0xA0, block: UInt32 = 0xA1
        static let referenceBlock: UInt32 = 0xFB
        static let cuePoint: UInt32 = 0xBB, cueTime: UInt32 = 0xB3, cueTrackPositions: UInt32 = 0xB7, cueTrack: UInt32 = 0xF7
        static let cueClusterPosition: UInt32 = 0xF1, cueRelativePosition: UInt32 = 0xF0
        static let seek: UInt32 = 0x4DBB, seekID: UInt32 = 0x53AB, seekPosition: UInt32 = 0x53AC
    }

    private struct Element {
        var id: UInt32
        /// Where its data begin and end in the file.
        var data: Int
        var end: Int
    }

    /// The bytes at `offset`, of which 12 are the longest head of an element; what lies beyond the file is zero.
    private func bytes(at offset: Int) throws -> (UInt64, UInt64) {
        var room: (UInt64, UInt64) = (0, 0)
        _ = try withUnsafeMutableBytes(of: &room) { try source.read(at: offset, into: $0) }
        return (UInt64(bigEndian: room.0), UInt64(bigEndian: room.1))
    }

    /// The head of the element at `offset`, whose data end at `limit` at the latest.
    private func element(at offset: Int, within limit: Int) throws -> Element {
        let (high, low) = try bytes(at: offset)
        let idBytes = high.leadingZeroBitCount + 1
        guard offset < limit, idBytes <= 4 else { throw Fault(description: "there is no element at byte \(offset)") }
        let rest = high << (8 * idBytes) | low >> (64 - 8 * idBytes)
        let sizeBytes = rest.leadingZeroBitCount + 1
        guard sizeBytes <= 8 else { throw Fault(description: "the element at byte \(offset) has no length") }
        let size = sizeBytes == 8 ? rest & 0xFF_FFFF_FFFF_FFFF : rest >> (64 - 8 * sizeBytes) & (1 << (7 * sizeBytes) - 1)
        let data = offset + idBytes + sizeBytes
        // All ones, a length that is not known, is larger than any file.
        guard data <= limit, size <= UInt64(limit - data) else { throw Fault(description: "the element at byte \(offset) is longer than what it is in") }
        return Element(id: UInt32(truncatingIfNeeded: high >> (64 - 8 * idBytes)), data: data, end: data + Int(size))
    }

    private func forEach(in parent: Element, _ body: (Element) throws -> Void) throws {
        var offset = parent.data
        while offset < parent.end {
            let child = try element(at: offset, within: parent.end)
            try body(child)
            offset = child.end
        }
    }

    private func number(_ element: Element) throws -> UInt64 {
        let count = element.end - element.data
        guard count <= 8 else { throw Fault(description: "the number at byte \(element.data) has \(count) bytes") }
        return count == 0 ? 0 : try bytes(at: element.data).0 >> (64 - 8 * count)
    }

    // MARK: Blocks

    private struct Block {
        var track: UInt64
        var ms: Int64
        var isKey: Bool
    }

    /// A block's head: its track, its time after the cluster's, and flags (RFC 9559 sections 10.1, 10.2).
    private func block(_ element: Element, after clusterMs: Int64) throws -> Block {
        let head = try bytes(at: element.data).0
        // One byte names tracks up to 127.
        guard element.end - element.data >= 4, head >> 63 == 1 else { throw Fault(description: "the block at byte \(element.data) has no head") }
        let flags = UInt8(truncatingIfNeeded: head >> 32)
        guard flags & 0x06 == 0 else { throw Fault(description: "the block at byte \(element.data) is laced") }
        return Block(track: head >> 56 & 0x7F, ms: clusterMs + Int64(Int16(truncatingIfNeeded: head >> 40)), isKey: flags & 0x80 != 0)
    }

    private mutating func readCluster(_ cluster: Element) throws {
        var (clusterMs, offset): (Int64?, Int) = (nil, cluster.data)
        while offset < cluster.end {
            let child = try element(at: offset, within: cluster.end)
            switch child.id {
            case ID.timestamp: clusterMs = Int64(clamping: try number(child))
            case ID.simpleBlock, ID.blockGroup:
                guard let clusterMs, clusterMs < 1 << 48 else { throw Fault(description: "the cluster at byte \(cluster.data) has no time") }
                guard let block = try child.id == ID.simpleBlock ? block(child, after: clusterMs) : inGroup(child, after: clusterMs) else { throw Fault(description: "the group at byte \(child.data) has no block") }
                if block.ms < newest[block.track] ?? .min { isInOrder = false }
                newest[block.track] = block.ms
                packets += 1
                lastMs = max(lastMs, block.ms)
            default: break
            }
            offset = child.end
        }
    }

    /// In a group, a block is a key one that refers to no other.
    private func inGroup(_ group: Element, after clusterMs: Int64) throws -> Block? {
        var (found, refers): (Block?, Bool) = (nil, false)
        try forEach(in: group) { child in
            if child.id == ID.block { found = try block(child, after: clusterMs) }
            refers = refers || child.id == ID.referenceBlock
        }
        found?.isKey = !refers
        return found
    }

    // MARK: What points to them

    private func readInfo(_ info: Element) throws {
        try forEach(in: info) { child in
            guard try child.id != ID.timestampScale || number(child) == 1_000_000 else { throw Fault(description: "it does not count in milliseconds") }
        }
    }

    private func readSeekHead(_ head: Element, in segment: Element) throws {
        try forEach(in: head) { seek in
            guard seek.id == ID.seek else { return }
            var (id, position): (UInt64, UInt64) = (0, 0)
            try forEach(in: seek) { child in
                if child.id == ID.seekID { id = try number(child) }
                if child.id == ID.seekPosition { position = try number(child) }
            }
            guard position < UInt64(segment.end - segment.data), try element(at: segment.data + Int(position), within: segment.end).id == id else {
                throw Fault(description: "its seek head at byte \(seek.data) points to something else")
            }
        }
    }

    private mutating func readCues(_ cues: Element, in segment: Element) throws {
        var count = 0
        try forEach(in: cues) { point in
            guard point.id == ID.cuePoint else { return }
            var ms: UInt64 = 0
            var positions: [Element] = []
            try forEach(in: point) { child in
                if child.id == ID.cueTime { ms = try number(child) }
                guard child.id == ID.cueTrackPositions else { return }
                guard positions.count < Self.tracksMax else { throw Fault(description: "the index at byte \(point.data) names too many tracks") }
                positions.append(child)
            }
            for position in positions {
                guard try isKey(position, ms, in: segment) else { throw Fault(description: "its index points to no key block at \(ms) ms") }
                count += 1
            }
        }
        indexed += count
    }

    /// Whether there is a key block where an entry of the index says, of that track and time.
    private func isKey(_ entry: Element, _ ms: UInt64, in segment: Element) throws -> Bool {
        var (track, position, relative): (UInt64, UInt64, UInt64?) = (0, 0, nil)
        try forEach(in: entry) { child in
            switch child.id {
            case ID.cueTrack: track = try number(child)
            case ID.cueClusterPosition: position = try number(child)
            case ID.cueRelativePosition: relative = try number(child)
            default: break
            }
        }
        guard position < UInt64(segment.end - segment.data) else { return false }
        let cluster = try element(at: segment.data + Int(position), within: segment.end)
        guard cluster.id == ID.cluster, let relative, relative < UInt64(cluster.end - cluster.data) else { return false }
        // A cluster's time comes first in it, but for a checksum.
        var time = try element(at: cluster.data, within: cluster.end)
        if time.id == ID.checksum { time = try element(at: time.end, within: cluster.end) }
        let found = try element(at: cluster.data + Int(relative), within: cluster.end)
        guard time.id == ID.timestamp, [ID.simpleBlock, ID.blockGroup].contains(found.id) else { return false }
        let clusterMs = Int64(clamping: try number(time))
        guard clusterMs < 1 << 48, let block = try found.id == ID.simpleBlock ? block(found, after: clusterMs) : inGroup(found, after: clusterMs) else { return false }
        return block.track == track && block.isKey && block.ms == Int64(clamping: ms)
    }
}
