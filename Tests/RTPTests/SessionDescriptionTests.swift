import Foundation
import Media
import RTP
import TestSupport
import Testing
import Truth

@Suite("Session descriptions")
struct SessionDescriptionTests {
    @Test("the SDP of a Janus forward is read whole")
    func janus() throws {
        let truth = try CaptureTruth(capture: Checkout.fixtures.appending(path: "vp8.pcap"))
        let media = try SessionDescription(parsing: truth.streams[0].sdp).media
        #expect(media.count == 1)
        #expect((media[0].type, media[0].port, media[0].rtcpPort, media[0].ssrcs, media[0].isSecure) == ("audio", 40_020, 40_021, [SSRC(rawValue: 4_180_430_471)], false))
        #expect(media[0].trackFormat(kind: .audio) == TrackFormat(kind: .audio, codecs: [111: .opus], extensions: [1: AudioLevel.uri, 4: mediaIdentificationURI]))
    }

    @Test("static payload types need no rtpmap")
    func staticTypes() throws {
        let media = try SessionDescription(parsing: "v=0\nm=audio 5004 RTP/AVP 8 9\n").media[0]
        #expect(media.codecs == [8: Codec(name: "pcma", clockRate: 8_000), 9: Codec(name: "g722", clockRate: 8_000)])
    }

    static let faults: [(String, Int, String)] = [
        ("", 1, "v=0"), ("v=0\n", 1, "no m-line"), ("v=0\nhello", 2, "x=value"), ("v=0\nm=audio x RTP/AVP 0", 2, "no media line"),
        ("v=0\nm=audio 1 udp 0", 2, "not RTP"), ("v=0\nm=audio 1 RTP/AVP 200", 2, "no payload type"), ("v=0\nm=audio 1 RTP/AVP 111", 2, "no a=rtpmap"),
        ("v=0\nm=audio 1 RTP/AVP 111\na=rtpmap:111 opus", 3, "no rtpmap"), ("v=0\nm=audio 1 RTP/AVP 111\na=rtpmap:111 opus/0", 3, "no rtpmap"),
        ("v=0\nm=audio 1 RTP/AVP 111\na=rtpmap:111 opus/48000/900", 3, "channels"), ("v=0\nc=nowhere\nm=audio 1 RTP/AVP 0", 2, "no connection"),
        ("v=0\nm=audio 1 RTP/AVP 0\na=extmap:x y", 3, "no extmap"),
    ]

    @Test("a fault is named with its line", arguments: faults)
    func fault(text: String, line: Int, says: String) {
        let error = #expect(throws: SDPError.self) { try SessionDescription(parsing: text) }
        #expect(error?.line == line)
        #expect(error?.description.contains(says) == true, "\(error.map(\.description) ?? "")")
    }

    @Test("mutilated descriptions give a description or an SDPError", arguments: 0..<200 as Range<UInt64>)
    func fuzz(seed: UInt64) throws {
        var random = Seeded(seed)
        var text = Array(try CaptureTruth(capture: Checkout.fixtures.appending(path: "vp8.pcap")).streams[1].sdp.utf8)
        for _ in 0..<Int.random(in: 1...12, using: &random) { text[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(in: 9...126, using: &random) }
        do { _ = try SessionDescription(parsing: String(decoding: text, as: UTF8.self)) } catch { #expect(!error.what.isEmpty) }
    }
}
