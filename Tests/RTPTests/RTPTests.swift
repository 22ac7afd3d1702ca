import Media
import RTP
import TestSupport
import Testing

@Suite("RTP and RTCP")
struct RTPTests {
    private func header(_ bytes: [UInt8]) throws -> RTPHeader { try bytes.withUnsafeBytes { buffer throws(RTPError) in try RTPHeader(buffer) } }

    @Test("a packet with CSRC, extension and padding is read to the byte")
    func golden() throws {
        let bytes: [UInt8] = [0xB1, 0xE0, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 5, 1, 2, 3, 4, 0xBE, 0xDE, 0, 1, 0x10, 0x85, 0, 0, 0xAA, 0xBB, 0, 2]
        let found = try header(bytes)
        #expect(found.marker)
        #expect((found.payloadType, found.sequenceNumber, found.timestamp, found.ssrc) == (96, 0x1234, 9, SSRC(rawValue: 5)))
        #expect(found.payload == 24..<26)
        var extensions: [UInt8: [UInt8]] = [:]
        bytes.withUnsafeBytes { buffer in found.forEachExtension(in: buffer) { extensions[$0] = Array(bytes[$1]) } }
        #expect(extensions == [1: [0x85]])
        #expect(AudioLevel(0x85).voice && AudioLevel(0x85).level == 5)
    }

    @Test("two-byte extensions are read, unknown profiles have none")
    func twoByte() throws {
        var bytes: [UInt8] = [0x90, 96, 0, 1, 0, 0, 0, 9, 0, 0, 0, 5, 0x10, 0, 0, 2, 7, 3, 1, 2, 3, 0, 9, 0]
        func ids() throws -> [UInt8] {
            let found = try header(bytes)
            var ids: [UInt8] = []
            bytes.withUnsafeBytes { found.forEachExtension(in: $0) { id, _ in ids.append(id) } }
            return ids
        }
        #expect(try ids() == [7, 9])
        bytes[12] = 0x22
        #expect(try ids() == [])
    }

    static let lies: [([UInt8], RTPError)] = [
        ([], .truncated(needed: 12, available: 0)), (Array(repeating: 0x80, count: 11), .truncated(needed: 12, available: 11)),
        ([0x00] + Array(repeating: 0, count: 11), .badVersion(0)), ([0x8F] + Array(repeating: 0, count: 11), .truncated(needed: 72, available: 12)),
        ([0x90] + Array(repeating: 0, count: 11), .truncated(needed: 16, available: 12)),
        ([0x90] + Array(repeating: 0, count: 13) + [0xFF, 0xFF], .truncated(needed: 16 + 262_140, available: 16)), ([0xA0] + Array(repeating: 0, count: 11), .badPadding(0)),
        ([0xA0] + Array(repeating: 0, count: 11) + [13 + 1], .badPadding(14)),
    ]

    @Test("lying lengths are refused by name", arguments: lies)
    func lying(bytes: [UInt8], expected: RTPError) { #expect(throws: expected) { try header(bytes) } }

    @Test("a sender report gives its times, a goodbye its sources; a short one is refused")
    func rtcp() throws {
        let report: [UInt8] = [0x80, 200, 0, 6, 0, 0, 0, 7, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0x81, 203, 0, 1, 0, 0, 0, 7]
        let found = try report.withUnsafeBytes { buffer throws(RTPError) in try RTCPPacket.parse(buffer) }
        #expect(found == [.senderReport(SSRC(rawValue: 7), .init(ntp: 0x1_8000_0000, rtpTimestamp: 0x1000, packets: 3, octets: 4)), .goodbye([SSRC(rawValue: 7)])])
        #expect(throws: RTPError.self) { try Array(report.dropLast()).withUnsafeBytes { buffer throws(RTPError) in try RTCPPacket.parse(buffer) } }
    }

    @Test("a picture loss indication is the one of RFC 4585, behind an empty report")
    func pli() {
        #expect(RTCPPacket.pictureLossIndication(from: SSRC(rawValue: 1), about: SSRC(rawValue: 0x0102_0304))
            == [0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 206, 0, 2, 0, 0, 0, 1, 1, 2, 3, 4])
    }

    @Test("datagrams are told apart by their first bytes (RFC 7983, RFC 5761)")
    func classes() {
        func kind(_ bytes: [UInt8]) -> DatagramClass { bytes.withUnsafeBytes { DatagramClass($0) } }
        #expect([kind([0x80, 96]), kind([0x80, 200]), kind([0x80, 0xE0]), kind([0x16, 1]), kind([]), kind([0x80])] == [.rtp, .rtcp, .rtp, .other, .other, .other])
    }

    @Test("sequence numbers and time stamps are extended over their wraps, whatever the order")
    func extending() {
        var sequence = SequenceExtender()
        let base = sequence.extend(65_534)
        #expect([65_535, 1, 0, 2].map { sequence.extend($0) - base } == [1, 3, 2, 4])
        var time = TimestampExtender()
        let start = time.extend(0xFFFF_FF00)
        #expect([0x0000_0100, 0xFFFF_FF80].map { time.extend($0) - start } == [0x200, 0x80])
    }

    @Test("random and mutilated bytes never crash a parser", arguments: 0..<20 as Range<UInt64>)
    func fuzz(seed: UInt64) {
        var random = Seeded(seed)
        for _ in 0..<500 {
            var bytes = rtp(1, 2, payload: random.bytes(Int.random(in: 0...60, using: &random)))
            for _ in 0..<Int.random(in: 0...6, using: &random) where !bytes.isEmpty { bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
            bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
            bytes.withUnsafeBytes { buffer in
                if let header = try? RTPHeader(buffer) {
                    #expect(header.payload.upperBound <= bytes.count)
                    header.forEachExtension(in: buffer) { #expect($1.upperBound <= bytes.count && $0 > 0) }
                }
                _ = try? RTCPPacket.parse(buffer)
            }
        }
    }
}
