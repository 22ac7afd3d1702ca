import CLinux
import Foundation
import Glibc
import Media
import RTP
@testable import Tap
import TestSupport
import Testing

@Suite("Asking for key frames")
struct FeedbackTests {
    private func peer(_ text: String, _ port: UInt16) -> WaysBack.Peer {
        var storage = sockaddr_storage()
        let length = clinux_socket_address(text, port, &storage)
        return WaysBack.Peer(address: storage, length: length, ip: IPAddress(text)!)
    }

    private func place(_ peer: WaysBack.Peer?) -> String? {
        guard var peer else { return nil }
        return "\(peer.ip.bytes.suffix(4)) \(clinux_address_port(&peer.address))"
    }

    private func asked(_ requests: inout KeyFrameRequests, _ from: Double, _ to: Double) -> [Double] {
        stride(from: from, to: to, by: 0.1).filter { requests.due(at: WallTime(seconds: $0)) != nil }.map { ($0 * 10).rounded() / 10 }
    }

    @Test("a key frame is asked for at once and again after 1, 2, 4 and 4 seconds, never more often than every half second")
    func schedule() {
        var requests = KeyFrameRequests()
        var times = asked(&requests, 0, 9)
        requests.begin()
        times += asked(&requests, 10, 60)
        let isOver = !requests.isWaiting
        requests.begin()
        times += asked(&requests, 60, 60.05)
        requests.begin()
        times += asked(&requests, 60.1, 62)
        #expect(times == [10, 11, 13, 17, 21, 60, 60.5, 61.5])
        #expect(isOver)
    }

    @Test("once a key frame came nothing more is asked, and a clock that is set back does not silence the next request")
    func satisfied() {
        var requests = KeyFrameRequests()
        requests.begin()
        var times = asked(&requests, 1_000, 1_000.05)
        requests.satisfy()
        times += asked(&requests, 1_001, 1_020)
        requests.begin()
        times += asked(&requests, 10, 10.05)
        #expect(times == [1_000, 10])
    }

    @Test("after losses a key frame is asked for every two seconds at most, and a request that is under way goes on as it was")
    func losses() {
        var requests = KeyFrameRequests()
        requests.beginAfterLoss()
        var times = asked(&requests, 10, 10.05)
        requests.satisfy()
        for step in 0..<50 {
            requests.beginAfterLoss()
            times += asked(&requests, 10.1 + Double(step) / 10, 10.15 + Double(step) / 10)
            requests.satisfy()
        }
        requests.beginAfterLoss()
        times += asked(&requests, 16, 16.05)
        requests.beginAfterLoss()
        times += asked(&requests, 16.1, 20)
        #expect(times == [10, 12, 14, 16, 17, 19])
    }

    @Test("from the third request on full intra requests alternate with picture loss indications, each with a number of its own")
    func kinds() {
        var requests = KeyFrameRequests()
        requests.begin()
        let kinds = stride(from: 10.0, to: 60, by: 0.5).compactMap { requests.due(at: WallTime(seconds: $0)) }
        #expect(kinds == [.pictureLoss, .pictureLoss, .fullIntra(1), .pictureLoss, .fullIntra(2)])
        // RFC 5104 section 4.3.1.1: FMT 4, PSFB, the media source of the feedback header is 0, one entry of SSRC, number and three zeroes.
        #expect(KeyFrameRequests.Kind.fullIntra(9).packet(from: SSRC(rawValue: 1), about: SSRC(rawValue: 0x0102_0304))
            == [0x80, 201, 0, 1, 0, 0, 0, 1, 0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 9, 0, 0, 0])
    }

    @Test("the way back is where RTCP comes from, else the RTP's own port if they share it, else the next one; each source has its own")
    func wayBack() {
        var ways = WaysBack()
        func target(_ ssrc: UInt32 = 5, muxed: Bool = false, announced: Bool = false, port: UInt16 = 9_001) -> String? {
            place(ways.target(SSRC(rawValue: ssrc), rtcpPort: port, isMuxed: muxed, sendersAreAnnounced: announced))
        }
        #expect(target() == nil)
        ways.learn(media: peer("192.0.2.1", 4_000), ssrc: SSRC(rawValue: 5))
        ways.learn(media: peer("192.0.2.1", 4_100), ssrc: SSRC(rawValue: 6))
        #expect(target() == "[192, 0, 2, 1] 4001")
        #expect(target(6) == "[192, 0, 2, 1] 4101")
        #expect(target(muxed: true) == "[192, 0, 2, 1] 4000")
        ways.learn(control: peer("192.0.2.1", 7_777), port: 9_001)
        #expect(target() == "[192, 0, 2, 1] 7777")
        #expect(target(port: 9_003) == "[192, 0, 2, 1] 4001")
        // Another machine's word counts only where the senders were announced, itself among them.
        ways.learn(control: peer("192.0.2.9", 6_666), port: 9_001)
        #expect(target() == "[192, 0, 2, 1] 4001")
        #expect(target(announced: true) == "[192, 0, 2, 9] 6666")
        for ssrc in 100..<200 as Range<UInt32> { ways.learn(media: peer("192.0.2.1", 4_000), ssrc: SSRC(rawValue: ssrc)) }
        #expect(target(5) == nil && target(199) != nil)
    }
}
