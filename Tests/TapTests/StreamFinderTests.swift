import Media
import RTP
@testable import Tap
import TestSupport
import Testing

@Suite("RTP found without an SDP")
struct StreamFinderTests {
    private func datagram(_ payload: [UInt8], at seconds: Double, port: UInt16 = 40_000, from: UInt16 = 5_000) -> CapturedDatagram {
        CapturedDatagram(arrival: WallTime(seconds: 100 + seconds), source: IPAddress(bytes: [1]), sourcePort: from, destination: IPAddress(bytes: [2]), destinationPort: port, payload: payload)
    }

    private func found(_ datagrams: [CapturedDatagram]) -> StreamFinder {
        var finder = StreamFinder()
        for datagram in datagrams { finder.take(datagram) }
        return finder
    }

    /// `count` packets every 20 ms.
    private func stream(_ count: Int, type: UInt8, ticks: UInt32, from first: Int = 0, ssrc: UInt32 = 7, port: UInt16 = 40_000, _ payload: (Int) -> [UInt8]) -> [CapturedDatagram] {
        (first..<first + count).map {
            datagram(rtp(UInt16(truncatingIfNeeded: $0), UInt32(truncatingIfNeeded: $0) &* ticks, payloadType: type, ssrc: ssrc, payload: payload($0)), at: Double($0 - first) * 0.02, port: port)
        }
    }

