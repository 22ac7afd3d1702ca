import Media

/// Finds the UDP datagram in a captured frame. Pure; every length is checked.
enum LinkLayer {
    /// Ethernet (1) with VLAN tags, NULL and LOOP (0, 108), RAW (101, 12, 228, 229), SLL (113), SLL2 (276).
    static func datagram(_ frame: [UInt8], link: UInt32, arrival: WallTime) -> CapturedDatagram? {
        var at: Int
        switch link {
        case 1:
            at = 12
            // At most four tags.
            for _ in 0..<4 where at + 2 <= frame.count && [0x8100, 0x88A8].contains(half(frame, at)) { at += 4 }
            guard at + 2 <= frame.count, [0x0800, 0x86DD].contains(half(frame, at)) else { return nil }
            at += 2
        case 0, 108: at = 4
        case 12, 101, 228, 229: at = 0
        case 113: at = 16
        case 276: at = 20
        default: return nil
        }
        guard at < frame.count else { return nil }
        switch frame[at] >> 4 {
        case 4: return ip4(frame, at, arrival)
        case 6: return ip6(frame, at, arrival)
        default: return nil
        }
    }

    private static func ip4(_ frame: [UInt8], _ at: Int, _ arrival: WallTime) -> CapturedDatagram? {
        guard at + 20 <= frame.count else { return nil }
        let head = Int(frame[at] & 15) * 4
        let isFragment = half(frame, at + 6) & 0x3FFF != 0
        guard head >= 20, frame[at + 9] == 17, !isFragment else { return nil }
        let source = IPAddress(bytes: [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + frame[at + 12..<at + 16])
        return udp(frame, at + head, source, arrival)
    }

    private static func ip6(_ frame: [UInt8], _ at: Int, _ arrival: WallTime) -> CapturedDatagram? {
        guard at + 40 <= frame.count else { return nil }
        let source = IPAddress(bytes: Array(frame[at + 8..<at + 24]))
        var (next, place) = (frame[at + 6], at + 40)
        // Hop-by-hop, routing, destination options; at most eight.
        for _ in 0..<8 where [0, 43, 60].contains(next) {
            guard place + 2 <= frame.count else { return nil }
            next = frame[place]
            place += (Int(frame[place + 1]) + 1) * 8
        }
        return next == 17 ? udp(frame, place, source, arrival) : nil
    }

    private static func udp(_ frame: [UInt8], _ at: Int, _ source: IPAddress, _ arrival: WallTime) -> CapturedDatagram? {
        guard at + 8 <= frame.count else { return nil }
        let length = Int(half(frame, at + 4))
        guard length >= 8, at + length <= frame.count else { return nil }
        return CapturedDatagram(arrival: arrival, source: source, sourcePort: half(frame, at), destinationPort: half(frame, at + 2),
                                payload: Array(frame[at + 8..<at + length]))
    }

    private static func half(_ bytes: [UInt8], _ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
}
