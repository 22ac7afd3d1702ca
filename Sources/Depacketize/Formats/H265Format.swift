/// H.265 in RTP (RFC 7798, without decoding order numbers) and what its NAL units say (ITU-T H.265 section 7.3).
enum H265Syntax: NALSyntax {
    static var firstKind: NALParameterSet.Kind { .video }

    static func packet(_ payload: UnsafeRawBufferPointer) -> NALPacket? {
        guard payload.count >= 2 else { return nil }
        switch payload[0] >> 1 & 0x3F {
        case 0...47: return .single
        case 48: return payload.count > 4 ? .aggregate(from: 2) : nil
        case 49:
            guard payload.count > 3, payload[2] & 0x3F < 48 else { return nil }
            return .fragment(from: 3, isStart: payload[2] & 0x80 != 0, isEnd: payload[2] & 0x40 != 0)
        default: return nil  // PACI and what is not specified
        }
    }

    static func header(ofFragment payload: UnsafeRawBufferPointer) -> [UInt8] { [payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]] }

    static func beginsKeyFrame(header: UInt8) -> Bool { [16, 17, 18, 19, 20, 21, 32, 33].contains(header >> 1 & 0x3F) }

    static func unit(_ nal: UnsafeRawBufferPointer) -> NALUnit? {
        guard nal.count >= 2, nal[0] & 0x80 == 0 else { return nil }
        let type = nal[0] >> 1 & 0x3F
        guard type < 48 else { return nil }
        guard nal[0] & 1 == 0, nal[1] >> 3 == 0 else { return .superfluous }  // another layer (annexes F to I)
        var reader = BitReader(UnsafeRawBufferPointer(rebasing: nal.dropFirst(2)), isEscaped: true)
        switch type {
        case 0...9, 16...21:
            let isFirst = reader.flag()
            if type >= 16 { reader.skip(1) }
            let set = reader.exponential()
            guard !reader.isExhausted, set <= 63 else { return nil }
            let isRASL = type == 8 || type == 9
            let isBrokenLink = (16...18).contains(type)
            return .slice(
                NALSlice(
                    isFirst: isFirst, isRandomAccess: type >= 16, hasLeading: isBrokenLink || type == 21, isBrokenLink: isBrokenLink,
                    isLeading: isRASL, pictureSet: set))
        case 32:
            let number = reader.bits(4)
            return reader.isExhausted ? nil : .parameterSet(NALParameterSet(kind: .video, number: number))
        case 33: return sequenceSet(&reader).map { .parameterSet($0) }
        case 34:
            let (number, base) = (reader.exponential(), reader.exponential())
            guard !reader.isExhausted, number <= 63, base <= 15 else { return nil }
            return .parameterSet(NALParameterSet(kind: .picture, number: number, base: base))
        case 36, 39, 40: return .other  // after an end of sequence picture order starts anew
        default: return .superfluous
        }
    }

    private static func sequenceSet(_ reader: inout BitReader) -> NALParameterSet? {
        let base = reader.bits(4)
        let layers = reader.bits(3)
        reader.skip(1 + 88 + 8)  // nesting flag, general profile, general level
        var present: [(profile: Bool, level: Bool)] = []
        for _ in 0..<layers { present.append((reader.flag(), reader.flag())) }
        if layers > 0 { reader.skip(2 * (8 - layers)) }
        for layer in present { reader.skip((layer.profile ? 88 : 0) + (layer.level ? 8 : 0)) }
        let number = reader.exponential()
        let chroma = reader.exponential()
        if chroma == 3 { reader.skip(1) }
        var (width, height) = (reader.exponential(), reader.exponential())
        if reader.flag() {
            let (left, right, top, bottom) = (reader.exponential(), reader.exponential(), reader.exponential(), reader.exponential())
            width -= (chroma == 1 || chroma == 2 ? 2 : 1) * (left + right)
            height -= (chroma == 1 ? 2 : 1) * (top + bottom)
        }
        guard !reader.isExhausted, number <= 15, chroma <= 3, (1...16_384).contains(width), (1...16_384).contains(height) else { return nil }
        return NALParameterSet(kind: .sequence, number: number, base: base, size: PictureSize(width: width, height: height))
    }
}