    @Test("five packets in sequence make a stream, four do not, and a sequence number may wrap")
    func run() {
        #expect(found(stream(4, type: 0, ticks: 160) { _ in [1] }).flows.isEmpty)
        let flows = found(stream(5, type: 0, ticks: 160, from: 65_533) { _ in [1] }).flows
        #expect(flows == [StreamFinder.Flow(
            destinationPort: 40_000, ssrc: SSRC(rawValue: 7), packets: 5, first: WallTime(seconds: 100), last: WallTime(seconds: 100.08),
            payloads: [.init(type: 0, packets: 5, codec: Codec(name: "PCMU", clockRate: 8_000), evidence: .assigned)])])
    }

    @Test("loss, duplicates and overtaking do not break a sequence; leaps do")
    func steps() {
        func count(_ numbers: [UInt16], _ ticks: UInt32 = 160) -> Int {
            found(numbers.enumerated().map { datagram(rtp($1, UInt32($1) &* ticks, payloadType: 8, payload: [1]), at: Double($0) * 0.02) }).flows.count
        }
        #expect(count([1, 2, 2, 5, 4, 60, 61]) == 1)
        #expect(count([1, 900, 3, 700, 5, 300, 7, 4_000, 9]) == 0)
        #expect(count([1, 2, 3, 4, 5, 6], 1_000_000_000) == 0)
    }

    @Test("RTCP, STUN, DTLS, the zero packets that open a path, and noise are no streams")
    func others() {
        var random = Seeded(5)
        let reports = (0..<20).map { datagram([0x81, 200, 0, 1, 0, 0, 0, UInt8($0)], at: Double($0)) }
        let zero = (0..<20).map { datagram([0x80] + [UInt8](repeating: 0, count: 11), at: Double($0)) }
        let stun = (0..<20).map { datagram([0, 1, 0, 0] + [UInt8](repeating: 3, count: 20), at: Double($0)) }
        let noise = (0..<30_000).map { datagram([0x80] + random.bytes(30), at: Double($0) / 1_000) }
        let finder = found(reports + zero + stun + noise)
        #expect(finder.flows.isEmpty)
        #expect(finder.overlooked > 0)
    }

    @Test("Opus is guessed where each packet's length is confirmed by the next one's time stamp, and not otherwise")
    func opus() {
        // Config 15 (hybrid, 20 ms), one frame.
        let speech = stream(60, type: 111, ticks: 960) { [0x78, UInt8($0), 2, 3] }
        #expect(found(speech).flows.map(\.payloads) == [[.init(type: 111, packets: 60, codec: .opus, evidence: .guessed)]])
        #expect(found(Array(speech.prefix(20))).flows.map { $0.payloads[0].evidence } == [.unknown])
        var random = Seeded(3)
        let encrypted = stream(500, type: 111, ticks: 960) { _ in random.bytes(60) }
        #expect(found(encrypted).flows.map { $0.payloads[0].evidence } == [.unknown])
    }

    @Test("VP8 is guessed by the start code of a key frame, H.264 by its parameter sets, and neither by pictures in between")
    func video() {
        let vp8 = stream(60, type: 96, ticks: 1_800) { $0 % 30 == 0 ? [0x10, 0x50, 1, 2, 0x9D, 0x01, 0x2A, 64, 0, 48, 0, 9] : [0x10, 0x51, 1, 2] }
        #expect(found(vp8).flows.map { $0.payloads[0].codec } == [.vp8])
        #expect(found(Array(vp8.dropFirst().prefix(20))).flows.map { $0.payloads[0].codec } == [nil])
        let h264 = stream(60, type: 102, ticks: 1_800) { $0 % 30 == 0 ? [24, 0, 6, 0x67, 66, 0xE0, 31, 1, 2, 0, 2, 0x68, 1] : [0x7C, 0x41, 1, 2] }
        #expect(found(h264).flows.map { $0.payloads[0].codec } == [Codec(name: "H264", clockRate: 90_000)])
        var random = Seeded(4)
        for type in [96, 102] as [UInt8] {
            #expect(found(stream(2_000, type: type, ticks: 1_800) { _ in random.bytes(900) }).flows.map { $0.payloads[0].evidence } == [.unknown])
        }
    }

    private func sip(_ start: String, _ sdp: String, type: String = "application/sdp") -> [UInt8] {
        Array("\(start)\r\nContent-Type: \(type)\r\nContent-Length: \(sdp.utf8.count)\r\n\r\n\(sdp)".utf8)
    }

    @Test("the SDPs of both legs name the codecs of the ports they announce, and beat guessing")
    func signalling() {
        let offer = "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 6120 RTP/AVP 96 101\r\na=rtpmap:96 G7221/16000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtcp:6125\r\n"
        let answer = "v=0\r\nm=audio 6150 RTP/AVP 8\r\n"
        let finder = found([datagram(sip("INVITE sip:bridge@127.0.0.1 SIP/2.0", offer), at: 0, port: 5_060), datagram(sip("SIP/2.0 200 OK", answer), at: 0, port: 5_071)]
            + stream(60, type: 96, ticks: 960, port: 6_120) { [0x78, UInt8($0), 2, 3] } + stream(10, type: 8, ticks: 160, ssrc: 9, port: 6_150) { _ in [1] })
        #expect(finder.suggestions().map(\.sdp) == [
            "v=0\r\nm=audio 6120 RTP/AVP 96 101\r\na=rtpmap:96 G7221/16000\r\na=rtpmap:101 TELEPHONE-EVENT/8000\r\na=fmtp:101 0-15\r\na=rtcp:6125\r\n",
            "v=0\r\nm=audio 6150 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n",
        ])
        #expect(finder.flows.map { $0.payloads[0].evidence } == [.announced, .announced])
    }

    @Test("an SDP in a part of a body is found, and what only looks like SIP announces nothing")
    func bodies() {
        let part = "--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\nm=audio 7000 RTP/AVP 0\r\n--x\r\nContent-Type: application/rs-metadata+xml\r\n\r\n<a/>\r\n--x--\r\n"
        var finder = SessionFinder()
        let taken = [
            finder.take(sip("INVITE sip:a@b SIP/2.0", part, type: "multipart/mixed;boundary=x")), finder.take(sip("SIP/2.0 200 OK", "v=0\r\nthis is no SDP\r\n")),
            finder.take(sip("GET / HTTP/1.1", "v=0\r\nm=audio 7002 RTP/AVP 0\r\n")),
        ]
        #expect(taken == [true, true, false])
        #expect(Array(finder.announced.keys) == [7_000])
    }

    @Test("two kinds at one port are told apart by SSRC; what is suggested can be read back")
    func shared() throws {
        let finder = found(stream(60, type: 111, ticks: 960, ssrc: 1) { [0x78, UInt8($0), 2, 3] } + stream(60, type: 96, ticks: 1_800, ssrc: 2) { _ in [0x10, 0, 2, 3, 0x9D, 0x01, 0x2A, 64, 0, 48, 0, 9] })
        let suggested = finder.suggestions()
        #expect(suggested.map(\.kind) == [.audio, .video])
        #expect(try suggested.map { try SessionDescription(parsing: $0.sdp).media[0].ssrcs } == [[SSRC(rawValue: 1)], [SSRC(rawValue: 2)]])
    }

    @Test("mutilated signalling and packets never crash the finder", arguments: 0..<20 as Range<UInt64>)
    func fuzz(seed: UInt64) {
        var random = Seeded(seed)
        var finder = StreamFinder()
        let message = sip("INVITE sip:a@b SIP/2.0", "v=0\r\nm=audio 7000 RTP/AVP 0 96\r\na=rtpmap:96 opus/48000/2\r\n")
        for step in 0..<500 {
            var bytes = step % 3 == 0 ? message : rtp(UInt16(step), UInt32(step) &* 960, payload: random.bytes(Int.random(in: 0...30, using: &random)))
            for _ in 0..<Int.random(in: 0...4, using: &random) { bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
            finder.take(datagram(Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random))), at: Double(step)))
        }
        _ = finder.suggestions()
    }
}
