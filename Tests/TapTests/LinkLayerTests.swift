import Media
@testable import Tap
import TestSupport
import Testing

/// Frames around one UDP datagram.
enum Wire {
    static func be<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
    static func udp(_ payload: [UInt8], to port: UInt16 = 5_004) -> [UInt8] { be(UInt16(5_000)) + be(port) + be(UInt16(8 + payload.count)) + [0, 0] + payload }

    /// IPv4 without options; `fragment` is the word of flags and offset.
    static func ip4(_ body: [UInt8], id: UInt16 = 1, fragment: UInt16 = 0, next: UInt8 = 17) -> [UInt8] {
        [0x45, 0] + be(UInt16(20 + body.count)) + be(id) + be(fragment) + [64, next, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2] + body
    }

    static func ip6(_ body: [UInt8], next: UInt8 = 17) -> [UInt8] {
        [0x60, 0, 0, 0] + be(UInt16(body.count)) + [next, 64] + [UInt8](repeating: 1, count: 16) + [UInt8](repeating: 2, count: 16) + body
    }

    static func ip6Fragment(_ body: [UInt8], offset: Int, isLast: Bool, id: UInt32 = 1, next: UInt8 = 17) -> [UInt8] {
        ip6([next, 0] + be(UInt16(offset | (isLast ? 0 : 1))) + be(id) + body, next: 44)
    }
}

@Suite("From a frame to a datagram")
struct LinkLayerTests {
    private let now = WallTime(seconds: 100)
    private let mac = [UInt8](repeating: 2, count: 12)

    private func payload(_ frame: [UInt8], _ link: UInt32) -> [UInt8]? {
        if case .datagram(let found) = LinkLayer.content(frame, link: link, arrival: now) { found.payload } else { nil }
    }

    @Test("every link type leads to the same datagram")
    func links() {
        let packet = Wire.ip4(Wire.udp([7, 8, 9]))
        let frames: [(UInt32, [UInt8])] = [
            (1, mac + [8, 0] + packet), (1, mac + [0x81, 0, 0, 5, 8, 0] + packet), (1, mac + [0x88, 0xA8, 0, 5, 0x81, 0, 0, 6, 8, 0] + packet),
            (1, mac + [0x91, 0, 0, 5, 0x81, 0, 0, 6, 8, 0] + packet), (113, [UInt8](repeating: 0, count: 14) + [8, 0] + packet),
            (276, [8, 0] + [UInt8](repeating: 0, count: 18) + packet), (276, [0x81, 0] + [UInt8](repeating: 0, count: 18) + [0, 5, 8, 0] + packet),
            (0, [2, 0, 0, 0] + packet), (108, [0, 0, 0, 2] + packet), (12, packet), (101, packet), (228, packet), (229, Wire.ip6(Wire.udp([7, 8, 9]))),
        ]
        for (link, frame) in frames { #expect(payload(frame, link) == [7, 8, 9], "link type \(link)") }
    }

    @Test("IP options, extension headers and padding below the smallest frame are stepped over")
    func headers() {
        let body = Wire.udp([7])
        let options: [UInt8] = [0x46, 0] + Wire.be(UInt16(24 + body.count)) + [0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0] + body
        #expect(payload(options + [0, 0, 0, 0, 0, 0], 101) == [7])
        // Hop-by-hop of 16 bytes, authentication header of 24, destination options of 8.
        let chain: [UInt8] = [51, 1] + [UInt8](repeating: 0, count: 14) + [60, 4] + [UInt8](repeating: 0, count: 22) + [17, 0, 0, 0, 0, 0, 0, 0] + body
        #expect(payload(Wire.ip6(chain, next: 0) + [9, 9], 101) == [7])
        // An atomic fragment is whole.
        #expect(payload(Wire.ip6Fragment(body, offset: 0, isLast: true), 101) == [7])
    }

    @Test("ICMP that quotes a datagram, TCP and encrypted payloads are nobody's packets, and a header that promises more is cut")
    func others() {
        let quoted = [3, 3, 0, 0, 0, 0, 0, 0] + Wire.ip4(Wire.udp([7]))
        #expect(LinkLayer.content(Wire.ip4(quoted, next: 1), link: 101, arrival: now) == .nothing)
        #expect(LinkLayer.content(Wire.ip6(quoted, next: 58), link: 101, arrival: now) == .nothing)
        #expect(LinkLayer.content(Wire.ip6(quoted, next: 50), link: 101, arrival: now) == .nothing)
        #expect(LinkLayer.content(Wire.ip4(Wire.udp([7, 8])).dropLast(), link: 101, arrival: now) == .cut)
        #expect(LinkLayer.content(Wire.ip6(Wire.udp([7, 8])).dropLast(), link: 101, arrival: now) == .cut)
        var lying = Wire.udp([7, 8])
        lying[5] = 40
        #expect(LinkLayer.content(Wire.ip4(lying), link: 101, arrival: now) == .cut)
        lying[5] = 7
        #expect(LinkLayer.content(Wire.ip4(lying), link: 101, arrival: now) == .nothing)
    }

    /// Feeds IP packets, a second apart, and gives back the payloads and the counts.
    private func read(_ packets: [[UInt8]], apart: Double = 0.001) -> (payloads: [[UInt8]], counts: CaptureCounts) {
        var (reader, counts, payloads) = (FrameReader(), CaptureCounts(), [[UInt8]]())
        for (place, packet) in packets.enumerated() {
            let at = WallTime(seconds: 100 + Double(place) * apart)
            if let found = reader.take(packet, originalBytes: packet.count, link: 101, arrival: at, counts: &counts) { payloads.append(found.payload) }
        }
        reader.end(counts: &counts)
        return (payloads, counts)
    }

    @Test("fragments come together in any order, of IPv4 and IPv6, also where the first one has more extension headers")
    func fragments() {
        let payload = (0..<60).map { UInt8($0) }
        let whole = Wire.udp(payload)
        let four = [Wire.ip4(Array(whole[0..<24]), fragment: 0x2000), Wire.ip4(Array(whole[24..<48]), fragment: 0x2003), Wire.ip4(Array(whole[48...]), fragment: 6)]
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 1, 1, 2]] { #expect(read(order.map { four[$0] }).payloads == [payload]) }
        let long = [17, 0, 0, 0, 0, 0, 0, 0] + whole
        let six = [Wire.ip6Fragment(Array(long[0..<32]), offset: 0, isLast: false, next: 60), Wire.ip6Fragment(Array(long[32...]), offset: 32, isLast: true, next: 60)]
        #expect(read(six.reversed()).payloads == [payload])
        #expect(read([four[0], four[2]]).counts.fragments == 2)
    }

