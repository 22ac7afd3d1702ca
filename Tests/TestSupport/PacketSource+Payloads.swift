/// What is in the units: each holds its number, and the rest follows from it.
extension PacketSource {
    static let numberBytes = 8
    static let sequenceParameters: [UInt8] = [0x67, 0x42, 0xC0, 0x0D, 0xDA, 0x05, 0x07, 0xE4]  // Baseline, 320x240
    static let pictureParameters: [UInt8] = [0x68, 0xCE, 0x38, 0x80]

    /// What the depacketizer is to give out for it, byte for byte (H.264: as parameter sets and slice with start codes of four bytes).
    public func payload(of unit: SentUnit) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(unit.filling + 32)
        switch content {
        case .opus(let frameMs, _, _):
            switch frameMs {
            case _ where unit.isDiscontinuous: bytes.append(0xF8)
            case 20: bytes.append(0xF8)
            case 40: bytes.append(0xF9)
            default: bytes += [0xFB, UInt8(frameMs / 20)]
            }
            guard !unit.isDiscontinuous else { return bytes }
        case .pcmu: break
        case .vp8:
            bytes += unit.isKey ? [0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0] : [0x11, 0, 0]
        case .h264:
            let code: [UInt8] = [0, 0, 0, 1]
            return (unit.isKey ? code + Self.sequenceParameters + code + Self.pictureParameters : []) + code + slice(of: unit)
        }
        bytes.append(number: unit.number)
        bytes.append(filling: unit.filling, of: seed ^ UInt64(unit.number))
        return bytes
    }

    func slice(of unit: SentUnit) -> [UInt8] {
        var bytes: [UInt8] = unit.isKey ? [0x65, 0x88] : [0x41, 0x9A]
        bytes.reserveCapacity(unit.filling + 16)
        bytes.append(number: unit.number)
        bytes.append(filling: unit.filling, of: seed ^ UInt64(unit.number))
        return bytes
    }

    /// The number in a unit that came out; nil where it has none (discontinuous transmission), or is no unit of ours.
    public func number(in payload: [UInt8]) -> Int? {
        let at: Int
        switch content {
        case .opus(let frameMs, _, _): at = frameMs > 40 ? 2 : 1
        case .pcmu: at = 0
        case .vp8: at = payload.first.map { $0 & 1 == 0 ? 10 : 3 } ?? 0
        case .h264:
            // The slice is the last of the NAL units; there is no zero byte in it.
            let zero = payload.lastIndex(of: 0).map { $0 + 1 } ?? 0
            at = zero + 3
        }
        guard payload.count >= at + Self.numberBytes else { return nil }
        var number = 0
        for byte in payload[at..<at + Self.numberBytes] {
            guard byte & 0x80 != 0 else { return nil }
            number = number << 7 | Int(byte & 0x7F)
        }
        return number
    }
}

/// Bytes without a zero among them.
private let noise: [UInt8] = {
    var random = Seeded(0)
    return random.bytes(1 << 17).map { $0 | 1 }
}()

extension [UInt8] {
    mutating func append<Value: FixedWidthInteger>(be value: Value) { Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) } }

    /// In eight bytes of seven bits: none is zero, so that no start code comes about.
    fileprivate mutating func append(number: Int) {
        for shift in stride(from: 49, through: 0, by: -7) { append(0x80 | UInt8(number >> shift & 0x7F)) }
    }

    fileprivate mutating func append(filling count: Int, of seed: UInt64) {
        var random = Seeded(seed)
        let from = Int(random.next() % UInt64(noise.count - count))
        append(contentsOf: noise[from..<from + count])
    }
}
