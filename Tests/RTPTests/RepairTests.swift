import Media
import RTP
import TestSupport
import Testing

@Suite("Retransmission and redundancy")
struct RepairTests {
    private func restored(_ bytes: [UInt8]) throws -> (RTPHeader, RTPHeader?) {
        let header = try bytes.withUnsafeBytes { buffer throws(RTPError) in try RTPHeader(buffer) }
        return (header, bytes.withUnsafeBytes { Retransmission.restored(header, in: $0, apt: 96, ssrc: SSRC(rawValue: 1)) })
    }

    @Test("a retransmission gives back the header that the lost packet had (RFC 4588 section 4)")
    func retransmission() throws {
        let bytes = rtp(900, 77, payloadType: 97, ssrc: 2, marker: true, payload: [0x12, 0x34, 5, 6, 7])
        let (repair, media) = try restored(bytes)
        var expected = repair
        (expected.sequenceNumber, expected.payloadType, expected.ssrc, expected.payload) = (0x1234, 96, SSRC(rawValue: 1), 14..<17)
        #expect(media == expected)
        #expect((media?.timestamp, media?.marker) == (77, true))
    }

    @Test("a retransmission that holds nothing repairs nothing, one of an empty packet gives the empty packet")
    func empty() throws {
        #expect(try restored(rtp(1, 2, payload: [])).1 == nil)
        #expect(try restored(rtp(1, 2, payload: [9])).1 == nil)
        #expect(try restored(rtp(1, 2, payload: [0, 9])).1?.payload == 14..<14)
    }

    @Test("which payload type repairs which stands in the format parameters")
    func types() {
        let rtx = Codec(name: "rtx", clockRate: 90_000)
        let format = TrackFormat(kind: .video, codecs: [96: .vp8, 97: rtx, 98: rtx, 99: rtx, 100: rtx, 101: rtx],
                                 parameters: [96: "apt=97", 97: "rtx-time=3000; APT=96", 98: "apt=50", 99: "apt=99", 100: "apt=x"])
        #expect(Retransmission.mediaTypes(of: format) == [97: 96])
    }

    @Test("format parameters are pairs, whatever the spaces and the case of their names")
    func parameters() {
        let found = FormatParameters(" Packetization-Mode = 1;sprop-parameter-sets=Z0LA=,aM4=; usedtx ;;=3")
        #expect([found["packetization-mode"], found["sprop-parameter-sets"], found["usedtx"], found["other"]] == ["1", "Z0LA=,aM4=", "", nil])
    }

    private func blocks(_ bytes: [UInt8]) -> [RedundantAudio.Block]? { bytes.withUnsafeBytes { RedundantAudio.blocks($0) } }

    @Test("redundant blocks come with their age, the primary one last (RFC 2198 section 3)")
    func redundancy() {
        // 1920 (30 x 64) earlier, 3 bytes; 960 (15 x 64) earlier, 0 bytes; then the primary one.
        let bytes: [UInt8] = [0x80 | 111, 30, 0, 3, 0x80 | 111, 15, 0, 0, 111, 1, 2, 3, 4, 5]
        #expect(blocks(bytes) == [.init(payloadType: 111, timestampOffset: 1_920, range: 9..<12), .init(payloadType: 111, timestampOffset: 960, range: 12..<12),
                                  .init(payloadType: 111, timestampOffset: 0, range: 12..<14)])
        #expect(blocks([111, 9, 9]) == [.init(payloadType: 111, timestampOffset: 0, range: 1..<3)])
        #expect(blocks([0x80, 0xFF, 0xFF, 0xFF, 0] + Array(repeating: 0, count: 1_023)) == [
            .init(payloadType: 0, timestampOffset: 16_383, range: 5..<1_028), .init(payloadType: 0, timestampOffset: 0, range: 1_028..<1_028)])
        for cut in 0..<12 { #expect(blocks(Array(bytes.prefix(cut))) == nil) }
    }

    @Test("lengths that do not fit and endless headers give nothing")
    func hostile() {
        #expect(blocks([0x80, 0, 3, 0xFF, 0]) == nil)
        #expect(blocks(Array(repeating: [0x80, 0, 0, 0], count: 31).flatMap { $0 } + [0])?.count == 32)
        #expect(blocks(Array(repeating: [0x80, 0, 0, 0], count: 32).flatMap { $0 } + [0]) == nil)
        #expect(blocks(Array(repeating: 0xFF, count: 1_400)) == nil)
    }
}
