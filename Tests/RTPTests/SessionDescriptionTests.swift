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
        #expect(media[0].trackFormat(kind: .audio) == TrackFormat(kind: .audio, codecs: [111: .opus], extensions: [1: AudioLevel.uri, 4: mediaIdentificationURI], parameters: [111: "useinbandfec=1;usedtx=1"]))
    }

    @Test("static payload types need no rtpmap")
    func staticTypes() throws {
        let media = try SessionDescription(parsing: "v=0\nm=audio 5004 RTP/AVP 8 9\n").media[0]
        #expect(media.codecs == [8: Codec(name: "pcma", clockRate: 8_000), 9: Codec(name: "g722", clockRate: 8_000)])
    }

    @Test("what every payload type of RFC 3551 means is known, and a dynamic one must be said")
    func everyStaticType() throws {
        #expect((0..<96 as Range<UInt8>).filter { Codec.ofStaticPayloadType($0) != nil } == [0] + Array(3...19) + [25, 26, 28, 31, 32, 33, 34])
        let media = try SessionDescription(parsing: "v=0\nm=audio 5004 RTP/AVP 3 13 0 0\na=rtpmap:3 opus/48000/2\n").media[0]
        #expect(media.payloadTypes == [3, 13, 0])
        #expect(media.codecs == [3: .opus, 13: Codec(name: "cn", clockRate: 8_000), 0: Codec(name: "pcmu", clockRate: 8_000)])
    }

    @Test("retransmissions, layers and restrictions are read, and the track knows what repairs what")
    func streams() throws {
        let media = try SessionDescription(parsing: """
            v=0
            a=extmap:7 urn:of-the-session
            m=video 5004 RTP/AVPF 96 97
            a=rtpmap:96 VP8/90000
            a=rtpmap:97 rtx/90000
            a=fmtp:97 apt=96
            a=fmtp:98 apt=96
            a=ssrc-group:FID 10 11
            a=ssrc-group:FID 5 5
            a=ssrc-group:SIM 10 20 30
            a=ssrc-group:FEC-FR 10 12
            a=ssrc-group:FID 1 x
            a=rid:hi send pt=96,200;max-width=1280;max-fps=30
            a=rid:lo send
            a=rid:no neither
            a=simulcast:send hi,~lo;mid recv a_b
            a=ptime:2.5
            """).media[0]
        func ssrcs(_ numbers: UInt32...) -> [SSRC] { numbers.map { SSRC(rawValue: $0) } }
        #expect(media.ssrcGroups == [.init(semantics: "FID", ssrcs: ssrcs(10, 11)), .init(semantics: "FID", ssrcs: ssrcs(5, 5)), .init(semantics: "SIM", ssrcs: ssrcs(10, 20, 30)),
                                     .init(semantics: "FEC-FR", ssrcs: ssrcs(10, 12))])
        #expect(media.rids == [.init(id: "hi", direction: .send, payloadTypes: [96], restrictions: "max-width=1280;max-fps=30"), .init(id: "lo", direction: .send)])
        #expect(media.simulcast == Simulcast(send: [[.init(rid: "hi"), .init(rid: "lo", isPaused: true)], [.init(rid: "mid")]], receive: [[.init(rid: "a_b")]]))
        #expect(media.packetMs == 2.5)
        #expect(media.trackFormat(kind: .video) == TrackFormat(kind: .video, codecs: [96: .vp8, 97: Codec(name: "rtx", clockRate: 90_000)], extensions: [7: "urn:of-the-session"],
                                                               parameters: [97: "apt=96"], repairs: [11: 10]))
    }

    @Test("an m-line that sends nothing says so, or the session says it for all of them")
    func inactive() throws {
        let media = try SessionDescription(parsing: "v=0\na=inactive\nm=audio 1 RTP/AVP 0\nm=audio 2 RTP/AVP 0\na=sendonly\nm=audio 3 RTP/AVP 0\na=sendrecv\na=inactive\n").media
        #expect(media.map(\.isInactive) == [true, false, true])
        #expect(try SessionDescription(parsing: "v=0\nm=audio 1 RTP/AVP 0").media[0].isInactive == false)
    }

    @Test("lists that grow without end are cut")
    func bounded() throws {
        let lines = (0..<300).map { "a=ssrc:\($0)\na=ssrc-group:FID \($0) 9\na=rid:r\($0) send\n" }.joined()
        let media = try SessionDescription(parsing: "v=0\nm=audio 1 RTP/AVP 0\n" + lines).media[0]
        #expect((media.ssrcs.count, media.ssrcGroups.count, media.rids.count) == (MediaDescription.ssrcsMax, MediaDescription.groupsMax, MediaDescription.ridsMax))
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

    @Test("a description that is cut anywhere is read, or its fault is named")
    func truncated() throws {
        let text = try CaptureTruth(capture: Checkout.fixtures.appending(path: "vp8.pcap")).streams[1].sdp
        for cut in 0..<text.count {
            do { #expect(try SessionDescription(parsing: String(text.prefix(cut))).media.count == 1) } catch { #expect(!error.what.isEmpty && !error.hint.isEmpty) }
        }
    }

    @Test("mutilated descriptions give a description or an SDPError", arguments: 0..<200 as Range<UInt64>)
    func fuzz(seed: UInt64) throws {
        var random = Seeded(seed)
        var text = Array(try CaptureTruth(capture: Checkout.fixtures.appending(path: "vp8.pcap")).streams[1].sdp.utf8)
        for _ in 0..<Int.random(in: 1...12, using: &random) { text[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(in: 9...126, using: &random) }
        do { _ = try SessionDescription(parsing: String(decoding: text, as: UTF8.self)) } catch { #expect(!error.what.isEmpty) }
    }
}
