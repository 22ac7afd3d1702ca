import Media

/// pcap (draft-ietf-opsawg-pcap) in µs and ns and both byte orders.
final class PcapReader: CaptureReader {
    /// Longest record that is read; a longer one is no packet.
    static let recordBytesMax = 1 << 20

    private let bytes: CaptureBytes
    private let isBigEndian: Bool
    private let isNano: Bool
    private let link: UInt32
    private var frames = FrameReader()
    private(set) var counts = CaptureCounts()

    init(_ bytes: CaptureBytes) throws(CaptureFileError) {
        guard let head = try bytes.take(24, begun: true) else { throw bytes.error("is cut in its header") }
        self.bytes = bytes
        isBigEndian = head[0] == 0xA1
        isNano = head[1] == 0x3C || head[2] == 0x3C
        // The upper bits may say how long a frame check sequence is.
        link = head.number32(20, bigEndian: isBigEndian) & 0x0FFF_FFFF
    }

    func next() throws(CaptureFileError) -> CapturedDatagram? {
        while true {
            let place = bytes.position
            guard let head = try bytes.take(16) else { break }
            let (captured, original) = (Int(head.number32(8, bigEndian: isBigEndian)), Int(head.number32(12, bigEndian: isBigEndian)))
            guard captured <= Self.recordBytesMax else { throw bytes.error("is damaged: a packet of \(captured) bytes at byte \(place)") }
            guard let frame = try bytes.take(captured, begun: true) else { break }
            let fraction = Int64(head.number32(4, bigEndian: isBigEndian)) * (isNano ? 1 : 1_000)
            let arrival = WallTime(nanoseconds: Int64(head.number32(0, bigEndian: isBigEndian)) * 1_000_000_000 + fraction)
            if let datagram = frames.take(frame, originalBytes: original, link: link, arrival: arrival, counts: &counts) { return datagram }
        }
        frames.end(counts: &counts)
        return nil
    }
}

/// From a captured frame to a whole UDP datagram, with what is held back of fragmented ones.
struct FrameReader {
    private var assembly = FragmentAssembly()

    mutating func take(_ frame: [UInt8], originalBytes: Int, link: UInt32, arrival: WallTime, counts: inout CaptureCounts) -> CapturedDatagram? {
        guard originalBytes <= frame.count else {
            counts.cut += 1
            return nil
        }
        switch LinkLayer.content(frame, link: link, arrival: arrival) {
        case .datagram(let datagram): return datagram
        case .cut: counts.cut += 1
        case .nothing: counts.skipped += 1
        case .fragment(let fragment):
            let whole = assembly.take(fragment, arrival: arrival)
            counts.fragments = assembly.dropped
            guard let whole else { return nil }
            if case .datagram(let datagram) = LinkLayer.transport(whole, fragment.key.version, fragment.key.source, fragment.key.destination, arrival) { return datagram }
            counts.skipped += 1
        }
        return nil
    }

    mutating func end(counts: inout CaptureCounts) {
        assembly.dropAll()
        counts.fragments = assembly.dropped
    }
}
