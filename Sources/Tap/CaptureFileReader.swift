import Foundation
import Glibc
import Media

/// One UDP datagram out of a capture file.
public struct CapturedDatagram: Hashable, Sendable {
    public var arrival: WallTime
    public var source: IPAddress
    public var sourcePort: UInt16
    public var destinationPort: UInt16
    public var payload: [UInt8]
}

/// Why a file cannot be read as a capture.
public struct CaptureFileError: Error, Hashable, Sendable, CustomStringConvertible {
    public var path: String
    public var what: String
    public var description: String { "\(path): \(what)" }
}

/// Reads pcap and pcapng files datagram by datagram, with memory for one packet: a file of 10 GB needs no more than a small one.
///
/// pcap in µs and ns and both byte orders; pcapng with several interfaces and resolutions. What is no UDP, a fragment or cut is skipped and
/// counted; a file that ends in the middle of a packet yields what was whole.
public final class CaptureFileReader {
    /// Longest record that is read; a longer one is no packet.
    static let recordBytesMax = 1 << 20

    private let path: String
    private let file: UnsafeMutablePointer<FILE>
    private let isNG: Bool
    private var isSwapped = false
    private var interfaces: [(link: UInt32, ticksPerSecond: Double, offsetSeconds: Int64)] = []
    /// Records that were no whole UDP datagram, or say no time (pcapng's simple packets).
    public private(set) var skipped = 0
    /// The file ended in the middle of a record.
    public private(set) var isTruncated = false
    public private(set) var bytesRead = 0
    public let size: Int

    public init(path: String) throws(CaptureFileError) {
        self.path = path
        guard let opened = fopen(path, "rbe") else { throw CaptureFileError(path: path, what: "cannot be opened: \(String(cString: strerror(errno)))") }
        file = opened
        var status = stat()
        size = fstat(fileno(opened), &status) == 0 ? Int(status.st_size) : 0
        var magic: UInt32 = 0
        guard fread(&magic, 4, 1, opened) == 1 else {
            isNG = false
            throw CaptureFileError(path: path, what: "is no capture: it has fewer than 4 bytes")
        }
        bytesRead = 4
        switch magic {
        case 0x0A0D_0D0A:
            isNG = true
            rewind(opened)
            bytesRead = 0
        case 0xA1B2_C3D4, 0xD4C3_B2A1, 0xA1B2_3C4D, 0x4D3C_B2A1:
            isNG = false
            isSwapped = magic == 0xD4C3_B2A1 || magic == 0x4D3C_B2A1
            let isNano = magic == 0xA1B2_3C4D || magic == 0x4D3C_B2A1
            guard let head = take(20) else { throw CaptureFileError(path: path, what: "is cut in its header") }
            interfaces = [(word(head, 16) & 0x0FFF_FFFF, isNano ? 1e9 : 1e6, 0)]
        default:
            isNG = false
            throw CaptureFileError(path: path, what: "is no capture: neither pcap nor pcapng")
        }
    }

    deinit { fclose(file) }

    /// The next UDP datagram; nil at the end of the file.
    public func next() throws(CaptureFileError) -> CapturedDatagram? {
        while let record = try isNG ? nextBlock() : nextRecord() {
            if let datagram = LinkLayer.datagram(record.bytes, link: record.link, arrival: record.arrival) { return datagram }
            skipped += 1
        }
        return nil
    }

    private typealias Record = (bytes: [UInt8], link: UInt32, arrival: WallTime)

    private func nextRecord() throws(CaptureFileError) -> Record? {
        guard let head = take(16) else { return nil }
        let length = Int(word(head, 8))
        guard length <= Self.recordBytesMax else { throw CaptureFileError(path: path, what: "is damaged: a packet of \(length) bytes at byte \(bytesRead)") }
        guard let bytes = take(length) else {
            isTruncated = true
            return nil
        }
        let fraction = Int64(Double(word(head, 4)) * (1e9 / interfaces[0].ticksPerSecond))
        return (bytes, interfaces[0].link, WallTime(nanoseconds: Int64(word(head, 0)) * 1_000_000_000 + fraction))
    }

    private func nextBlock() throws(CaptureFileError) -> Record? {
        while let head = take(8) {
            if word(head, 0) == 0x0A0D_0D0A {
                guard let order = take(4) else { break }
                isSwapped = order == [0x1A, 0x2B, 0x3C, 0x4D]
                interfaces = []
                guard try body(Int(word(head, 4)) - 12) != nil else { break }
                continue
            }
            guard let bytes = try body(Int(word(head, 4)) - 8) else { break }
            switch word(head, 0) {
            case 1 where bytes.count >= 8 && interfaces.count < 1_024: interfaces.append(interface(bytes))
            case 6 where bytes.count >= 20:
                let (place, captured) = (Int(word(bytes, 0)), Int(word(bytes, 12)))
                guard place < interfaces.count, 20 + captured <= bytes.count else {
                    skipped += 1
                    continue
                }
                let ticks = UInt64(word(bytes, 4)) << 32 | UInt64(word(bytes, 8))
                let rate = interfaces[place].ticksPerSecond
                let seconds = (Double(ticks) / rate).rounded(.down)
                let arrival = rate == 1e9 ? Int64(truncatingIfNeeded: ticks)
                    : Int64(min(seconds, 9e9)) * 1_000_000_000 + Int64((Double(ticks) - seconds * rate) * 1e9 / rate)
                let offset = Nanoseconds(count: interfaces[place].offsetSeconds &* 1_000_000_000)
                return (Array(bytes[20..<20 + captured]), interfaces[place].link, WallTime(nanoseconds: arrival) + offset)
            case 3: skipped += 1
            default: continue
            }
        }
        return nil
    }

    private func body(_ length: Int) throws(CaptureFileError) -> [UInt8]? {
        guard (4...Self.recordBytesMax).contains(length), length % 4 == 0 else {
            throw CaptureFileError(path: path, what: "is damaged: a block of \(length) bytes at byte \(bytesRead)")
        }
        guard let bytes = take(length) else {
            isTruncated = true
            return nil
        }
        return Array(bytes.dropLast(4))
    }

    /// An interface's link type, its if_tsresol (microseconds without it) and if_tsoffset.
    private func interface(_ block: [UInt8]) -> (link: UInt32, ticksPerSecond: Double, offsetSeconds: Int64) {
        var (resolution, offset) = (1e6, Int64(0))
        var at = 8
        while at + 4 <= block.count {
            let (code, length) = (half(block, at), Int(half(block, at + 2)))
            guard code != 0, at + 4 + length <= block.count else { break }
            if code == 9, length == 1 {
                let value = block[at + 4]
                resolution = value & 0x80 != 0 ? Double(sign: .plus, exponent: min(Int(value & 0x7F), 63), significand: 1) : pow(10, Double(min(value, 19)))
            }
            if code == 14, length == 8 {
                let bits = block.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at + 4, as: Int64.self) }
                offset = isSwapped ? bits.byteSwapped : bits
            }
            at += 4 + (length + 3) / 4 * 4
        }
        return (UInt32(half(block, 0)), resolution, offset)
    }

    private func take(_ count: Int) -> [UInt8]? {
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in used = fread(buffer.baseAddress!, 1, count, file) }
        bytesRead += bytes.count
        return bytes.count == count ? bytes : nil
    }

    private func word(_ bytes: [UInt8], _ at: Int) -> UInt32 {
        let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt32.self) }
        return isSwapped ? value.byteSwapped : value
    }

    private func half(_ bytes: [UInt8], _ at: Int) -> UInt16 {
        let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt16.self) }
        return isSwapped ? value.byteSwapped : value
    }
}
