import CLinux
import Foundation
import Glibc
import Media
import PacketLog
import RTP
import SealedFile
@testable import Tap
import TestSupport
import Testing

@Suite("Layers and retransmissions of one stream", .serialized)
struct LayersTests {
    let here = IPAddress("192.0.2.1")!
    private static func line(_ port: Int, _ rest: String = "") -> String { "m=video \(port) RTP/AVP 96 97\na=rtpmap:96 VP8/90000\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n\(rest)" }

    private func media(_ lines: String...) throws -> [MediaDescription] { try SessionDescription(parsing: "v=0\n" + lines.joined()).media }

    private func stream(_ name: String, _ media: [MediaDescription], _ folder: TemporaryFolder) -> TapStream {
        let kind = media[0].type == "audio" ? MediaKind.audio : .video
        return TapStream(id: StreamID(rawValue: name)!, identity: TrackLogIdentity(recording: RecordingID(rawValue: "r")!, track: TrackID(rawValue: name)!, kind: kind), media: media,
                  logDirectory: folder.path + "/" + name, key: .random())
    }

    @Test("layers at ports of their own belong to one stream, with RTX at each of them; another stream at the next port does not")
    func ports() throws {
        var demultiplexer = StreamDemultiplexer(media: [try media(Self.line(4), Self.line(6), Self.line(8)), try media(Self.line(10))],
                                                ports: [[(4, 5), (6, 7), (8, 9)], [(10, 11)]])
        func stream(_ port: UInt16, _ type: UInt8, _ ssrc: UInt32) throws -> Int? {
            try rtp(1, 1, payloadType: type, ssrc: ssrc, payload: [0, 1, 2]).withUnsafeBytes { demultiplexer.stream(ofRTP: try RTPHeader($0), in: $0, port: port) }
        }
        #expect(try [stream(4, 96, 1), stream(6, 97, 2), stream(8, 96, 3), stream(10, 96, 1), stream(12, 96, 1), stream(6, 98, 2)] == [0, 0, 0, 1, nil, nil])
        #expect([5, 7, 9, 11].map { demultiplexer.stream(ofRTCP: SSRC(rawValue: 1), port: $0) } == [0, 0, 0, 1])
    }

    @Test("at a shared port simulcast layers and their retransmissions are the stream's by MID, and by SSRC where they are announced")
    func shared() throws {
        let mid = "a=extmap:4 \(mediaIdentificationURI)\na=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\na=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\n"
        var demultiplexer = StreamDemultiplexer(media: [try media(Self.line(4, "a=mid:a\n\(mid)a=rid:h send\na=rid:l send\na=simulcast:send h;l\n")),
                                                        try media(Self.line(4, "a=mid:b\n\(mid)a=ssrc-group:FID 20 21\na=ssrc:20 cname:x\na=ssrc:21 cname:x\n"))],
                                                ports: [[(4, 4)], [(4, 4)]])
        func stream(_ type: UInt8, _ ssrc: UInt32, _ extensions: [UInt8] = []) throws -> Int? {
            let padded = extensions + [UInt8](repeating: 0, count: (4 - extensions.count % 4) % 4)
            var packet = rtp(1, 1, payloadType: type, ssrc: ssrc, payload: (extensions.isEmpty ? [] : [0xBE, 0xDE, 0, UInt8(padded.count / 4)] + padded) + [0, 1, 2])
            if !extensions.isEmpty { packet[0] |= 0x10 }
            return try packet.withUnsafeBytes { demultiplexer.stream(ofRTP: try RTPHeader($0), in: $0, port: 4) }
        }
        let (a, h) = ([0x40, UInt8(ascii: "a")], UInt8(ascii: "h"))
        #expect(try [stream(96, 1, a + [0xA0, h]), stream(96, 2, a + [0xA0, UInt8(ascii: "l")]), stream(97, 3, a + [0xB0, h])] == [0, 0, 0])
        // From then on without extensions; and the announced ones without ever having any.
        #expect(try [stream(96, 1), stream(96, 2), stream(97, 3), stream(96, 20), stream(97, 21), stream(96, 99)] == [0, 0, 0, 1, 1, nil])
    }

    @Test("over real sockets: each layer has its pair of ports and its sender is asked there; all of them are in the one log; the same ports again after a restart")
    func sockets() throws {
        let folder = try TemporaryFolder()
        let stream = stream("s", try media(Self.line(40), Self.line(42), Self.line(44)), folder)
        let session = try CaptureSession(streams: [stream], options: TapOptions())
        #expect(Set(session.layers[0].flatMap { [$0.rtpPort, $0.rtcpPort] }).count == 6 && session.endpoints == [session.layers[0][0]])
        session.setGate(true, stream: stream.id, at: WallTime(seconds: 1))
        for (layer, endpoint) in session.layers[0].enumerated() {
            // The sender's socket for RTCP opens the way back; the request comes there, about its own SSRC.
            let (media, control) = (socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0), socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0))
            defer { for descriptor in [media, control] { close(descriptor) } }
            for (descriptor, port, bytes) in [(control, endpoint.rtcpPort, [0x80, 201, 0, 1, 0, 0, 0, UInt8(layer + 1)]),
                                              (media, endpoint.rtpPort, rtp(1, 1, ssrc: UInt32(layer + 1), payload: [1]))] {
                var target = sockaddr_storage()
                let length = clinux_socket_address("127.0.0.1", port, &target)
                withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(descriptor, bytes, bytes.count, 0, $0, length) } }
                for _ in 0..<500 where descriptor == media && session.snapshot.streams[stream.id]?.packets != layer + 1 { usleep(10_000) }
            }
            var limit = timeval(tv_sec: 10, tv_usec: 0)
            setsockopt(control, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            var bytes = [UInt8](repeating: 0, count: 100)
            let count = recv(control, &bytes, bytes.count, 0)
            #expect(Array(bytes.prefix(max(0, count))) == RTCPPacket.pictureLossIndication(from: SSRC(rawValue: 1), about: SSRC(rawValue: UInt32(layer + 1))))
        }
        let counts = try #require(session.stop().streams[stream.id])
        #expect((counts.packets, counts.ssrcs) == (3, [1, 2, 3]))
        var options = TapOptions()
        options.fixedPorts = [stream.id: session.layers[0]]
        let again = try CaptureSession(streams: [stream], options: options)
        #expect(again.layers == session.layers)
        _ = again.stop()
    }

    @Test("when a stream stops to come, the live view says silent, and good again when it goes on")
    func silent() throws {
        let folder = try TemporaryFolder()
        let stream = stream("s", try media("m=audio 40 RTP/AVP 0\n"), folder)
        let session = try CaptureSession(streams: [stream], options: TapOptions())
        session.setGate(true, stream: stream.id, at: WallTime(seconds: 1))
        func send(_ number: UInt16) {
            var target = sockaddr_storage()
            let length = clinux_socket_address("127.0.0.1", session.endpoints[0].rtpPort, &target)
            let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            let bytes = rtp(number, 1, payloadType: 0, payload: [1])
            withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(descriptor, bytes, bytes.count, 0, $0, length) } }
            close(descriptor)
        }
        func reaches(_ state: StreamHealth.State) -> Bool {
            for _ in 0..<3_000 {
                if session.snapshot.health[stream.id]?.state == state { return true }
                usleep(10_000)
            }
            return false
        }
        #expect(session.snapshot.health[stream.id]?.state == .waiting)
        send(1)
        #expect(reaches(.good))
        #expect(reaches(.silent))
        send(2)
        #expect(reaches(.good))
        _ = session.stop()
    }
}
