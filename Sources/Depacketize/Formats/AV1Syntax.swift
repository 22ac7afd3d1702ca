/// What AV1's packets and OBUs say (RTP payload format for AV1, version 1.0, section 4; AV1 bitstream specification section 5).
enum AV1Syntax {
    enum UnitType { case sequenceHeader, temporalDelimiter, frameHeader, frame, tileList, padding, other }

    /// Calls `body` with each OBU element and whether it is the last, until one is refused; false then, and where a length does not fit.
    static func forEachElement(in payload: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer, Bool) -> Bool) -> Bool {
        guard payload.count > 1 else { return false }
        let count = Int(payload[0] >> 4 & 3)
        var at = 1
        var element = 0
        while at < payload.count {
            element += 1
            var length = payload.count - at
            if count == 0 || element < count {
                guard let read = readLength(payload, &at), read <= payload.count - at else { return false }
                length = read
            }
            let isLast = at + length == payload.count
            guard length > 0, count == 0 || isLast == (element == count) else { return false }
            guard body(UnsafeRawBufferPointer(rebasing: payload[at..<at + length]), isLast) else { return false }
            at += length
        }
        return true
    }

    /// leb128 (AV1 section 4.10.5), as far as a frame can be long.
    static func readLength(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> Int? {
        var value = 0
        for i in 0..<8 {
            guard at < bytes.count else { return nil }
            let byte = Int(bytes[at])
            at += 1
            value |= (byte & 0x7F) << (7 * i)
            if byte & 0x80 == 0 { return value <= 0xFFFF_FFFF ? value : nil }
        }
        return nil
    }

    static func append(length: Int, to bytes: inout [UInt8]) {
        var rest = length
        while rest > 0x7F {
            bytes.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    /// What an OBU is and where its payload lies; nil where the bytes are none.
    static func unit(_ obu: UnsafeRawBufferPointer) -> (type: UnitType, payload: Range<Int>)? {
        guard let header = obu.first, header & 0x80 == 0 else { return nil }
        var at = header & 0x04 != 0 ? 2 : 1
        guard at <= obu.count else { return nil }
        if header & 0x02 != 0 {
            guard let length = readLength(obu, &at), length == obu.count - at else { return nil }
        }
        let type: UnitType =
            switch header >> 3 & 15 {
            case 1: .sequenceHeader
            case 2: .temporalDelimiter
            case 3: .frameHeader
            case 6: .frame
            case 8: .tileList
            case 15: .padding
            default: .other
            }
        return (type, at..<obu.count)
    }

    /// The head of a frame of a sequence that is no still picture's: a key frame that is shown.
    static func isShownKey(_ frame: UnsafeRawBufferPointer) -> Bool {
        var reader = BitReader(frame)
        let showsExisting = reader.flag()
        let type = reader.bits(2)
        let isShown = reader.flag()
        return !showsExisting && type == 0 && isShown && !reader.isExhausted
    }

    /// The first packet of a coded video sequence (N), or one whose first OBU is a sequence header.
    static func beginsSequence(_ payload: UnsafeRawBufferPointer) -> Bool {
        guard let first = payload.first, first & 0x80 == 0 else { return false }
        var begins = false
        // The last element may be cut, so only its header is looked at; the first may be a delimiter that should not be there.
        _ = forEachElement(in: payload) { element, _ in
            let type = element[0] >> 3 & 15
            begins = type == 1
            return type == 2
        }
        return begins || first & 0x08 != 0 && payload.count > 1
    }
}

/// An AV1 sequence header (bitstream specification section 5.5), as far as the size.
struct AV1SequenceHeader: Hashable {
    var size: PictureSize
    /// A still picture's: its frame headers say nothing about their type.
    var isReduced: Bool

    init?(_ payload: UnsafeRawBufferPointer) {
        var reader = BitReader(payload)
        reader.skip(4)
        isReduced = reader.flag()
        if isReduced { reader.skip(5) } else { Self.skipOperatingPoints(&reader) }
        let (widthBits, heightBits) = (reader.bits(4) + 1, reader.bits(4) + 1)
        size = PictureSize(width: reader.bits(widthBits) + 1, height: reader.bits(heightBits) + 1)
        guard !reader.isExhausted else { return nil }
    }

    private static func skipOperatingPoints(_ reader: inout BitReader) {
        var delayBits: Int?
        if reader.flag() {  // timing info
            reader.skip(64)
            if reader.flag() { _ = reader.exponential() }  // uvlc() reads as ue(v) does
            if reader.flag() {  // decoder model info
                delayBits = reader.bits(5) + 1
                reader.skip(32 + 5 + 5)
            }
        }
        let hasDelay = reader.flag()
        for _ in 0...reader.bits(5) {
            reader.skip(12)
            if reader.bits(5) > 7 { reader.skip(1) }
            if let delayBits, reader.flag() { reader.skip(2 * delayBits + 1) }
            if hasDelay, reader.flag() { reader.skip(4) }
        }
    }
}
