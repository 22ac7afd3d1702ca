import Foundation
import Media

/// pcapng (draft-ietf-opsawg-pcapng): sections of both byte orders, several interfaces with resolutions and offsets of their own.
///
/// Enhanced packet blocks are read. Simple packet blocks say no time and are counted as skipped; statistics, names and the like are passed over.
final class PcapngReader: CaptureReader {
    static let interfacesMax = 1_024

    private struct Interface {
        var link: UInt32
        var ticksPerSecond = 1e6
        var offsetSeconds: Int64 = 0
    }

    private let bytes: CaptureBytes
    private var isBigEndian = false
    private var interfaces: [Interface] = []
    private var frames = FrameReader()
    private(set) var counts = CaptureCounts()

    init(_ bytes: CaptureBytes) { self.bytes = bytes }

    func next() throws(CaptureFileError) -> CapturedDatagram? {
        while true {
            let place = bytes.position
            guard let head = try bytes.take(8) else { break }
            if head.prefix(4) == [0x0A, 0x0D, 0x0D, 0x0A] {
                guard let order = try bytes.take(4, begun: true) else { break }
                isBigEndian = order == [0x1A, 0x2B, 0x3C, 0x4D]
                guard isBigEndian || order == [0x4D, 0x3C, 0x2B, 0x1A] else { throw bytes.error("is damaged: a section without a byte order at byte \(place)") }
                interfaces = []
                guard try body(head, less: 12, place) != nil else { break }
                continue
            }
            guard let block = try body(head, less: 8, place) else { break }
            switch head.number32(0, bigEndian: isBigEndian) {
            case 1 where block.count >= 8 && interfaces.count < Self.interfacesMax: interfaces.append(interface(block))
            case 6 where block.count >= 20: if let datagram = packet(block) { return datagram }
            case 3: counts.skipped += 1
            default: continue
            }
        }
        frames.end(counts: &counts)
        return nil
    }

    private func body(_ head: [UInt8], less: Int, _ place: Int) throws(CaptureFileError) -> [UInt8]? {
        let length = Int(head.number32(4, bigEndian: isBigEndian)) - less
        guard (4...PcapReader.recordBytesMax).contains(length), length % 4 == 0 else {
            throw bytes.error("is damaged: a block of \(length + less) bytes at byte \(place)")
        }
        return try bytes.take(length, begun: true)?.dropLast(4)
    }

    private func packet(_ block: [UInt8]) -> CapturedDatagram? {
        func word(_ at: Int) -> UInt32 { block.number32(at, bigEndian: isBigEndian) }
        let (place, captured, original) = (Int(word(0)), Int(word(12)), Int(word(16)))
        guard place < interfaces.count, 20 + captured <= block.count else {
            counts.skipped += 1
            return nil
        }
        let ticks = UInt64(word(4)) << 32 | UInt64(word(8))
        let rate = interfaces[place].ticksPerSecond
        let seconds = (Double(ticks) / rate).rounded(.down)
        let arrival = rate == 1e9 ? Int64(truncatingIfNeeded: ticks)
            : Int64(min(seconds, 9e9)) * 1_000_000_000 + Int64(min((Double(ticks) - seconds * rate) / rate, 1) * 1e9)
        let offset = Nanoseconds(count: interfaces[place].offsetSeconds &* 1_000_000_000)
        return frames.take(Array(block[20..<20 + captured]), originalBytes: original, link: interfaces[place].link, arrival: WallTime(nanoseconds: arrival) + offset, counts: &counts)
    }

    /// An interface's link type, its if_tsresol (microseconds without it) and if_tsoffset.
    private func interface(_ block: [UInt8]) -> Interface {
        var found = Interface(link: UInt32(block.number16(0, bigEndian: isBigEndian)))
        var at = 8
        while at + 4 <= block.count {
            let (code, length) = (block.number16(at, bigEndian: isBigEndian), Int(block.number16(at + 2, bigEndian: isBigEndian)))
            guard code != 0, at + 4 + length <= block.count else { break }
            if code == 9, length == 1 {
                let value = block[at + 4]
                found.ticksPerSecond = value & 0x80 != 0 ? Double(sign: .plus, exponent: min(Int(value & 0x7F), 63), significand: 1) : pow(10, Double(min(value, 19)))
            }
            if code == 14, length == 8 {
                let (first, second) = (UInt64(block.number32(at + 4, bigEndian: isBigEndian)), UInt64(block.number32(at + 8, bigEndian: isBigEndian)))
                found.offsetSeconds = Int64(bitPattern: isBigEndian ? first << 32 | second : second << 32 | first)
            }
            at += 4 + (length + 3) / 4 * 4
        }
        return found
    }
}
