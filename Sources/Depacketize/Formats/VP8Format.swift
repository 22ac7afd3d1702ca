/// The payload descriptor in front of each VP8 packet (RFC 7741 section 4.2).
struct VP8Descriptor: Hashable {
    /// Where the frame's bytes begin in the payload.
    var start: Int
    /// First packet of partition 0: the frame begins here.
    var beginsFrame: Bool
    /// Nothing depends on this picture (N).
    var isNonReference: Bool
    var pictureID: Int?
    var pictureIDBits = 0
    /// Running number of the pictures of temporal layer 0.
    var baseIndex: UInt8?
    var temporalLayer: Int?
    /// Depends on nothing but the base layer (Y).
    var isLayerSync = false

    /// Nil where the payload is too short for what it announces.
    init?(_ payload: UnsafeRawBufferPointer) {
        guard let first = payload.first else { return nil }
        isNonReference = first & 0x20 != 0
        beginsFrame = first & 0x10 != 0 && first & 0x07 == 0
        var at = 1
        func byte(_ place: Int) -> Int? { place < payload.count ? Int(payload[place]) : nil }
        if first & 0x80 != 0 {
            guard let flags = byte(at) else { return nil }
            at += 1
            if flags & 0x80 != 0 {
                guard let high = byte(at) else { return nil }
                at += 1
                (pictureID, pictureIDBits) = (high, 7)
                if high & 0x80 != 0 {
                    guard let low = byte(at) else { return nil }
                    at += 1
                    (pictureID, pictureIDBits) = ((high & 0x7F) << 8 | low, 15)
                }
            }
            if flags & 0x40 != 0 {
                guard let index = byte(at) else { return nil }
                at += 1
                baseIndex = UInt8(index)
            }
            if flags & 0x30 != 0 {  // TID, Y, KEYIDX
                guard let layer = byte(at) else { return nil }
                at += 1
                if flags & 0x20 != 0 { (temporalLayer, isLayerSync) = (layer >> 6, layer & 0x20 != 0) }
            }
        }
        guard payload.count > at else { return nil }
        start = at
    }

    /// Whether this picture's id is the one after `other`'s.
    func follows(_ other: VP8Descriptor) -> Bool {
        guard let pictureID, let previous = other.pictureID, pictureIDBits == other.pictureIDBits else { return false }
        return pictureID == (previous + 1) & (1 << pictureIDBits - 1)
    }
}

/// Puts VP8 packets together to frames (RFC 7741).
///
/// What a loss breaks is told by picture ids (nothing but padding was lost), N (nothing depends on what was lost) and TL0PICIDX (only
/// pictures above the base layer were lost); where none of them tells, everything is broken until the next key frame.
struct VP8Assembler: VideoAssembler {
    private struct Picture {
        var timestamp: Int64
        var descriptor: VP8Descriptor
        var isWhole: Bool
    }

    private var bytes: [UInt8] = []
    private var open: Picture?
    private var last: Picture?
    private var baseIndex: UInt8?
    private var isGapPending = false
    /// The highest temporal layer that misses nothing; -1: not even the base layer.
    private var intact = -1
    private var ledger = LossLedger()

    var dropped: Int { ledger.dropped }
    var malformed: Int { ledger.malformed }
    var needsKey: Bool { intact < 0 }

    mutating func push(_ payload: UnsafeRawBufferPointer, timestamp: Int64, marker: Bool, isContiguous: Bool) -> [VideoFrame] {
        let isGap = isGapPending || !isContiguous
        isGapPending = isGap
        guard !payload.isEmpty else { return [] }
        guard let descriptor = VP8Descriptor(payload) else {
            ledger.malformed += 1
            isGapPending = true  // as good as lost
            return []
        }
        isGapPending = false
        var done: [VideoFrame] = []
        if let picture = open, picture.timestamp == timestamp, picture.descriptor.pictureID == descriptor.pictureID {
            if isGap { open?.isWhole = false }
        } else {
            // Only the next picture's begin in direct succession ends one that had no marker.
            if isGap || !descriptor.beginsFrame { open?.isWhole = false }
            if let frame = close() { done.append(frame) }
            if isGap { reckon(descriptor, timestamp) }
            if let index = descriptor.baseIndex { baseIndex = index }
            bytes.removeAll(keepingCapacity: true)
            open = Picture(timestamp: timestamp, descriptor: descriptor, isWhole: descriptor.beginsFrame)
        }
        if bytes.count + payload.count > VideoFormats.frameBytesMax { open?.isWhole = false }
        if open?.isWhole == true { bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: payload[descriptor.start...])) }
        if marker, let frame = close() { done.append(frame) }
        return done
    }

    /// VP8 does not tell a whole frame from one that lacks its end: without its marker the last one is not given.
    mutating func finish() -> [VideoFrame] {
        lose()
        return []
    }

    mutating func lose() {
        if open != nil { ledger.drop() }
        (open, last, intact, isGapPending) = (nil, nil, -1, false)
    }

    /// Packets are missing before a picture that begins now: what do they break?
    private mutating func reckon(_ next: VP8Descriptor, _ timestamp: Int64) {
        guard let last, VideoFormats.isNear(last.timestamp, timestamp) else {
            ledger.miss()
            intact = -1
            return
        }
        // No picture between: padding, or parts of the one before, which is accounted for.
        guard !next.follows(last.descriptor) else { return }
        ledger.miss()
        if let index = next.baseIndex, let baseIndex, let layer = next.temporalLayer, index == (layer == 0 ? baseIndex &+ 1 : baseIndex) {
            intact = min(intact, 0)
        } else {
            intact = -1
        }
    }

    private mutating func close() -> VideoFrame? {
        guard let picture = open else { return nil }
        (open, last) = (nil, picture)
        let descriptor = picture.descriptor
        let layer = descriptor.temporalLayer ?? 0
        guard picture.isWhole, let header = VP8Header(bytes) else {
            if picture.isWhole { ledger.malformed += 1 }
            ledger.drop()
            if !descriptor.isNonReference { intact = min(intact, layer - 1) }
            return nil
        }
        if header.isKey {
            intact = Int.max
        } else if intact < layer {
            guard intact >= 0, descriptor.isLayerSync else {
                ledger.drop()
                return nil
            }
            if intact == layer - 1 { intact = layer }
        }
        return VideoFrame(
            bytes: bytes, timestamp: picture.timestamp, isKey: header.isKey, width: header.size?.width, height: header.size?.height,
            followsLoss: ledger.give())
    }
}

/// What a VP8 frame's first bytes say (RFC 6386 section 9.1).
struct VP8Header: Hashable {
    var isKey: Bool
    /// Of key frames.
    var size: PictureSize?

    /// Nil where they are no frame's, or its first partition is longer than all there is.
    init?(_ frame: [UInt8]) {
        guard frame.count >= 3 else { return nil }
        isKey = frame[0] & 1 == 0
        let partition = Int(frame[0]) >> 5 | Int(frame[1]) << 3 | Int(frame[2]) << 11
        guard partition <= frame.count - (isKey ? 10 : 3) else { return nil }
        guard isKey else { return }
        guard frame[3] == 0x9D, frame[4] == 0x01, frame[5] == 0x2A else { return nil }
        size = PictureSize(width: (Int(frame[6]) | Int(frame[7]) << 8) & 0x3FFF, height: (Int(frame[8]) | Int(frame[9]) << 8) & 0x3FFF)
    }
}
