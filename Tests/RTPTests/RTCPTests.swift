import Media
import RTP
import TestSupport
import Testing

@Suite("RTCP")
struct RTCPTests {
    private func parse(_ bytes: [UInt8]) throws -> [RTCPPacket] { try bytes.withUnsafeBytes { buffer throws(RTPError) in try RTCPPacket.parse(buffer) } }
    private func be(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
    private func ssrc(_ value: UInt32) -> SSRC { SSRC(rawValue: value) }

    /// A sender report of 2018 with one report block.
    private var senderReport: [UInt8] {
        [0x81, 200, 0, 12] + be(1_831_097_322) + be(0xDE46_475B) + be(0x151A_005C) + be(1_722_342_718) + be(269) + be(13_557)
            + be(2_398_654_957) + [0] + [0, 0, 0] + be(246) + be(127) + be(0) + be(0)
    }
    private let senderReportRead = RTCPPacket.senderReport(SSRC(rawValue: 1_831_097_322), .init(
        ntp: 16_016_567_581_311_369_308, rtpTimestamp: 1_722_342_718, packets: 269, octets: 13_557,
        reports: [.init(source: SSRC(rawValue: 2_398_654_957), fractionLost: 0, lost: 0, highestSequence: 246, jitter: 127, lastSenderReport: 0, delaySinceSenderReport: 0)]))

    @Test("a sender report gives its times, its counts and its report blocks")
    func senderReports() throws { #expect(try parse(senderReport) == [senderReportRead]) }

    @Test("a receiver report's losses have a sign of their own")
    func receiverReport() throws {
        let block = be(9) + [64, 0xFF, 0xFF, 0xFE] + be(0x1_0005) + be(77) + be(0x4788_F77E) + be(0x1_8000)
        #expect(try parse([0x81, 201, 0, 7] + be(5) + block) == [.receiverReport(ssrc(5), [
            .init(source: ssrc(9), fractionLost: 64, lost: -2, highestSequence: 0x1_0005, jitter: 77, lastSenderReport: 0x4788_F77E, delaySinceSenderReport: 0x1_8000),
        ])])
        #expect(try parse([0x80, 201, 0, 1] + be(5)) == [.receiverReport(ssrc(5), [])])
    }

    @Test("of a source description only the canonical name is kept, and it does not print")
    func description() throws {
        let name: [UInt8] = Array("anna@host".utf8)
        // A tool (6) before the name, then a chunk without any item.
        let items: [UInt8] = [6, 2, 0x61, 0x62, 1, UInt8(name.count)] + name + [0]
        let body = be(7) + items + be(8) + [0, 0, 0, 0]
        #expect(items.count % 4 == 0)
        let found = try parse([0x82, 202, 0, UInt8(body.count / 4)] + body)
        #expect(found == [.sourceDescription([.init(source: ssrc(7), name: CanonicalName(rawValue: "anna@host")), .init(source: ssrc(8), name: nil)])])
        var dumped = ""
        dump(found, to: &dumped)
        #expect(!"\(found)\(String(reflecting: found))\(dumped)".contains("anna"))
    }

    @Test("a goodbye gives its sources, whatever its reason")
    func goodbye() throws {
        #expect(try parse([0x82, 203, 0, 4] + be(1) + be(2) + [4, 0x62, 0x79, 0x65, 0x21, 0, 0, 0]) == [.goodbye([ssrc(1), ssrc(2)])])
        #expect(try parse([0x80, 203, 0, 0]) == [.goodbye([])])
    }

    @Test("feedback is read as it is written")
    func feedback() throws {
        let (me, media) = (ssrc(1), ssrc(0x0102_0304))
        let empty = RTCPPacket.receiverReport(me, [])
        #expect(try parse(RTCPPacket.pictureLossIndication(from: me, about: media)) == [empty, .pictureLoss(from: me, about: media)])
        #expect(try parse(RTCPPacket.fullIntraRequest(from: me, about: media, sequenceNumber: 200)) == [empty, .intraRequest(from: me, [.init(media: media, sequenceNumber: 200)])])
        let lost: [UInt16] = [65_530, 65_534, 2, 10, 11, 27, 28, 900]
        #expect(try parse(RTCPPacket.genericNACK(from: me, about: media, lost: lost)) == [empty, .negativeAcknowledgement(from: me, about: media, lost: lost)])
    }

    @Test("a full intra request is the one of RFC 5104, a generic NACK the one of RFC 4585")
    func written() {
        let empty: [UInt8] = [0x80, 201, 0, 1, 0, 0, 0, 1]
        #expect(RTCPPacket.fullIntraRequest(from: ssrc(1), about: ssrc(0x0102_0304), sequenceNumber: 7)
            == empty + [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 7, 0, 0, 0])
        // 10 and in its mask 11 (bit 0), 26 (bit 15); 27 is too far.
        #expect(RTCPPacket.genericNACK(from: ssrc(1), about: ssrc(2), lost: [10, 11, 26, 27] as [UInt16])
            == empty + [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 10, 0x80, 1, 0, 27, 0, 0])
        #expect(RTCPPacket.genericNACK(from: ssrc(1), about: ssrc(2), lost: []) == [])
        #expect(RTCPPacket.genericNACK(from: ssrc(1), about: ssrc(2), lost: [5, 5] as [UInt16]).count == empty.count + 16)
        let most = RTCPPacket.genericNACK(from: ssrc(1), about: ssrc(2), lost: stride(from: 0, to: 60_000, by: 20).map { UInt16($0) })
        #expect(most.count == empty.count + 12 + 4 * RTCPPacket.lostPairsMax)
    }

    @Test("types that are not looked into stand for themselves")
    func others() throws {
        let packets: [(UInt8, UInt8)] = [(0x80, 204), (0x8F, 205), (0x8F, 206), (0x80, 207), (0x80, 195)]
        #expect(try parse(packets.flatMap { [$0.0, $0.1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2] }) == packets.map { .other(type: $0.1) })
    }

    @Test("a compound without a report in front is read too, and padding is no content (RFC 5506)")
    func reduced() throws {
        #expect(try parse([0x81, 206, 0, 2] + be(1) + be(2)) == [.pictureLoss(from: ssrc(1), about: ssrc(2))])
        #expect(try parse([0xA1, 203, 0, 2] + be(9) + [0, 0, 0, 4]) == [.goodbye([ssrc(9)])])
        #expect(throws: RTPError.badPadding(0)) { try parse([0xA0, 203, 0, 1, 0, 0, 0, 0]) }
        #expect(throws: RTPError.badPadding(3)) { try parse([0xA0, 203, 0, 1, 0, 0, 0, 3]) }
        #expect(throws: RTPError.badPadding(8)) { try parse([0xA0, 203, 0, 1, 0, 0, 0, 8]) }
    }

    static let lies: [[UInt8]] = [
        [0x81, 200, 0, 1, 0, 0, 0, 7],  // a sender report without its times
        [0x81, 200, 0, 6] + Array(repeating: 0, count: 24),  // a report block that is not there
        [0x9F, 201, 0, 7] + Array(repeating: 0, count: 28),
        [0x81, 202, 0, 1, 0, 0, 0, 7, 0], [0x81, 202, 0, 2, 0, 0, 0, 7, 1, 200, 0x61, 0x62],  // an item longer than its packet
        [0x82, 202, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0], [0x82, 203, 0, 1, 0, 0, 0, 7], [0x81, 205, 0, 1, 0, 0, 0, 7], [0x81, 206, 0, 1, 0, 0, 0, 7],
        [0x84, 206, 0, 0], [0x80, 200, 0xFF, 0xFF], [0x40, 201, 0, 0], [0x80],
    ]

    @Test("counts and lengths that promise more than there is refuse the datagram", arguments: lies)
    func lying(bytes: [UInt8]) { #expect(throws: RTPError.self) { try parse(bytes) } }

    @Test("a datagram cut anywhere but between two packets is refused")
    func truncated() throws {
        let whole = senderReport + [0x81, 202, 0, 2] + be(7) + [1, 1, 0x61, 0] + [0x81, 203, 0, 1] + be(7)
        #expect(try parse(whole).count == 3)
        for cut in 0..<whole.count {
            let packets = [0: 0, 52: 1, 64: 2][cut]
            if let packets { #expect(try parse(Array(whole.prefix(cut))).count == packets) } else { #expect(throws: RTPError.self) { try parse(Array(whole.prefix(cut))) } }
        }
    }

    @Test("what one datagram gives has a maximum")
    func bounded() throws {
        #expect(try parse((0..<100).flatMap { _ in [0x80, 203, 0, 0] as [UInt8] }).count == RTCPPacket.packetsMax)
        let nack = [0x81, 205, 0x3F, 0xFF] + Array(repeating: UInt8(0xFF), count: 0x3FFF * 4)
        guard case .negativeAcknowledgement(_, _, let lost)? = try parse(nack).first else { return #expect(Bool(false), "no NACK") }
        #expect(lost.count == RTCPPacket.lostMax)
        let fir = [0x84, 206, 0x3F, 0xFF] + Array(repeating: UInt8(0xFF), count: 0x3FFF * 4)
        guard case .intraRequest(_, let requests)? = try parse(fir).first else { return #expect(Bool(false), "no FIR") }
        #expect(requests.count == RTCPPacket.intraRequestsMax)
    }

    static let moments: [(UInt64, Int64, Int64)] = [
        (0x83AA_7E80_0000_0000, 0, 0), (0x83AA_7E80_8000_0000, 0, 500_000_000), (0x83AA_7E7F_8000_0000, 0, -500_000_000),
        // 2036-02-07T06:28:16Z is second 0 of the next era: just after it, just before it, each seen from the other side.
        (0x0000_0000_4000_0000, 2_085_978_400, 2_085_978_496_250_000_000), (0xFFFF_FFFF_0000_0000, 2_085_978_600, 2_085_978_495_000_000_000),
        (0xDE46_475B_151A_005C, 1_520_000_000, 1_520_158_939_082_427_999),
    ]

    @Test("NTP time is the moment nearest to the arrival, over the end of its era", arguments: moments)
    func ntp(ntp: UInt64, near: Int64, nanoseconds: Int64) {
        let report = RTCPPacket.SenderReport(ntp: ntp, rtpTimestamp: 0, packets: 0, octets: 0)
        let found = report.nanoseconds(near: WallTime(nanoseconds: near * 1_000_000_000))!
        #expect(found == nanoseconds)
    }

    @Test("a moment written as NTP time is read as the same nanosecond, and a report without a clock has none")
    func ntpRoundTrip() {
        var random = Seeded(1)
        for _ in 0..<10_000 {
            let time = WallTime(nanoseconds: Int64.random(in: -1_000_000_000_000_000_000...4_000_000_000_000_000_000, using: &random))
            #expect(NTPTime.wallTime(NTPTime.ntp(time), near: WallTime(nanoseconds: time.nanoseconds &+ Int64.random(in: -1_000_000_000_000_000_000...1_000_000_000_000_000_000, using: &random))) == time)
        }
        for extreme in [Int64.min, .max] { _ = NTPTime.wallTime(random.next(), near: WallTime(nanoseconds: extreme)) }
        #expect(RTCPPacket.SenderReport(ntp: 0, rtpTimestamp: 1, packets: 0, octets: 0).wallTime(near: WallTime(nanoseconds: 0)) == nil)
    }
}
