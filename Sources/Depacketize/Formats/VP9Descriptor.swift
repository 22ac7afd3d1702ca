/// The payload descriptor in front of each VP9 packet (RFC 9628 section 4.2).
struct VP9Descriptor: Hashable {
    /// Where the layer frame's bytes begin in the payload.
    var start: Int
    /// First and last packet of a layer frame (B, E).
    var beginsFrame: Bool
    var endsFrame: Bool
    /// Needs earlier pictures (P).
    var isInterPicture: Bool
    /// Says itself which (F).
    var isFlexible: Bool
    var pictureID: Int?
    var pictureIDBits = 0
    var temporalLayer = 0
    var spatialLayer = 0
    /// Later pictures of higher temporal layers need nothing of those layers from before this picture (U).
    var isSwitchingPoint = false
    /// Needs the next lower spatial layer of the same picture (D).
    var isInterLayer = false
    /// Running number of the pictures of temporal layer 0; not in flexible mode.
    var baseIndex: UInt8?
    /// Flexible mode: how many pictures before this one those are that it needs.
    var references: [Int] = []
    /// Sizes of the spatial layers, where the scalability structure is there.
    var sizes: [PictureSize] = []

    var beginsKeyPicture: Bool { beginsFrame && !isInterPicture && !isInterLayer && spatialLayer == 0 }

    /// Nil where the payload is too short for what it announces, or says what the format forbids.
    init?(_ payload: UnsafeRawBufferPointer) {
        var at = 0
        func next() -> Int? {
            guard at < payload.count else { return nil }
            at += 1
            return Int(payload[at - 1])
        }
        guard let flags = next() else { return nil }
        isInterPicture = flags & 0x40 != 0
        isFlexible = flags & 0x10 != 0
        beginsFrame = flags & 0x08 != 0
        endsFrame = flags & 0x04 != 0
        start = 0
        if flags & 0x80 != 0 {
            guard let high = next() else { return nil }
            (pictureID, pictureIDBits) = (high, 7)
            if high & 0x80 != 0 {
                guard let low = next() else { return nil }
                (pictureID, pictureIDBits) = ((high & 0x7F) << 8 | low, 15)
            }
        }
        if flags & 0x20 != 0 {
            guard let layers = next() else { return nil }
            (temporalLayer, isSwitchingPoint) = (layers >> 5, layers & 0x10 != 0)
            (spatialLayer, isInterLayer) = (layers >> 1 & 7, layers & 1 != 0)
            if !isFlexible {
                guard let index = next() else { return nil }
                baseIndex = UInt8(index)
            }
        }
        if isFlexible, isInterPicture {
            guard pictureID != nil else { return nil }  // F needs I
            var more = true
            while more {
                guard references.count < 3, let reference = next() else { return nil }
                references.append(reference >> 1)
                more = reference & 1 != 0
            }
        }
        if flags & 0x02 != 0 {
            guard let structure = next() else { return nil }
            if structure & 0x10 != 0 {
                for _ in 0...(structure >> 5) {
                    guard let a = next(), let b = next(), let c = next(), let d = next() else { return nil }
                    sizes.append(PictureSize(width: a << 8 | b, height: c << 8 | d))
                }
            }
            if structure & 0x08 != 0 {
                guard let pictures = next() else { return nil }
                for _ in 0..<pictures {
                    guard let picture = next() else { return nil }
                    for _ in 0..<(picture >> 2 & 3) { guard next() != nil else { return nil } }
                }
            }
        }
        guard at < payload.count else { return nil }
        start = at
    }

    /// Whether this picture's id is the one after `other`'s.
    func follows(_ other: VP9Descriptor) -> Bool {
        guard let pictureID, let previous = other.pictureID, pictureIDBits == other.pictureIDBits else { return false }
        return pictureID == (previous + 1) & (1 << pictureIDBits - 1)
    }
}

/// What a VP9 frame's uncompressed header says (VP9 bitstream specification section 6.2).
struct VP9Header: Hashable {
    var isKey = false
    /// Its probabilities build on no earlier frame's.
    var isErrorResilient = true
    /// Where the frame says it itself and does not take it from another.
    var size: PictureSize?

    /// Nil where the bytes are no frame's.
    init?(_ frame: UnsafeRawBufferPointer) {
        var reader = BitReader(frame)
        guard reader.bits(2) == 2 else { return nil }
        let profile = reader.bit() | reader.bit() << 1
        if profile == 3, reader.flag() { return nil }
        if reader.flag() { return }  // shows a frame again
        isKey = !reader.flag()
        let isShown = reader.flag()
        isErrorResilient = reader.flag()
        var hasSize = isKey
        if isKey {
            guard Self.hasSyncCode(&reader) else { return nil }
            Self.skipColor(&reader, profile)
        } else {
            let isIntra = isShown ? false : reader.flag()
            if !isErrorResilient { reader.skip(2) }
            if isIntra {
                guard Self.hasSyncCode(&reader) else { return nil }
                if profile > 0 { Self.skipColor(&reader, profile) }
                hasSize = true
                reader.skip(8)
            } else {
                reader.skip(8 + 3 * 4)
                hasSize = !(0..<3).contains { _ in reader.flag() }
            }
        }
        if hasSize {
            size = PictureSize(width: reader.bits(16) + 1, height: reader.bits(16) + 1)
        }
        if reader.isExhausted { return nil }
    }

    private static func hasSyncCode(_ reader: inout BitReader) -> Bool { reader.bits(24) == 0x498342 }

    private static func skipColor(_ reader: inout BitReader, _ profile: Int) {
        if profile >= 2 { reader.skip(1) }
        let isRGB = reader.bits(3) == 7
        if isRGB { reader.skip(profile & 1) } else { reader.skip(profile & 1 == 1 ? 4 : 1) }
    }
}

/// Several frames of one picture as one unit: frames, then their lengths (VP9 bitstream specification, annex B).
enum VP9Superframe {
    static let framesMax = 8

    /// Nil where there are too many frames for one.
    static func join(_ layers: [ArraySlice<UInt8>]) -> [UInt8]? {
        // A layer's frame may be a superframe itself (with one that is not shown).
        let frames = layers.flatMap { split($0) }
        guard frames.count <= framesMax, let longest = frames.map(\.count).max() else { return nil }
        let bytesPerLength = (Int.bitWidth - longest.leadingZeroBitCount + 7) / 8
        guard bytesPerLength <= 4 else { return nil }
        let marker = UInt8(0xC0 | (bytesPerLength - 1) << 3 | (frames.count - 1))
        var joined = frames.flatMap { $0 } + [marker]
        for frame in frames { for i in 0..<bytesPerLength { joined.append(UInt8(truncatingIfNeeded: frame.count >> (8 * i))) } }
        return joined + [marker]
    }

    static func split(_ frame: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        guard let marker = frame.last, marker & 0xE0 == 0xC0 else { return [frame] }
        let bytesPerLength = Int(marker >> 3 & 3) + 1
        let count = Int(marker & 7) + 1
        let index = 2 + bytesPerLength * count
        guard frame.count > index, frame[frame.endIndex - index] == marker else { return [frame] }
        var frames: [ArraySlice<UInt8>] = []
        let end = frame.endIndex - index
        var at = frame.startIndex
        for i in 0..<count {
            let place = end + 1 + bytesPerLength * i
            let length = (0..<bytesPerLength).reduce(0) { $0 | Int(frame[place + $1]) << (8 * $1) }
            guard length > 0, length <= end - at else { return [frame] }
            frames.append(frame[at..<at + length])
            at += length
        }
        return frames
    }
}
