import Catalog
import CLinux
import Foundation
import Glibc
import Logging
import Media
@testable import Recorder
import TestSupport
import Testing

/// What a stream's SDP may be, and what becomes of it.
@Suite("Streams of a recording", .serialized)
struct StreamTests {
    let folder: TemporaryFolder
    let recorder: Recorder
    let moderator = Principal(role: .moderator, subject: "moderator")
    static let master = (40..<70).map { UInt8($0) }
    static let secret = Data(master).base64EncodedString()
    static let secure = "v=0\r\nm=audio 5004 RTP/SAVP 111\r\na=rtpmap:111 opus/48000/2\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:\(secret)|2^20\r\n"

    init() throws {
        folder = try TemporaryFolder()
        recorder = try Self.recorder(folder)
    }

    private static func recorder(_ folder: TemporaryFolder) throws -> Recorder {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return try Recorder(RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: ""), logger: logger)
    }

    private func made(_ kind: MediaKind, _ sdp: String) async throws -> (view: RecordingView, person: Principal) {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: moderator).id
        let person = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: moderator).token)
        return (try await recorder.createRecording(RecordingRequest(streams: [StreamRequest(participants: [person.participant!], kind: kind, sdp: sdp)]), in: meeting, as: moderator), person)
    }

    private func give(_ who: Principal, _ id: RecordingID) async throws {
        let notice = try await recorder.notice(for: id, language: .de, as: who)
        _ = try await recorder.decide(ConsentRequest(decision: .given, modalities: [.audio, .video], purposes: [.minutes], notice: notice.hash), on: id, as: who)
    }

    private func send(_ packets: [[UInt8]], to endpoint: EndpointView?) {
        var target = sockaddr_storage()
        let length = clinux_socket_address("127.0.0.1", UInt16(endpoint?.rtpPort ?? 0), &target)
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        for packet in packets { withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(descriptor, packet, packet.count, 0, $0, length) } } }
        close(descriptor)
    }

    private func stream(_ recorder: Recorder, _ id: RecordingID, until done: (StreamView) -> Bool) async throws -> StreamView {
        var stream = try await recorder.recording(id, as: moderator).streams[0]
        for _ in 0..<1_000 where !done(stream) {
            try await Task.sleep(for: .milliseconds(10))
            stream = try await recorder.recording(id, as: moderator).streams[0]
        }
        return stream
    }

    private func packet(_ number: Int) -> [UInt8] { rtp(UInt16(truncatingIfNeeded: number), 1, payloadType: 111, payload: [UInt8(truncatingIfNeeded: number), 1, 2, 3]) }

    @Test("SRTP is received, its key is nowhere in the clear, a restart goes on with it, and it is destroyed with the recording")
    func secure() async throws {
        let (view, anna) = try await made(.audio, Self.secure)
        let (id, endpoint) = (view.id, view.streams[0].endpoint)
        try await give(anna, id)
        let sender = SRTPSender(.aes128SHA1Tag80, key: Self.master)
        // Over a wrap: whoever comes back must find the rollover counter again.
        send((0..<20).map { sender.protect(packet(65_526 + $0)) }, to: endpoint)
        let before = try await stream(recorder, id) { $0.packets == 20 }
        #expect((before.packets, before.notAuthentic, before.health?.state) == (20, 0, .good))
        #expect(try await recorder.catalog.read { try $0.streams(of: id.rawValue)[0].stream.sdp }
            == Self.secure.replacing("inline:\(Self.secret)|2^20", with: "inline:(sealed)"))
        await recorder.shutDown()
        for text in [Self.secret, String(Self.secret.prefix(12))] { #expect(try !folder.contains(Array(text.utf8))) }
        #expect(try !folder.contains(Self.master))

        let again = try Self.recorder(folder)
        try await again.recover()
        #expect(try await again.recording(id, as: moderator).streams[0].endpoint?.rtpPort == endpoint?.rtpPort)
        send((20..<60).map { sender.protect(packet(65_526 + $0)) }, to: endpoint)
        let after = try await stream(again, id) { $0.packets == 40 }
        #expect((after.packets, after.notAuthentic) == (40, 0))
        _ = await #expect(throws: RecorderError.self) { try await again.control(id, .erase, as: moderator) }
        #expect(try await again.keys.count() == 0)
        #expect(try await again.keys.secret(of: TrackID(rawValue: "x")!) == nil)
        await again.shutDown()
    }

    @Test("with a wrong key the moderator reads what is wrong and what to do, until packets authenticate")
    func wrongKey() async throws {
        let (view, anna) = try await made(.audio, Self.secure)
        try await give(anna, view.id)
        let stranger = SRTPSender(.aes128SHA1Tag80, key: Self.master.reversed())
        send((0..<12).map { stranger.protect(packet($0)) }, to: view.streams[0].endpoint)
        let stream = try await stream(recorder, view.id) { $0.health?.state == .undecryptable }
        #expect((stream.health?.state, stream.packets) == (.undecryptable, 0))
        let problems = try await recorder.recording(view.id, as: moderator).problems
        #expect(problems.count == 1 && problems[0].contains("stream 1 (audio)") && problems[0].contains("a=crypto"))
        let sender = SRTPSender(.aes128SHA1Tag80, key: Self.master)
        send((0..<3).map { sender.protect(packet($0)) }, to: view.streams[0].endpoint)
        #expect(try await self.stream(recorder, view.id) { $0.packets == 3 }.health?.state == .good)
        #expect(try await recorder.recording(view.id, as: moderator).problems.isEmpty)
        await recorder.shutDown()
    }

    @Test("a suite that is not supported is named, and no answer repeats a key", arguments: [
        ("a=crypto:1 F8_128_HMAC_SHA1_80 inline:\(secret)", "F8_128_HMAC_SHA1_80"), ("a=crypto:1 AEAD_AES_256_GCM inline:\(secret)", "44"),
        ("inline:\(secret)", "line 4"), ("k=base64:\(secret)\na=crypto:1 AES_CM_128_HMAC_SHA1_80", "crypto"), ("", "a=crypto"),
    ])
    func refused(line: String, word: String) async throws {
        let sdp = "v=0\nm=audio 5004 RTP/SAVP 111\na=rtpmap:111 opus/48000/2\n\(line)\n"
        let error = await #expect(throws: RecorderError.self) { try await made(.audio, sdp) }
        let (said, all) = ((error?.detail ?? "") + (error?.hint ?? ""), String(describing: error))
        #expect(said.contains(word))
        #expect(!all.contains(Self.secret.prefix(8)))
        #expect(try await recorder.keys.count() == 0)
        await recorder.shutDown()
    }

    @Test("what is stored of an SDP has no key, whatever form it was in", arguments: [
        ("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:SECRET|2^20|1:4 WSH=64", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:(sealed)"),
        ("a=crypto:SECRET inline:SECRET", "a=x-removed"), ("A=CRYPTO:1 X INLINE:SECRET", "a=x-removed"), (" inline:SECRET", "a=x-removed"),
        ("a=key-mgmt:mikey SECRET", "a=x-removed"), ("k=clear:SECRET", "a=x-removed"), ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 opus/48000/2"),
    ])
    func redacted(line: String, stored: String) {
        for end in ["\n", "\r\n"] { #expect(SDPSecrets.redacted("v=0\(end)\(line)\(end)a=mid:0\(end)") == "v=0\(end)\(stored)\(end)a=mid:0\(end)") }
    }

    @Test("layers of a picture get a port each, and keep them over a restart; whose payload types or extensions differ are refused")
    func layers() async throws {
        func line(_ port: Int, _ codec: String = "VP8/90000", _ uri: String = "urn:ietf:params:rtp-hdrext:sdes:mid") -> String {
            "m=video \(port) RTP/AVP 96 97\na=rtpmap:96 \(codec)\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\na=extmap:4 \(uri)\n"
        }
        let (view, anna) = try await made(.video, "v=0\n" + line(40_022) + line(40_024) + line(40_026))
        let stream = view.streams[0]
        let ports = (stream.layers ?? []).map(\.rtpPort)
        #expect(ports.count == 3 && Set(ports).count == 3 && stream.endpoint?.rtpPort == ports[0] && stream.unsupported == nil)
        try await give(anna, view.id)
        for (place, layer) in (stream.layers ?? []).enumerated() { send([rtp(1, 1, ssrc: UInt32(place + 1), payload: [1])], to: layer) }
        #expect(try await self.stream(recorder, view.id) { $0.packets == 3 }.packets == 3)
        await recorder.shutDown()
        let again = try Self.recorder(folder)
        try await again.recover()
        #expect(try await again.recording(view.id, as: moderator).streams[0].layers?.map(\.rtpPort) == ports)
        await again.shutDown()
        let fresh = try StreamTests()
        for other in [line(40_024, "H264/90000"), line(40_024, "VP8/90000", "urn:3gpp:video-orientation")] {
            let error = await #expect(throws: RecorderError.self) { try await fresh.made(.video, "v=0\n" + line(40_022) + other) }
            #expect((error?.code, error?.pointer) == (.invalid, "/streams/0/sdp"))
        }
        let error = await #expect(throws: RecorderError.self) { try await fresh.made(.audio, "v=0\nm=audio 1 RTP/AVP 0\nm=audio 2 RTP/AVP 0\n") }
        #expect(error?.code == .invalid)
        await fresh.recorder.shutDown()
    }

    @Test("a stream is taken with one codec that can be read; those that cannot are named, and what only accompanies is not")
    func codecs() async throws {
        let mixed = "v=0\nm=video 5004 RTP/AVP 96 97 98 99\na=rtpmap:96 VP8/90000\na=rtpmap:97 rtx/90000\na=rtpmap:98 H266/90000\na=rtpmap:99 red/90000\n"
        let view = try await made(.video, mixed).view
        #expect((view.streams[0].codec, view.streams[0].unsupported) == ("VP8/90000", ["H266/90000"]))
        let error = await #expect(throws: RecorderError.self) { try await made(.audio, "v=0\nm=audio 5004 RTP/AVP 101 13\na=rtpmap:101 telephone-event/8000\n") }
        #expect(error?.code == .unsupported && error?.detail.contains("TELEPHONE-EVENT/8000") == true)
        await recorder.shutDown()
    }
}
