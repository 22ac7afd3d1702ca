/// H.264 in RTP (RFC 6184, packetization modes 0 and 1) and what its NAL units say (ITU-T H.264 section 7.3).
enum H264Syntax: NALSyntax {
    static var firstKind: NALParameterSet.Kind { .sequence }

    static func packet(_ payload: UnsafeRawBufferPointer) -> NALPacket? {
        guard let first = payload.first else { return nil }
        switch first & 0x1F {
        case 1...23: return .single
        case 24: return payload.count > 3 ? .aggregate(from: 1) : nil
        case 28:
            guard payload.count > 2, (1...23).contains(payload[1] & 0x1F) else { return nil }
            return .fragment(from: 2, isStart: payload[1] & 0x80 != 0, isEnd: payload[1] & 0x40 != 0)
        default: return nil  // STAP-B, MTAP, FU-B are for interleaving
        }
    }

    static func header(ofFragment payload: UnsafeRawBufferPointer) -> [UInt8] { [payload[0] & 0xE0 | payload[1] & 0x1F] }

    static func beginsKeyFrame(header: UInt8) -> Bool { header & 0x1F == 5 || header & 0x1F == 7 }

    static func unit(_ nal: UnsafeRawBufferPointer) -> NALUnit? {
        guard let header = nal.first else { return nil }
        var reader = BitReader(UnsafeRawBufferPointer(rebasing: nal.dropFirst()), isEscaped: true)
        switch header & 0x1F {
        case 1, 2, 5:
            let first = reader.exponential()
            let type = reader.exponential()
            let set = reader.exponential()
            guard !reader.isExhausted, type <= 9, set <= 255 else { return nil }
            return .slice(
                NALSlice(
                    isFirst: first == 0, isRandomAccess: header & 0x1F == 5, isLeading: type % 5 == 1, isDisposable: header & 0x60 == 0,
                    isIntra: type % 5 == 2 || type % 5 == 4, pictureSet: set))
        case 3, 4, 13, 19: return .other
        case 6: return isRecoveryPoint(UnsafeRawBufferPointer(rebasing: nal.dropFirst())) ? .recoveryPoint : .other
        case 7: return sequenceSet(&reader).map { .parameterSet($0) }
        case 8:
            let (number, base) = (reader.exponential(), reader.exponential())
            guard !reader.isExhausted, number <= 255, base <= 31 else { return nil }
            return .parameterSet(NALParameterSet(kind: .picture, number: number, base: base))
        case 9...12, 14...18, 20...23: return .superfluous
        default: return nil
        }
    }

    /// A recovery point message with `recovery_frame_cnt` 0 among the first messages (annex D.1.8).
    private static func isRecoveryPoint(_ messages: UnsafeRawBufferPointer) -> Bool {
        var reader = BitReader(messages, isEscaped: true)
        for _ in 0..<8 {
            let type = messageNumber(&reader)
            let length = messageNumber(&reader)
            guard !reader.isExhausted else { return false }
            if type == 6 {
                let count = reader.exponential()
                return count == 0 && !reader.isExhausted
            }
            reader.skip(8 * length)
        }
        return false
    }

    private static func messageNumber(_ reader: inout BitReader) -> Int {
        var number = 0
        while !reader.isExhausted {
            let byte = reader.bits(8)
            number += byte
            if byte != 0xFF { break }
        }
        return number
    }

    private static func sequenceSet(_ reader: inout BitReader) -> NALParameterSet? {
        let profile = reader.bits(8)
        reader.skip(16)
        let number = reader.exponential()
        var chroma = 1
        var hasPlanes = false
        if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(profile) {
            chroma = reader.exponential()
            if chroma == 3 { hasPlanes = reader.flag() }
            _ = (reader.exponential(), reader.exponential(), reader.bit())
            if reader.flag() {
                for list in 0..<(chroma == 3 ? 12 : 8) where reader.flag() { skipScalingList(&reader, list < 6 ? 16 : 64) }
            }
        }
        _ = reader.exponential()
        switch reader.exponential() {
        case 0: _ = reader.exponential()
        case 1:
            _ = (reader.bit(), reader.signedExponential(), reader.signedExponential())
            let cycle = reader.exponential()
            guard cycle <= 255 else { return nil }
            for _ in 0..<cycle { _ = reader.signedExponential() }
        default: break
        }
        _ = (reader.exponential(), reader.bit())
        let (columns, rows) = (reader.exponential(), reader.exponential())
        let isProgressive = reader.flag()
        if !isProgressive { reader.skip(1) }
        reader.skip(1)
        var crop = (left: 0, right: 0, top: 0, bottom: 0)
        if reader.flag() { crop = (reader.exponential(), reader.exponential(), reader.exponential(), reader.exponential()) }
        guard !reader.isExhausted, number <= 31, chroma <= 3, columns < 1_024, rows < 1_024 else { return nil }
        let unitX = chroma == 0 || hasPlanes || chroma == 3 ? 1 : 2
        let unitY = (chroma == 1 ? 2 : 1) * (isProgressive ? 1 : 2)
        let width = (columns + 1) * 16 - unitX * (crop.left + crop.right)
        let height = (rows + 1) * 16 * (isProgressive ? 1 : 2) - unitY * (crop.top + crop.bottom)
        guard width > 0, height > 0 else { return nil }
        return NALParameterSet(kind: .sequence, number: number, size: PictureSize(width: width, height: height))
    }

    private static func skipScalingList(_ reader: inout BitReader, _ count: Int) {
        var (last, next) = (8, 8)
        for _ in 0..<count {
            if next != 0 { next = (last + reader.signedExponential()) & 0xFF }
            if next != 0 { last = next }
        }
    }
}
