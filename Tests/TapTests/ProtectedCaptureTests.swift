import CLinux
import Foundation
import Glibc
import Media
import PacketLog
import RTP
import SealedFile
import SRTP
@testable import Tap
import TestSupport
import Testing
import Truth

@Suite("SRTP through the gate", .serialized)
struct ProtectedCaptureTests {
    let folder: TemporaryFolder
    let sealing = DataKey.random()
    let identity = TrackLogIdentity(recording: RecordingID(rawValue: "r")!, track: TrackID(rawValue: "t")!, kind: .audio)
    let id = StreamID(rawValue: "s")!
    let here = IPAddress("192.0.2.1")!
    static let master = (7..<37).map { UInt8($0) }
    static let crypto = "1 AES_CM_128_HMAC_SHA1_80 inline:\(Data(master).base64EncodedString())"
    static let sdp = "v=0\nm=audio 5004 RTP/SAVP 111\na=rtpmap:111 opus/48000/2\n"

    init() throws { folder = try TemporaryFolder() }

    private func stream(_ sdp: String = sdp, crypto: String? = crypto) throws -> TapStream {
        TapStream(id: id, identity: identity, media: try SessionDescription(parsing: sdp).media, keys: [try crypto.map { [try SRTPKey(crypto: $0)] } ?? []],
                  logDirectory: folder.path + "/log", key: sealing)
    }

    private func core(_ stream: TapStream) -> CaptureCore { CaptureCore(streams: [stream], ports: [[(5_004, 5_005)]], allowed: []) }

    @discardableResult
    private func send(_ core: inout CaptureCore, _ bytes: [UInt8], port: UInt16 = 5_004, at time: Double = 1) -> Int? {
        bytes.withUnsafeBytes { core.receive($0, port: port, source: here, arrival: WallTime(seconds: time)) }
    }

    private func packet(_ number: Int) -> [UInt8] { rtp(UInt16(truncatingIfNeeded: number), 1, payloadType: 111, payload: Array("secret words \(number)".utf8)) }

    private func records() throws -> [TrackRecord] {
        let segments = try TrackLogFolder.segments(folder.path + "/log").map { TrackLogReader.Segment(number: $0, descriptor: open(folder.path + "/log/" + TrackLogFiles.segment($0), O_RDONLY)) }
        let reader = TrackLogReader(segments: segments, identity: identity, key: sealing)
        var found: [TrackRecord] = []
        while let record = try reader.next() { found.append(record) }
        return found
    }

    @Test("while the gate is closed rollover counter and replay window go on, and neither the packet nor its plain form is kept")
    func closed() throws {
        var core = core(try stream())
        let sender = SRTPSender(.aes128SHA1Tag80, key: Self.master)
        // Twice round the sequence numbers behind a closed gate.
        for number in stride(from: 0, to: 140_000, by: 7_000) { send(&core, sender.protect(packet(number))) }
        #expect(core.pendingBytes == 0)
        #expect((core.statistics[0].droppedByGate, core.statistics[0].notAuthentic) == (20, 0))
        _ = core.setGate(true, stream: 0, at: WallTime(seconds: 2))
        _ = core.takePending()
        let again = sender.protect(packet(140_000))
        #expect(send(&core, again) == 0)
        #expect(send(&core, again) == nil)
        let queue = core.takePending()
        #expect(Array(queue.dropFirst(CaptureCore.pendingHeadBytes)) == packet(140_000))
        #expect((core.statistics[0].packets, core.statistics[0].replayed, core.statistics[0].notAuthentic) == (1, 1, 0))
    }

