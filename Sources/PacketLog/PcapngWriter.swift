import Media

/// Writes a track's packets as pcapng (draft-ietf-opsawg-pcapng) with raw IPv4 and UDP around them: the debugging export for whoever
/// holds the key. Pure: bytes come out; nanosecond time stamps; everything from 127.0.0.1 to 127.0.0.1.
public struct PcapngWriter {
    /// Section header and one interface of link type RAW (101) with nanosecond time stamps.
    public static let head: [UInt8] =
        le(0x0A0D_0D0A, 28) + le(0x1A2B_3C4D) + [1, 0, 0, 0] + [UInt8](repeating: 0xFF, count: 8) + le(28)
        + le(1, 32) + [101, 0, 0, 0] + le(0) + [9, 0, 1, 0, 9, 0, 0, 0] + le(0) + le(32)

    /// One record as an enhanced packet block: RTP to `port`, RTCP to `port` + 1, nothing for marks.
    public static func block(_ record: TrackRecord, port: UInt16) -> [UInt8] {
        switch record {
        case .rtp(let arrival, let bytes): packet(bytes, arrival, port)
        case .rtcp(let arrival, let bytes): packet(bytes, arrival, port &+ 1)
        case .mark: []
        }
    }

    private static func packet(_ payload: [UInt8], _ arrival: WallTime, _ port: UInt16) -> [UInt8] {
        let udpLength = 8 + payload.count
        var ip: [UInt8] = [0x45, 0] + be(UInt16(20 + udpLength)) + [0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]
        let sum = stride(from: 0, to: 20, by: 2).reduce(UInt32(0)) { $0 + UInt32(ip[$1]) << 8 + UInt32(ip[$1 + 1]) }
        ip.replaceSubrange(10..<12, with: be(~UInt16(truncatingIfNeeded: (sum & 0xFFFF) + sum >> 16)))
        let data = ip + be(port) + be(port) + be(UInt16(udpLength)) + [0, 0] + payload
        let padding = (4 - data.count % 4) % 4
        let length = UInt32(32 + data.count + padding)
        let time = UInt64(bitPattern: arrival.nanoseconds)
        return le(6, length) + le(0, UInt32(time >> 32)) + le(UInt32(truncatingIfNeeded: time), UInt32(data.count)) + le(UInt32(data.count))
            + data + [UInt8](repeating: 0, count: padding) + le(length)
    }

    private static func le(_ values: UInt32...) -> [UInt8] { values.flatMap { withUnsafeBytes(of: $0.littleEndian, Array.init) } }
    private static func be(_ value: UInt16) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
}
