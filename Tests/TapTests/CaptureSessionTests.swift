import CLinux
import Foundation
import Glibc
import Media
import PacketLog
import RTP
import SealedFile
import Synchronization
@testable import Tap
import TestSupport
import Testing

/// Real sockets on loopback.
@Suite("Live capture", .serialized)
struct CaptureSessionTests {
    let folder: TemporaryFolder
    let key = DataKey.random()
    let identity = TrackLogIdentity(recording: RecordingID(rawValue: "r")!, track: TrackID(rawValue: "t")!, kind: .video)
    let id = StreamID(rawValue: "s")!

    init() throws { folder = try TemporaryFolder() }

    private func session(_ options: TapOptions = .init(), muxed: Bool = false) throws -> CaptureSession {
        let media = try SessionDescription(parsing: CaptureCoreTests.sdp + (muxed ? "a=rtcp-mux\n" : "")).media[0]
        return try CaptureSession(streams: [TapStream(id: id, identity: identity, media: media, logDirectory: folder.path + "/log", key: key)], options: options)
    }

    private func send(_ packets: [[UInt8]], to port: UInt16, address: String = "127.0.0.1") -> Int32 {
        var target = sockaddr_storage()
        let length = clinux_socket_address(address, port, &target)
        let socket = Glibc.socket(Int32(target.ss_family), Int32(SOCK_DGRAM.rawValue), 0)
        for packet in packets {
            withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(socket, packet, packet.count, 0, $0, length) } }
        }
        return socket
    }

    /// Waits until the counts show that everything sent was seen.
    private func settle(_ session: CaptureSession, _ done: (StreamStatistics) -> Bool) {
        for _ in 0..<500 where !done(session.snapshot.streams[id] ?? .init()) { usleep(10_000) }
    }

    private func records() throws -> [TrackRecord] {
        let segments = try TrackLogFolder.segments(folder.path + "/log").map { TrackLogReader.Segment(number: $0, descriptor: open(folder.path + "/log/" + TrackLogFiles.segment($0), O_RDONLY)) }
        let reader = TrackLogReader(segments: segments, identity: identity, key: key)
        var found: [TrackRecord] = []
        while let record = try reader.next() { found.append(record) }
        return found
    }

    private func payloads() throws -> [[UInt8]] {
        try records().compactMap { if case .rtp(_, let bytes) = $0 { Array(bytes.dropFirst(12)) } else { nil } }
    }

    @Test("Art. 25: before consent nothing is kept, from it on everything, after its end nothing", arguments: ["127.0.0.1", "::1"])
    func gate(address: String) throws {
        var options = TapOptions()
        options.address = address
        let session = try session(options)
        let port = session.endpoints[0].rtpPort
        #expect(session.endpoints[0].rtcpPort == port + 1)
        func batch(_ name: String, _ range: Range<Int>) -> [[UInt8]] { range.map { rtp(UInt16($0), UInt32($0), payload: Array("\(name)-\($0)-0123456789".utf8)) } }
        close(send(batch("before", 0..<200), to: port, address: address))
        settle(session) { $0.droppedByGate == 200 }
        session.setGate(true, stream: id, at: WallTime(seconds: 1))
        close(send(batch("during", 200..<400), to: port, address: address))
        settle(session) { $0.packets == 200 }
        session.setGate(false, stream: id, at: WallTime(seconds: 2))
        close(send(batch("after", 400..<600), to: port, address: address))
        settle(session) { $0.droppedByGate == 400 }
        let counts = try #require(session.stop().streams[id])
        #expect((counts.packets, counts.droppedByGate, counts.kernelDrops, counts.lostToStorage) == (200, 400, 0, 0))
        #expect(try payloads() == batch("during", 200..<400).map { Array($0.dropFirst(12)) })
        for name in ["before", "during", "after"] { #expect(try !folder.contains(Array("\(name)-".utf8))) }
    }

    @Test("under a flood and however often the gate moves, nothing is kept that arrived outside its openings")
    func moving() throws {
        let session = try session()
        let port = session.endpoints[0].rtpPort
        let isOver = Atomic(false)
        let flooded = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            let packets = (0..<400).map { rtp(UInt16($0), UInt32($0), payload: [UInt8](repeating: 7, count: 200)) }
            while !isOver.load(ordering: .relaxed) { close(self.send(packets, to: port)) }
            flooded.signal()
        }
        func now() -> WallTime {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
        }
        var openings: [ClosedRange<WallTime>] = []
        for _ in 0..<60 {
            usleep(2_000)
            let from = now()
            session.setGate(true, stream: id, at: from)
            usleep(5_000)
            session.setGate(false, stream: id, at: now())
            openings.append(from...now())
        }
        isOver.store(true, ordering: .relaxed)
        flooded.wait()
        let counts = try #require(session.stop().streams[id])
        let records = try records()
        var opening = -1
        var outside = 0
        for record in records {
            switch record {
            case .mark(_, .gateOpened): opening += 1
            case .rtp(let arrival, _): if opening < 0 || !openings[opening].contains(arrival) { outside += 1 }
            default: break
            }
        }
        #expect(outside == 0)
        #expect(counts.packets > 0 && counts.droppedByGate > 0)
        #expect(opening == 59)
    }

    private func answer(_ socket: Int32) -> [UInt8] {
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var bytes = [UInt8](repeating: 0, count: 100)
        let count = recv(socket, &bytes, bytes.count, 0)
        return Array(bytes.prefix(max(0, count)))
    }

    private let indication = RTCPPacket.pictureLossIndication(from: SSRC(rawValue: 1), about: SSRC(rawValue: 0x0102_0304))

    @Test("when a video's gate opens its sender is asked for a key frame, where its packets come from")
    func keyFrame() throws {
        let session = try session(muxed: true)
        session.setGate(true, stream: id, at: WallTime(seconds: 1))
        let socket = send([rtp(1, 1, ssrc: 0x0102_0304, payload: [1])], to: session.endpoints[0].rtpPort)
        defer { close(socket) }
        #expect(answer(socket) == indication)
        _ = session.stop()
    }

    @Test("a sender that opened the way back to its RTCP port, before any consent, is asked there; what it sent is not kept")
    func wayBack() throws {
        let session = try session()
        let control = send([[0x80] + [UInt8](repeating: 0, count: 11)], to: session.endpoints[0].rtcpPort)
        defer { close(control) }
        settle(session) { $0.malformed == 1 }
        session.setGate(true, stream: id, at: WallTime(seconds: 1))
        close(send([rtp(1, 1, ssrc: 0x0102_0304, payload: [1])], to: session.endpoints[0].rtpPort))
        #expect(answer(control) == indication)
        session.setGate(false, stream: id, at: WallTime(seconds: 2))
        session.requestKeyFrame(id)
        _ = session.stop()
        #expect(try records().count == 3)
    }

    @Test("stopping twice gives the same counts")
    func stopTwice() throws {
        let session = try session()
        let first = session.stop().streams
        #expect(session.stop().streams == first)
    }

    @Test("ports come from the range that was set, to its last pair, and then it says so")
    func ports() throws {
        let probe = try session()
        let even = probe.endpoints[0].rtpPort
        _ = probe.stop()
        var options = TapOptions()
        options.ports = even...even + 1
        // A child that another test is starting may hold the probe's ports for a moment.
        var held: CaptureSession?
        for _ in 0..<500 where held == nil {
            held = try? self.session(options)
            if held == nil { usleep(10_000) }
        }
        let session = try #require(held)
        #expect(session.endpoints[0] == TapEndpoint(address: "127.0.0.1", rtpPort: even, rtcpPort: even + 1))
        let error = #expect(throws: TapError.self) { try self.session(options) }
        #expect(error?.hint == "widen the port range \(even)-\(even + 1)")
        _ = session.stop()
    }

    @Test("only announced addresses may send")
    func sources() throws {
        var options = TapOptions()
        options.allowedSources = ["127.0.0.2"]
        let session = try session(options)
        session.setGate(true, stream: id, at: WallTime(seconds: 1))
        close(send([rtp(1, 1, payload: [1])], to: session.endpoints[0].rtpPort))
        settle(session) { $0.strangers == 1 }
        #expect(session.stop().streams[id]?.strangers == 1)
        options.allowedSources = ["example.org"]
        #expect(throws: TapError.self) { try self.session(options) }
    }

    @Test("a port in use is named, and what was opened is closed again")
    func busy() throws {
        let first = try session()
        var options = TapOptions()
        options.fixedPorts = [id: [first.endpoints[0]]]
        let error = #expect(throws: TapError.self) { try session(options) }
        #expect(error?.what.contains("\(first.endpoints[0].rtpPort)") == true)
        _ = first.stop()
        _ = try session(options).stop()
    }

    @Test("a recording's own port that is held for a moment more is waited for")
    func held() throws {
        let first = try session()
        var options = TapOptions()
        options.fixedPorts = [id: [first.endpoints[0]]]
        let holder = Thread {
            usleep(200_000)
            _ = first.stop()
        }
        holder.start()
        let again = try session(options)
        #expect(again.endpoints == first.endpoints)
        _ = again.stop()
    }

    @Test("nobody vouches for consents any more: an open gate closes by itself, and what comes then is not kept")
    func unconfirmed() throws {
        var options = TapOptions()
        options.consentSeconds = 0.5
        let session = try session(options)
        session.setGate(true, stream: id, at: WallTime(seconds: 1))
        for _ in 0..<1_000 where session.snapshot.open.contains(id) { usleep(10_000) }
        #expect(session.snapshot.open.isEmpty)
        close(send([rtp(1, 1, payload: [1, 2, 3])], to: session.endpoints[0].rtpPort))
        settle(session) { $0.droppedByGate == 1 }
        let counts = try #require(session.stop().streams[id])
        #expect((counts.packets, counts.droppedByGate) == (0, 1))
    }
}
