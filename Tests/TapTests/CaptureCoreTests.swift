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

    @Test("what arrived before the consent and is read after it is dropped, RTP and RTCP alike, until the sockets were empty")
    func backlog() throws {
        var core = try core()
        func send(_ bytes: [UInt8], _ arrival: Double, port: UInt16 = 5_004) -> Int? {
            bytes.withUnsafeBytes { core.receive($0, port: port, source: here, arrival: WallTime(seconds: arrival)) }
        }
        let report: [UInt8] = [0x80, 201, 0, 1, 0, 0, 0, 7]
        _ = core.setGate(true, stream: 0, at: WallTime(seconds: 50), arrivedFrom: WallTime(seconds: 10))
        #expect(send(rtp(1, 1, payload: [1]), 9.999) == nil)
        #expect(send(rtp(2, 1, payload: [1]), 10) == 0)
        core.backlogRead(port: 5_004)
        // From here on the clock may be set back: what comes is new.
        #expect(send(rtp(3, 1, payload: [1]), 5) == 0)
        #expect(send(report, 9, port: 5_005) == nil)
        core.backlogRead(port: 5_005)
        #expect(send(report, 9, port: 5_005) == 0)
        core.setPaused(true, at: WallTime(seconds: 60), arrivedFrom: WallTime(seconds: 20))
        #expect(send(rtp(4, 1, payload: [1]), 25) == nil)
        core.setPaused(false, at: WallTime(seconds: 70), arrivedFrom: WallTime(seconds: 30))
        #expect(send(rtp(5, 1, payload: [1]), 29) == nil)
        #expect(send(rtp(6, 1, payload: [1]), 30) == 0)
        #expect((core.statistics[0].packets, core.statistics[0].droppedByGate) == (3, 3))
    }

    @Test("RTCP that lies about its lengths is counted and never kept")
    func rtcp() throws {
        var core = try core()
        _ = core.setGate(true, stream: 0, at: time)
        _ = core.takePending()
        #expect(send(&core, [0x80, 200, 0, 9, 0, 0, 0, 7], port: 5_005) == nil)
        #expect(send(&core, [0x80, 201, 0, 1, 0, 0, 0, 7, 0x81, 206], port: 5_005) == nil)
        #expect((core.pendingBytes, core.statistics[0].malformed) == (0, 2))
        #expect(send(&core, [0x80, 201, 0, 1, 0, 0, 0, 7], port: 5_005) == 0)
    }

    private func mid(_ name: String, _ ssrc: UInt32) -> [UInt8] {
        let name = Array(name.utf8)
        let body = [0x40 | UInt8(name.count - 1)] + name
        let padded = body + [UInt8](repeating: 0, count: (4 - body.count % 4) % 4)
        var packet = rtp(1, 1, ssrc: ssrc, payload: [0xBE, 0xDE, 0, UInt8(padded.count / 4)] + padded + [1])
        packet[0] = 0x90
        return packet
    }

    @Test("at a shared port a MID decides for its packets and those after it, whatever was latched before")
    func midDecides() throws {
        let streams = ["a", "b"].map { Self.sdp + "a=mid:\($0)\na=extmap:4 \(mediaIdentificationURI)\n" }
        var core = try core(streams, ports: [(5_004, 5_004), (5_004, 5_004)])
        for stream in 0..<2 { _ = core.setGate(true, stream: stream, at: time) }
        let sent = [mid("a", 9), rtp(2, 1, ssrc: 9, payload: [1]), mid("b", 9), rtp(3, 1, ssrc: 9, payload: [1]), mid("zz", 9), rtp(4, 1, ssrc: 9, payload: [1]), mid("a", 9)]
        #expect(sent.map { send(&core, $0) } == [0, 0, 1, 1, nil, nil, 0])
    }

    @Test("an announced SSRC is its stream's own: no MID moves it, no unknown SSRC is guessed to be that stream")
    func announcedDecides() throws {
        let a = Self.sdp + "a=mid:a\na=extmap:4 \(mediaIdentificationURI)\na=ssrc:1\n"
        let b = "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\na=mid:b\na=extmap:4 \(mediaIdentificationURI)\na=ssrc:2\n"
        var core = try core([a, b], ports: [(5_004, 5_004), (5_004, 5_004)])
        for stream in 0..<2 { _ = core.setGate(true, stream: stream, at: time) }
        let sent = [rtp(1, 1, ssrc: 1, payload: [1]), mid("b", 1), rtp(2, 1, ssrc: 1, payload: [1]), rtp(1, 1, ssrc: 3, payload: [1]), mid("a", 4), rtp(2, 1, ssrc: 4, payload: [1])]
        #expect(sent.map { send(&core, $0) } == [0, nil, 0, nil, 0, 0])
    }

    @Test("a MID that no SDP mentions says nothing: a forwarder may leave its browser's in")
    func midUnannounced() throws {
        let streams = [1, 2].map { Self.sdp + "a=extmap:4 \(mediaIdentificationURI)\na=ssrc:\($0)\n" }
        var core = try core(streams, ports: [(5_004, 5_004), (5_004, 5_004)])
        for stream in 0..<2 { _ = core.setGate(true, stream: stream, at: time) }
        #expect([mid("0", 1), mid("0", 2), mid("0", 3)].map { send(&core, $0) } == [0, 1, nil])
    }

    @Test("whatever comes in whatever order, a record is kept only for a stream whose gate is open", arguments: 0..<10 as Range<UInt64>)
    func random(seed: UInt64) throws {
        var random = Seeded(seed)
        let streams = ["a", "b", "c"].map { Self.sdp + "a=mid:\($0)\na=extmap:4 \(mediaIdentificationURI)\n" }
        var core = try core(streams, ports: [(5_004, 5_004), (5_004, 5_004), (5_006, 5_007)])
        var open = [false, false, false], paused = false
        for step in 0..<3_000 {
            switch Int.random(in: 0..<12, using: &random) {
            case 0:
                let stream = Int.random(in: 0..<3, using: &random)
                open[stream].toggle()
                _ = core.setGate(open[stream], stream: stream, at: time)
            case 1:
                paused.toggle()
                core.setPaused(paused, at: time)
            default:
                var packet = Bool.random(using: &random) ? mid(["a", "b", "c", "x"].randomElement(using: &random)!, .random(in: 0..<6, using: &random)) : rtp(UInt16(step), 1, ssrc: .random(in: 0..<6, using: &random), payload: [1])
                if Int.random(in: 0..<4, using: &random) == 0 { packet[.random(in: packet.indices, using: &random)] = .random(in: 0...255, using: &random) }
                if Int.random(in: 0..<9, using: &random) == 0 { packet = random.bytes(Int.random(in: 0...40, using: &random)) }
                let before = core.pendingBytes
                let kept = send(&core, packet, port: [5_004, 5_005, 5_006, 5_007, 9].randomElement(using: &random)!)
                if let kept { #expect(open[kept] && !paused) } else { #expect(core.pendingBytes == before) }
            }
        }
    }

    @Test("the queue's memory changes hands, nothing of it is left to the next round")
    func exchange() throws {
        var core = try core()
        var queue: [UInt8] = [9, 9, 9]
        _ = core.setGate(true, stream: 0, at: time)
        core.exchangePending(&queue)
        #expect(queue.count == CaptureCore.pendingHeadBytes + 1)
        core.exchangePending(&queue)
        #expect(queue.isEmpty && core.pendingBytes == 0)
    }

    @Test("what the kernel drops at any of a stream's ports is counted, and asks for a key frame; so does a disk that takes packets again")
    func losses() throws {
        var core = try core()
        _ = core.setGate(true, stream: 0, at: time)
        func asked(_ seconds: Double) -> Int { core.dueRequests(at: WallTime(seconds: seconds)).count }
        func come(_ number: UInt16, _ seconds: Double) {
            let bytes = rtp(number, 1, payload: [1])
            bytes.withUnsafeBytes { _ = core.receive($0, port: 5_004, source: here, arrival: WallTime(seconds: seconds)) }
        }
        come(1, 1)
        // The requests of the opening, to their end.
        var before = 0
        for step in 0..<200 {
            come(UInt16(2 + step), 1 + Double(step) / 10)
            before += asked(1 + Double(step) / 10)
        }
        core.note(kernelDrops: 5, receiveBufferBytes: 9, port: 5_004, at: WallTime(seconds: 21))
        core.note(kernelDrops: 2, receiveBufferBytes: 9, port: 5_005, at: WallTime(seconds: 21))
        #expect((before, asked(21), core.statistics[0].kernelDrops, core.statistics[0].receiveBufferBytes) == (KeyFrameRequests.requestsMax, 1, 7, 9))
        for step in 0..<200 {
            come(UInt16(300 + step), 22 + Double(step) / 10)
            _ = asked(22 + Double(step) / 10)
        }
        core.note(lostToStorage: 3, isOver: false, stream: 0, at: WallTime(seconds: 42))
        #expect((asked(42), core.statistics[0].lostToStorage) == (0, 3))
        core.note(lostToStorage: 3, isOver: true, stream: 0, at: WallTime(seconds: 42.5))
        #expect(asked(42.5) == 1)
    }

    @Test("the key frame of each codec ends the asking for it", arguments: [
        ("VP8", [0x10, 0x10, 0, 0, 0x9D, 0x01, 0x2A]), ("H264", [0x67, 0x42, 0, 0x1F]), ("H265", [0x40, 0x01, 0x0C]), ("AV1", [0x18, 0x0A, 0x01, 0, 0x10]),
    ] as [(String, [UInt8])])
    func keyFrames(codec: String, payload: [UInt8]) throws {
        var core = try core(["v=0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 \(codec)/90000\n"])
        _ = core.setGate(true, stream: 0, at: time)
        #expect(send(&core, rtp(1, 1, payload: [0])) == 0)
        #expect(core.dueRequests(at: time).map(\.request.kind) == [.pictureLoss])
        #expect(send(&core, rtp(2, 2, payload: payload)) == 0)
        for second in 2..<20 { #expect(core.dueRequests(at: WallTime(seconds: Double(second))).isEmpty) }
        #expect(core.report(at: time)[0].keyFrameAge == 0)
    }
}