    @Test("RTP and RTCP with padding, empty and long ones come out as they went in; RTCP that is no RTCP inside is not kept")
    func kinds() throws {
        var core = core(try stream())
        let sender = SRTPSender(.aes128SHA1Tag80, key: Self.master)
        _ = core.setGate(true, stream: 0, at: WallTime(seconds: 1))
        _ = core.takePending()
        var padded = rtp(1, 1, payloadType: 111, payload: [9, 0, 0, 3])
        padded[0] |= 0x20
        let packets = [padded, rtp(2, 1, payloadType: 111, payload: []), rtp(3, 1, payloadType: 111, payload: [UInt8](repeating: 5, count: 9_000))]
        let report: [UInt8] = [0x80, 201, 0, 1, 0, 0, 0, 7]
        #expect(packets.map { send(&core, sender.protect($0)) } == [0, 0, 0])
        #expect(send(&core, sender.protect(report, isControl: true), port: 5_005) == 0)
        #expect(send(&core, sender.protect([0x80, 201, 0, 9, 0, 0, 0, 7], isControl: true), port: 5_005) == nil)
        #expect(send(&core, report, port: 5_005) == nil)
        let lengths = packets.map(\.count) + [report.count]
        #expect(core.pendingBytes == lengths.reduce(0) { $0 + $1 + CaptureCore.pendingHeadBytes })
        #expect((core.statistics[0].malformed, core.statistics[0].notAuthentic) == (1, 1))
    }

    @Test("with the wrong key, or in the clear where SRTP was announced, nothing is kept and the stream says so; the right key ends it")
    func wrong() throws {
        var core = core(try stream())
        _ = core.setGate(true, stream: 0, at: WallTime(seconds: 1))
        _ = core.takePending()
        let stranger = SRTPSender(.aes128SHA1Tag80, key: Self.master.reversed())
        func state() -> StreamHealth.State { core.report(at: WallTime(seconds: 1))[0].state }
        for number in 0..<5 { send(&core, stranger.protect(packet(number))) }
        for number in 5..<9 { send(&core, packet(number) + [UInt8](repeating: 0, count: 20)) }
        #expect(state() == .waiting)
        send(&core, stranger.protect(packet(9)))
        #expect(state() == .undecryptable)
        #expect((core.pendingBytes, core.statistics[0].packets, core.statistics[0].notAuthentic) == (0, 0, 10))
        send(&core, SRTPSender(.aes128SHA1Tag80, key: Self.master).protect(packet(10)))
        #expect(state() == .good && core.statistics[0].packets == 1)
    }

    @Test("a protected m-line without a key keeps nothing at all")
    func keyless() throws {
        var core = core(try stream(crypto: nil))
        _ = core.setGate(true, stream: 0, at: WallTime(seconds: 1))
        for number in 0..<20 { send(&core, packet(number)) }
        #expect((core.statistics[0].packets, core.statistics[0].notAuthentic) == (0, 20))
    }

    @Test("whatever comes to a protected port, only what authenticates is kept", arguments: 0..<5 as Range<UInt64>)
    func random(seed: UInt64) throws {
        var random = Seeded(seed)
        var core = core(try stream())
        let sender = SRTPSender(.aes128SHA1Tag80, key: Self.master)
        _ = core.setGate(true, stream: 0, at: WallTime(seconds: 1))
        for step in 0..<3_000 {
            var bytes = sender.protect(packet(step))
            let isWhole = Int.random(in: 0..<4, using: &random) == 0
            if !isWhole { bytes[.random(in: bytes.indices, using: &random)] ^= .random(in: 1...255, using: &random) }
            let port: UInt16 = Int.random(in: 0..<5, using: &random) == 0 ? 5_005 : 5_004
            let kept = send(&core, bytes, port: port)
            #expect((kept != nil) == (isWhole && port == 5_004))
            send(&core, random.bytes(.random(in: 0...60, using: &random)), port: port)
        }
    }

