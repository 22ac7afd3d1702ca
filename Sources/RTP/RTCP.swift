/// One packet of a compound RTCP datagram (RFC 3550 section 6), as far as it matters here.
public enum RTCPPacket: Hashable, Sendable {
    case senderReport(SSRC, SenderReport)
    case goodbye([SSRC])
    /// A type that is not looked into.
    case other(type: UInt8)

    public struct SenderReport: Hashable, Sendable {
        /// 64-bit NTP time: seconds since 1900 and fraction.
        public var ntp: UInt64
        public var rtpTimestamp: UInt32
        public var packets: UInt32
        public var octets: UInt32

        public init(ntp: UInt64, rtpTimestamp: UInt32, packets: UInt32, octets: UInt32) {
            self.ntp = ntp
            self.rtpTimestamp = rtpTimestamp
            self.packets = packets
            self.octets = octets
        }
    }

    /// Reads a compound datagram; at most 64 packets of it.
    public static func parse(_ bytes: UnsafeRawBufferPointer) throws(RTPError) -> [RTCPPacket] {
        var packets: [RTCPPacket] = []
        var at = 0
        while at < bytes.count, packets.count < 64 {
            guard bytes.count - at >= 4 else { throw .truncated(needed: at + 4, available: bytes.count) }
            guard bytes[at] >> 6 == 2 else { throw .badVersion(bytes[at] >> 6) }
            let length = (Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])) * 4 + 4
            guard bytes.count - at >= length else { throw .truncated(needed: at + length, available: bytes.count) }
            packets.append(one(UnsafeRawBufferPointer(rebasing: bytes[at..<at + length])))
            at += length
        }
        return packets
    }

    private static func one(_ bytes: UnsafeRawBufferPointer) -> RTCPPacket {
        func word(_ offset: Int) -> UInt32 { UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        switch bytes[1] {
        case 200 where bytes.count >= 28:
            return .senderReport(SSRC(rawValue: word(4)), SenderReport(ntp: UInt64(word(8)) << 32 | UInt64(word(12)), rtpTimestamp: word(16),
                                                                       packets: word(20), octets: word(24)))
        case 203:
            let count = min(Int(bytes[0] & 31), (bytes.count - 4) / 4)
            return .goodbye((0..<count).map { SSRC(rawValue: word(4 + 4 * $0)) })
        default: return .other(type: bytes[1])
        }
    }

    /// Asks a sender for a key frame: an empty receiver report and a picture loss indication (RFC 4585 section 6.3.1).
    public static func pictureLossIndication(from sender: SSRC, about media: SSRC) -> [UInt8] {
        [0x80, 201, 0, 1] + word(sender.rawValue) + [0x81, 206, 0, 2] + word(sender.rawValue) + word(media.rawValue)
    }

    private static func word(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
}
