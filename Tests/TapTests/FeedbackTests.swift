import CLinux
import Foundation
import Glibc
import Media
import RTP
@testable import Tap
import TestSupport
import Testing
import Truth

@Suite("Asking for key frames")
struct FeedbackTests {
    private func peer(_ text: String, _ port: UInt16) -> WayBack.Peer {
        var storage = sockaddr_storage()
        let length = clinux_socket_address(text, port, &storage)
        return WayBack.Peer(address: storage, length: length, ip: IPAddress(text)!)
    }

    private func place(_ peer: WayBack.Peer?) -> String? {
        guard var peer else { return nil }
        return "\(peer.ip.bytes.suffix(4)) \(clinux_address_port(&peer.address))"
    }

    private func asked(_ requests: inout KeyFrameRequests, _ from: Double, _ to: Double) -> [Double] {
        stride(from: from, to: to, by: 0.1).filter { requests.isDue(at: WallTime(seconds: $0)) }.map { ($0 * 10).rounded() / 10 }
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

    @Test("the way back is where RTCP comes from, else the RTP's own port if they share it, else the next one")
    func wayBack() {
        var way = WayBack()
        #expect(place(way.target(isMuxed: false, sendersAreAnnounced: false)) == nil)
        way.learn(media: peer("192.0.2.1", 4_000), ssrc: SSRC(rawValue: 5))
        #expect(place(way.target(isMuxed: false, sendersAreAnnounced: false)) == "[192, 0, 2, 1] 4001")
        #expect(place(way.target(isMuxed: true, sendersAreAnnounced: false)) == "[192, 0, 2, 1] 4000")
        way.learn(control: peer("192.0.2.1", 7_777))
        #expect(place(way.target(isMuxed: false, sendersAreAnnounced: false)) == "[192, 0, 2, 1] 7777")
        // Another machine's word counts only where the senders were announced, itself among them.
        way.learn(control: peer("192.0.2.9", 6_666))
        #expect(place(way.target(isMuxed: false, sendersAreAnnounced: false)) == "[192, 0, 2, 1] 4001")
        #expect(place(way.target(isMuxed: false, sendersAreAnnounced: true)) == "[192, 0, 2, 9] 6666")
        #expect(way.ssrc == SSRC(rawValue: 5))
    }

    @Test("the first byte of a VP8 picture says whether it is a key frame, behind whatever descriptor")
    func vp8() {
        func isKey(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { KeyFrameSight.isVP8KeyFrameStart($0) } }
        // S, no extension; X with a long and a short picture id, TL0PICIDX and TID; not the start; a later partition; an interframe; cut.
        #expect([[0x10, 0x10], [0x90, 0x80, 0x81, 2, 0x30], [0x90, 0xE0, 0x01, 7, 0x20, 0x10]].map(isKey) == [true, true, true])
        #expect([[0x00, 0x10], [0x11, 0x10], [0x10, 0x11], [0x10], [0x90], [0x90, 0x80], [0x90, 0xE0, 0x81, 2], []].map(isKey) == [false, false, false, false, false, false, false, false])
        var random = Seeded(1)
        for _ in 0..<20_000 { _ = isKey(random.bytes(Int.random(in: 0...8, using: &random))) }
    }

    @Test("each video of the fixtures begins with a key frame, and few of its packets do")
    func fixtures() throws {
        let capture = Checkout.fixtures.appending(path: "vp8.pcap")
        let reader = try CaptureFileReader(path: capture.path)
        var found: [UInt16: [Bool]] = [:]
        while let datagram = try reader.next() {
            guard [40_022, 40_042, 40_062].contains(datagram.destinationPort) else { continue }
            try datagram.payload.withUnsafeBytes { bytes in
                let header = try RTPHeader(bytes)
                found[datagram.destinationPort, default: []].append(KeyFrameSight.isVP8KeyFrameStart(UnsafeRawBufferPointer(rebasing: bytes[header.payload])))
            }
        }
        #expect(found.count == 3)
        for packets in found.values { #expect(packets.prefix(40).contains(true) && packets.filter { $0 }.count < packets.count / 20) }
    }
}