    @Test("over real sockets: what was sent protected is in the log in the clear form, sealed, and nothing else; a wrong key is told in words")
    func sockets() throws {
        let session = try CaptureSession(streams: [try stream()], options: TapOptions())
        session.setGate(true, stream: id, at: WallTime(seconds: 1))
        let (sender, stranger) = (SRTPSender(.aes128SHA1Tag80, key: Self.master), SRTPSender(.aes128SHA1Tag80, key: Self.master.reversed()))
        func send(_ packets: [[UInt8]]) {
            var target = sockaddr_storage()
            let length = clinux_socket_address("127.0.0.1", session.endpoints[0].rtpPort, &target)
            let socket = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            for packet in packets {
                withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(socket, packet, packet.count, 0, $0, length) } }
            }
            close(socket)
        }
        func settle(_ done: (CaptureSession.Snapshot) -> Bool) { for _ in 0..<1_000 where !done(session.snapshot) { usleep(10_000) } }
        send((0..<20).map { stranger.protect(packet($0)) })
        settle { $0.health[id]?.state == .undecryptable }
        #expect(session.snapshot.health[id]?.state == .undecryptable)
        let packets = (100..<200).map { packet($0) }
        let protected = packets.map { sender.protect($0) }
        send(protected + protected.prefix(30))
        settle { ($0.streams[id]?.packets, $0.streams[id]?.replayed) == (100, 30) }
        #expect(session.snapshot.health[id]?.state == .good)
        let counts = try #require(session.stop().streams[id])
        #expect((counts.packets, counts.replayed, counts.notAuthentic, counts.malformed) == (100, 30, 20, 0))
        #expect(try records().compactMap { if case .rtp(_, let bytes) = $0 { bytes } else { nil } } == packets)
        for bytes in [Array("secret words".utf8), Array(protected[0].suffix(20))] { #expect(try !folder.contains(bytes)) }
    }

    @Test("an import reads protected packets by the same path")
    func imported() throws {
        let session = try ImportSession(streams: [try stream()])
        session.setGate(true, stream: 0, at: WallTime(seconds: 1))
        let sender = SRTPSender(.aes128SHA1Tag80, key: Self.master)
        for number in 0..<50 {
            let bytes = sender.protect(packet(number))
            for _ in 0..<(number % 5 == 0 ? 2 : 1) {
                session.feed(CapturedDatagram(arrival: WallTime(seconds: Double(number)), source: here, sourcePort: 1, destinationPort: 5_004, payload: bytes))
            }
        }
        let counts = try session.finish(at: WallTime(seconds: 60))[0]
        #expect((counts.packets, counts.replayed, counts.notAuthentic) == (50, 10, 0))
        #expect(try records().compactMap { if case .rtp(_, let bytes) = $0 { bytes } else { nil } } == (0..<50).map { packet($0) })
    }

    /// What an import of a capture finds, with the key of its SDPs or another one.
    static func counts(_ capture: URL, in folder: String, isWrong: Bool = false) throws -> [(sent: Int, counts: StreamStatistics)] {
        let truth = try CaptureTruth(capture: capture)
        let streams = try truth.streams.enumerated().map { place, stream in
            let text = try #require(stream.sdp.split(separator: "\r\n").first { $0.hasPrefix("a=crypto:") }).dropFirst("a=crypto:".count)
            let key = try SRTPKey(crypto: isWrong ? String(text).replacing("inline:BwgJ", with: "inline:AAAA") : String(text))
            let identity = TrackLogIdentity(recording: RecordingID(rawValue: "r")!, track: TrackID(rawValue: "t\(place)")!, kind: MediaKind(rawValue: stream.kind)!)
            return TapStream(id: StreamID(rawValue: "s\(place)")!, identity: identity, media: try SessionDescription(parsing: stream.sdp).media, keys: [[key]],
                             logDirectory: "\(folder)/t\(place)", key: .random())
        }
        let session = try ImportSession(streams: streams)
        let reader = try CaptureFileReader(path: capture.path)
        for place in streams.indices { session.setGate(true, stream: place, at: WallTime(seconds: 0)) }
        while let datagram = try reader.next() { session.feed(datagram) }
        return zip(truth.streams.map(\.packets), try session.finish(at: WallTime(seconds: 0))).map { ($0, $1) }
    }

    @Test("of a real conference's SRTP every packet authenticates; with another key not one, and the log is empty")
    func conference() throws {
        let capture = Checkout.fixtures.appending(path: "srtp32.pcap")
        let found = try Self.counts(capture, in: folder.path + "/right")
        #expect(found.map(\.counts.packets) == found.map(\.sent) && found.count == 2)
        #expect(found.allSatisfy { ($0.counts.notAuthentic, $0.counts.replayed) == (0, 0) })
        let wrong = try Self.counts(capture, in: folder.path + "/wrong", isWrong: true)
        #expect(wrong.map(\.counts.notAuthentic) == found.map(\.sent))
        #expect(wrong.allSatisfy { $0.counts.packets + $0.counts.bytes == 0 })
    }
}