    @Test("fragments that overlap, contradict the end, or come half a minute later make no datagram")
    func voidFragments() {
        let whole = Wire.udp((0..<60).map { UInt8($0) })
        let (first, last) = (Wire.ip4(Array(whole[0..<48]), fragment: 0x2000), Wire.ip4(Array(whole[48...]), fragment: 6))
        let overlap = Wire.ip4([UInt8](repeating: 0xEE, count: 16), fragment: 0x2005)
        let beyond = Wire.ip4([UInt8](repeating: 0xEE, count: 8), fragment: 0x2000 | 20)
        #expect(read([first, overlap, last]).payloads == [])
        #expect(read([overlap, first, last]).payloads == [])
        #expect(read([last, beyond, first]).payloads == [])
        // As many bytes as the whole has, with a hole and an overlap of the same length.
        let long = Wire.udp((0..<60).map { UInt8($0) })
        let pieces = [Wire.ip4(Array(long[0..<24]), fragment: 0x2000), Wire.ip4(Array(long[16..<40]), fragment: 0x2002), Wire.ip4(Array(long[48...]), fragment: 6)]
        #expect(read(pieces).payloads == [])
        #expect(read([first, last], apart: 31).payloads == [])
        #expect(read([Wire.ip4([UInt8](repeating: 1, count: 16), fragment: 0x3FFF)]).payloads == [])
    }

    @Test("open datagrams are few, and the oldest gives way")
    func bounded() {
        let (head, tail) = (Wire.udp([UInt8](repeating: 3, count: 16)), [UInt8](repeating: 3, count: 8))
        let opened = (0..<UInt16(300)).map { Wire.ip4(Array(head.prefix(16)), id: $0, fragment: 0x2000) }
        let closed = (0..<UInt16(300)).map { Wire.ip4(tail, id: $0, fragment: 2) }
        // 44 were given up; their ends open new ones, which push out others, but never more than there may be.
        #expect(read(opened + closed.reversed()).payloads.count == 256)
    }

    @Test("what was captured in part is counted and never used")
    func snapLength() {
        var (reader, counts) = (FrameReader(), CaptureCounts())
        let packet = Wire.ip4(Wire.udp([7, 8]))
        #expect(reader.take(packet, originalBytes: packet.count + 1, link: 101, arrival: now, counts: &counts) == nil)
        #expect(counts.cut == 1)
    }

    @Test("noise gives nothing, and never a crash", arguments: 0..<20 as Range<UInt64>)
    func noise(seed: UInt64) {
        var random = Seeded(seed)
        var (reader, counts) = (FrameReader(), CaptureCounts())
        for step in 0..<2_000 {
            var frame = random.bytes(Int.random(in: 0...90, using: &random))
            // Half of it looks like IP, so that it gets further.
            if step % 2 == 0, frame.count > 44 {
                frame[0] = Bool.random(using: &random) ? 0x45 : 0x60
                frame[frame[0] == 0x45 ? 9 : 6] = [17, 44, 0, 51, 60].randomElement(using: &random) ?? 17
                if frame[0] == 0x45 { frame.replaceSubrange(2..<4, with: Wire.be(UInt16(frame.count))) }
            }
            let link: UInt32 = step % 2 == 0 ? 101 : [0, 1, 12, 101, 108, 113, 276, 999].randomElement(using: &random) ?? 1
            _ = reader.take(frame, originalBytes: frame.count, link: link, arrival: WallTime(seconds: Double.random(in: 0...40, using: &random)), counts: &counts)
        }
    }
}
