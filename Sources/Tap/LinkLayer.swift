import Media

/// Finds the UDP datagram in a captured frame. Pure; every length is checked, against the frame and against the headers above it.
enum LinkLayer {
    enum Content: Hashable {
        case datagram(CapturedDatagram)
        case fragment(Fragment)
        /// A header says that there was more than was captured.
        case cut
        /// No UDP over IP: another protocol, ICMP that quotes a packet, noise.
        case nothing
    }

    enum Version: Hashable { case four, six }

    /// Ethernet (1) with VLAN tags, NULL and LOOP (0, 108), RAW (101, 12, 14, 228, 229), SLL (113), SLL2 (276).
    static func content(_ frame: [UInt8], link: UInt32, arrival: WallTime) -> Content {
        var at: Int
        switch link {
        case 1: at = 12
        case 113: at = 14
        case 276: at = 0
        case 0, 108: return network(frame, 4, arrival)
        case 12, 14, 101, 228, 229: return network(frame, 0, arrival)
        default: return .nothing
        }
        // At most four tags (IEEE 802.1Q, 802.1ad, and the type that was used for QinQ before); SLL2 has its type in front.
        var tags = 0
        while tags < 4, at + 2 <= frame.count, [0x8100, 0x88A8, 0x9100].contains(frame.big16(at)) {
            at = link == 276 && tags == 0 ? 22 : at + 4
            tags += 1
        }
        guard at + 2 <= frame.count, [0x0800, 0x86DD].contains(frame.big16(at)) else { return .nothing }
        return network(frame, link == 276 && tags == 0 ? 20 : at + 2, arrival)
    }

    private static func network(_ frame: [UInt8], _ at: Int, _ arrival: WallTime) -> Content {
        guard at < frame.count else { return .nothing }
        switch frame[at] >> 4 {
        case 4: return ip4(frame, at, arrival)
        case 6: return ip6(frame, at, arrival)
        default: return .nothing
        }
    }

    /// RFC 791 section 3.1. The total length cuts off what the link layer padded; 0 is what a network card leaves there that segments by itself.
    private static func ip4(_ frame: [UInt8], _ at: Int, _ arrival: WallTime) -> Content {
        guard at + 20 <= frame.count else { return .nothing }
        let (head, total) = (Int(frame[at] & 15) * 4, Int(frame.big16(at + 2)))
        let end = total == 0 ? frame.count : at + total
        guard head >= 20, at + head <= end else { return .nothing }
        guard frame[at + 9] == 17 else { return .nothing }
        guard end <= frame.count else { return .cut }
        let (source, destination) = (ip4Address(frame, at + 12), ip4Address(frame, at + 16))
        let flags = frame.big16(at + 6)
        guard flags & 0x3FFF != 0 else { return udp(frame, at + head..<end, source, destination, arrival) }
        let key = Fragment.Key(version: .four, source: source, destination: destination, id: UInt32(frame.big16(at + 4)))
        return .fragment(Fragment(key: key, offset: Int(flags & 0x1FFF) * 8, isLast: flags & 0x2000 == 0, nextHeader: 17, bytes: Array(frame[at + head..<end])))
    }

    private static func ip4Address(_ frame: [UInt8], _ at: Int) -> IPAddress {
        IPAddress(bytes: [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + frame[at..<at + 4])
    }

    private static func ip6(_ frame: [UInt8], _ at: Int, _ arrival: WallTime) -> Content {
        guard at + 40 <= frame.count else { return .nothing }
        let length = Int(frame.big16(at + 4))
        let end = length == 0 ? frame.count : at + 40 + length
        let (source, destination) = (IPAddress(bytes: frame[at + 8..<at + 24]), IPAddress(bytes: frame[at + 24..<at + 40]))
        return ip6(frame, frame[at + 6], at + 40..<end, source, destination, arrival)
    }

    /// Extension headers (RFC 8200 section 4): hop-by-hop, routing, destination options, mobility, HIP, shim6; AH counts in words; at most eight.
    private static func ip6(_ frame: [UInt8], _ first: UInt8, _ range: Range<Int>, _ source: IPAddress, _ destination: IPAddress, _ arrival: WallTime) -> Content {
        var (next, place) = (first, range.lowerBound)
        for _ in 0..<8 where [0, 43, 44, 51, 60, 135, 139, 140].contains(next) {
            guard place + 8 <= min(range.upperBound, frame.count) else { return .nothing }
            if next == 44 {
                guard range.upperBound <= frame.count else { return .cut }
                let word = frame.big16(place + 2)
                let key = Fragment.Key(version: .six, source: source, destination: destination, id: frame.big32(place + 4))
                let (after, bytes) = (frame[place], Array(frame[place + 8..<range.upperBound]))
                // An atomic fragment is whole (RFC 6946).
                if word & 0xFFF9 == 0 { return transport((after, bytes), .six, source, destination, arrival) }
                return .fragment(Fragment(key: key, offset: Int(word & 0xFFF8), isLast: word & 1 == 0, nextHeader: after, bytes: bytes))
            }
            let length = next == 51 ? (Int(frame[place + 1]) + 2) * 4 : (Int(frame[place + 1]) + 1) * 8
            next = frame[place]
            place += length
        }
        guard next == 17, place <= range.upperBound else { return .nothing }
        guard range.upperBound <= frame.count else { return .cut }
        return udp(frame, place..<range.upperBound, source, destination, arrival)
    }

    /// What was put together out of fragments: what follows the IP header.
    static func transport(_ whole: (nextHeader: UInt8, bytes: [UInt8]), _ version: Version, _ source: IPAddress, _ destination: IPAddress, _ arrival: WallTime) -> Content {
        switch version {
        case .four: udp(whole.bytes, 0..<whole.bytes.count, source, destination, arrival)
        // Fragments within fragments are nobody's honest traffic.
        case .six: whole.nextHeader == 44 ? .nothing : ip6(whole.bytes, whole.nextHeader, 0..<whole.bytes.count, source, destination, arrival)
        }
    }

    private static func udp(_ frame: [UInt8], _ range: Range<Int>, _ source: IPAddress, _ destination: IPAddress, _ arrival: WallTime) -> Content {
        guard range.count >= 8 else { return .nothing }
        let (at, length) = (range.lowerBound, Int(frame.big16(range.lowerBound + 4)))
        guard length >= 8 else { return .nothing }
        guard length <= range.count else { return .cut }
        return .datagram(CapturedDatagram(arrival: arrival, source: source, sourcePort: frame.big16(at), destination: destination, destinationPort: frame.big16(at + 2),
                                          payload: Array(frame[at + 8..<at + length])))
    }
}
