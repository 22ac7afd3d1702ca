import Media
import RTP
@testable import Tap
import TestSupport
import Testing

@Suite("Gate and demultiplexer")
struct CaptureCoreTests {
    static let sdp = "v=0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 VP8/90000\n"
    let here = IPAddress("192.0.2.1")!
    let time = WallTime(seconds: 1)

    private func media(_ text: String) throws -> MediaDescription { try SessionDescription(parsing: text).media[0] }

    private func core(_ texts: [String] = [CaptureCoreTests.sdp], ports: [(rtp: UInt16, rtcp: UInt16)] = [(5_004, 5_005)], allowed: [IPAddress] = []) throws -> CaptureCore {
        CaptureCore(media: try texts.map(media), ports: ports, allowed: allowed)
    }

    @discardableResult
    private func send(_ core: inout CaptureCore, _ bytes: [UInt8], port: UInt16 = 5_004, from: IPAddress? = nil) -> Int? {
        bytes.withUnsafeBytes { core.receive($0, port: port, source: from ?? here, arrival: time) }
    }

    @Test("a gate that was never opened passes nothing, neither RTP nor RTCP, and counts")
    func closed() throws {
        var core = try core()
        #expect(send(&core, rtp(1, 1, payload: [1])) == nil)
        #expect(send(&core, [0x80, 200, 0, 1, 0, 0, 0, 7], port: 5_005) == nil)
        #expect(core.pendingBytes == 0)
        #expect(core.statistics[0].droppedByGate == 1)
    }

    @Test("an open gate passes from the next packet on, a closed one stops at once; both leave a mark")
    func openAndClose() throws {
        var core = try core()
        let changes = [core.setGate(true, stream: 0, at: time), core.setGate(true, stream: 0, at: time)]
        #expect(changes == [true, false])
        #expect(send(&core, rtp(1, 1, payload: [1])) == 0)
        _ = core.setGate(false, stream: 0, at: time)
        #expect(send(&core, rtp(2, 1, payload: [2])) == nil)
        #expect(core.pendingBytes == 3 * CaptureCore.pendingHeadBytes + 1 + 13 + 1)
        #expect((core.statistics[0].packets, core.statistics[0].droppedByGate) == (1, 1))
    }

    @Test("a pause passes nothing, whoever consented, and ends with the resume")
    func pause() throws {
        var core = try core()
        _ = core.setGate(true, stream: 0, at: time)
        core.setPaused(true, at: time)
        #expect(send(&core, rtp(1, 1, payload: [1])) == nil)
        core.setPaused(false, at: time)
        #expect(send(&core, rtp(2, 1, payload: [1])) == 0)
        core.end(at: time)
        #expect(send(&core, rtp(3, 1, payload: [1])) == nil)
    }

    @Test("strangers, empty datagrams, lies and unknown payload types are counted and never kept")
    func strangers() throws {
        var core = try core(allowed: [here])
        _ = core.setGate(true, stream: 0, at: time)
        _ = core.takePending()
        send(&core, rtp(1, 1, payload: [1]), from: IPAddress("192.0.2.2")!)
        for bytes in [[], [0x80], [0x90] + Array(repeating: 0, count: 11), rtp(1, 1, payloadType: 97, payload: [1]), [0x16, 0xFE, 0xFD]] { send(&core, bytes) }
        send(&core, [UInt8](repeating: 0x80, count: 10_000))
        #expect(core.pendingBytes == 0)
        #expect((core.statistics[0].strangers, core.statistics[0].malformed) == (1, 6))
    }

    @Test("streams that share a port are told apart by SSRC, by MID, by payload type; the rest belongs to nobody")
    func shared() throws {
        let a = Self.sdp + "a=mid:a\na=extmap:4 \(mediaIdentificationURI)\na=ssrc:1\n"
        let b = Self.sdp + "a=mid:b\na=extmap:4 \(mediaIdentificationURI)\n"
        let c = "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"
        var core = try core([a, b, c], ports: [(5_004, 5_004), (5_004, 5_004), (5_004, 5_004)])
        for stream in 0..<3 { _ = core.setGate(true, stream: stream, at: time) }
        func mid(_ name: UInt8, _ ssrc: UInt32) -> [UInt8] {
            var packet = rtp(1, 1, ssrc: ssrc, payload: [0xBE, 0xDE, 0, 1, 0x40, name, 0, 0, 1])
            packet[0] = 0x90
            return packet
        }
        #expect(send(&core, rtp(1, 1, ssrc: 1, payload: [1])) == 0)
        #expect(send(&core, rtp(1, 1, ssrc: 2, payload: [1])) == nil)
        #expect(send(&core, mid(UInt8(ascii: "b"), 2)) == 1)
        #expect(send(&core, rtp(2, 1, ssrc: 2, payload: [1])) == 1)
        #expect(send(&core, rtp(1, 1, payloadType: 111, ssrc: 3, payload: [1])) == 2)
        #expect(send(&core, mid(UInt8(ascii: "x"), 9)) == nil)
        #expect(core.unknown == 2)
    }

    @Test("when the writer is too slow packets are dropped and counted, and memory stays bounded")
    func overflow() throws {
        var core = try core()
        _ = core.setGate(true, stream: 0, at: time)
        let packet = rtp(1, 1, payload: [UInt8](repeating: 1, count: 9_000))
        for _ in 0..<8_000 { send(&core, packet) }
        #expect(core.statistics[0].overflow > 0)
        #expect(core.pendingBytes <= CaptureCore.pendingBytesMax)
        #expect(core.statistics[0].packets + core.statistics[0].overflow == 8_000)
    }

    @Test("a key frame is asked for at once and twice more, never more often than every half second")
    func keyFrames() {
        var requests = KeyFrameRequests()
        func asked(_ from: Double, _ to: Double) -> [Double] {
            stride(from: from, to: to, by: 0.1).filter { requests.isDue(at: WallTime(seconds: $0)) }.map { ($0 * 10).rounded() / 10 }
        }
        #expect(asked(0, 9) == [])
        requests.begin(at: WallTime(seconds: 10))
        #expect(asked(10, 13.05) == [10, 11, 13])
        requests.begin(at: WallTime(seconds: 13.1))
        #expect(asked(13.1, 20) == [13.5, 14.1, 16.1])
    }
}
