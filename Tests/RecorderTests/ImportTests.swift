import Catalog
import Foundation
import GRDB
import Logging
import Media
import PacketLog
@testable import Recorder
import Renditions
import Tap
import TestSupport
import Testing
import Truth

/// Captures and finished files through the same gate, on real stores and the real stage program.
@Suite("Imports", .serialized)
struct ImportTests {
    let folder: TemporaryFolder
    let recorder: Recorder

    init() async throws {
        folder = try TemporaryFolder()
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        recorder = try Recorder(RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: Checkout.program("mitschnitt-stage")), logger: logger)
    }

    private func person(_ key: String, _ modalities: [Modality]) -> ImportRequest.Person { .init(key: key, name: nil, modalities: modalities) }

    private func write(_ bytes: [UInt8], _ name: String) throws -> String {
        let url = folder.url.appending(path: name)
        try Data(bytes).write(to: url)
        return url.path
    }

    private func be<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }

    /// One stream of the fixture as Janus would have recorded it, and its SDP in the sidecar.
    private func janus(_ participant: String, _ kind: String) throws -> (path: String, stream: CaptureTruth.Stream, capture: URL) {
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let stream = try #require(try CaptureTruth(capture: capture).streams.first { $0.participant == participant && $0.kind == kind })
        let reader = try CaptureFileReader(path: capture.path)
        var (bytes, first) = ([UInt8](), WallTime?.none)
        while let datagram = try reader.next() {
            guard datagram.destinationPort == stream.rtpPort, datagram.payload.count > 12 else { continue }
            if first == nil {
                first = datagram.arrival
                let json = #"{"t":"\#(kind.prefix(1))","c":"\#(kind == "audio" ? "opus" : "vp8")","u":\#(datagram.arrival.nanoseconds / 1_000)}"#
                bytes = Array("MJR00002".utf8) + be(UInt16(json.utf8.count)) + Array(json.utf8)
            }
            let ms = ((datagram.arrival - (first ?? datagram.arrival)).count + 500_000) / 1_000_000
            bytes += Array("MEET".utf8) + be(UInt32(ms)) + be(UInt16(datagram.payload.count)) + datagram.payload
        }
        return (try write(bytes, "\(participant)-\(kind).mjr"), stream, capture)
    }

    @Test("an .mjr without SDP gives the same track as the capture with it, and unconsented streams of their own captures are dropped")
    func janusTracks() async throws {
        let (path, stream, capture) = try janus("A", "audio")
        let other = try janus("B", "audio").path
        let imported = try await recorder.importCaptures(ImportRequest(
            pipeline: "audio-only", captures: [capture.path], people: [person("A", [.audio]), person("B", [])],
            streams: [.init(people: ["A"], kind: .audio, sdp: stream.sdp), .init(people: ["A"], kind: .audio, sdp: nil, capture: path), .init(people: ["B"], kind: .audio, sdp: nil, capture: other)])) { _ in }
        await StageWorker(recorder: recorder).runUntilEmpty()
        let streams = try await recorder.recording(imported.recording, as: imported.moderator).streams
        #expect(streams.map(\.packets) == [stream.packets, stream.packets, 0])
        #expect(streams[2].droppedByGate > 500)
        let (pcap, mjr) = (try #require(streams[0].verdict), try #require(streams[1].verdict))
        #expect(pcap.summary == "complete" && mjr.summary == "complete" && pcap.packets == mjr.packets)
        // Janus keeps milliseconds.
        #expect(abs(pcap.startWall! - mjr.startWall!) < 0.002 && abs(pcap.endWall! - mjr.endWall!) < 0.002)
        await recorder.shutDown()
    }

    /// A second of silence; 16 bits, one channel, 8 kHz.
    private var wav: [UInt8] {
        func le<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
        return Array("RIFF".utf8) + le(UInt32(16_036)) + Array("WAVEfmt ".utf8) + le(UInt32(16)) + le(UInt16(1)) + le(UInt16(1)) + le(UInt32(8_000)) + le(UInt32(16_000))
            + le(UInt16(2)) + le(UInt16(16)) + Array("data".utf8) + le(UInt32(16_000)) + [UInt8](repeating: 0, count: 16_000)
    }

    private func rows(_ imported: ImportedRecording) async throws -> [StreamRecord] {
        try await recorder.catalog.read { try $0.streams(of: imported.recording.rawValue).map(\.stream) }
    }

    @Test("a finished file is used where everybody in it allowed the modality, and its path is forgotten when the track is made")
    func finished() async throws {
        let path = try write(wav, "talk.wav")
        let imported = try await recorder.importCaptures(ImportRequest(
            pipeline: "audio-only", captures: [], people: [person("A", [.audio]), person("B", [.audio, .video])], streams: [],
            files: [.init(path: path, people: ["A", "B"], start: WallTime(seconds: 1_795_550_400))])) { _ in }
        #expect(try await rows(imported).allSatisfy { $0.source?.contains("talk.wav") == true })
        await StageWorker(recorder: recorder).runUntilEmpty()
        let view = try await recorder.recording(imported.recording, as: imported.moderator)
        let verdict = try #require(view.streams[0].verdict)
        #expect(view.streams.count == 1 && view.streams[0].codec == "PCM_S16LE/8000")
        #expect([verdict.summary, verdict.clock] == ["complete", "file"])
        #expect([verdict.startWall, verdict.endWall] == [1_795_550_400, 1_795_550_401])
        #expect(try await rows(imported).map(\.source) == [nil])
        #expect(try await !recorder.catalog.read { try String.fetchAll($0, sql: "SELECT payload FROM job").joined().contains("talk.wav") })
        await recorder.shutDown()
    }

    @Test("one person in a finished file who did not allow a modality keeps all of it out: no job, no file, no key used")
    func mixedSource() async throws {
        // An MP4 by its first bytes, and noise after them: whether it can be read is asked only for what is allowed.
        var random = Seeded(1)
        let path = try write([0, 0, 0, 8] + Array("ftyp".utf8) + random.bytes(2_000), "talk.mp4")
        let imported = try await recorder.importCaptures(ImportRequest(
            pipeline: "meeting", captures: [], people: [person("A", [.audio, .video]), person("B", [.audio])], streams: [], files: [.init(path: path, people: ["A", "B"])])) { _ in }
        let jobs = try await recorder.catalog.read { try String.fetchAll($0, sql: "SELECT name FROM job WHERE name LIKE 'tracks/%' OR name LIKE '%/%'") }
        let streams = try await rows(imported)
        #expect(streams.map(\.kind) == ["audio", "video"] && streams.map(\.verdict) == [nil, "not-consented"])
        #expect(streams.map { $0.source == nil } == [false, true])
        #expect(jobs.contains { $0.hasSuffix(streams[0].track) } && !jobs.contains { $0.hasSuffix(streams[1].track) })
        await StageWorker(recorder: recorder).runUntilEmpty()
        let view = try await recorder.recording(imported.recording, as: imported.moderator)
        #expect(view.streams.map { $0.verdict?.summary } == ["unsupported", "not-consented"])
        #expect(view.streams[0].verdict?.details.first?.contains("cannot be read as mp4") == true)
        #expect(try FileManager.default.subpathsOfDirectory(atPath: folder.url.appending(path: "data").path).allSatisfy { !$0.hasSuffix(".sealed") })
        await recorder.shutDown()
    }

    @Test("a withdrawal before the track is made takes the whole mixed source, and its path")
    func withdrawn() async throws {
        let path = try write(wav, "talk.wav")
        let imported = try await recorder.importCaptures(ImportRequest(
            pipeline: "audio-only", captures: [], people: [person("A", [.audio]), person("B", [.audio])], streams: [], files: [.init(path: path, people: ["A", "B"])])) { _ in }
        let anna = try #require(imported.keys.first { $0.value == "A" }?.key)
        try await recorder.eraseParticipant(anna, of: imported.recording, actor: "A")
        await StageWorker(recorder: recorder).runUntilEmpty()
        let streams = try await rows(imported)
        #expect(streams.map(\.verdict) == ["erased"] && streams.map(\.source) == [nil])
        #expect(try await recorder.renditions(of: imported.recording, as: imported.moderator).isEmpty)
        await recorder.shutDown()
    }

    @Test("a withdrawal that asks for no erasure, between the plan and the stage, is heard: nothing is made")
    func withdrawnBetween() async throws {
        let path = try write(wav, "talk.wav")
        let imported = try await recorder.importCaptures(ImportRequest(
            pipeline: "audio-only", captures: [], people: [person("A", [.audio]), person("B", [.audio])], streams: [], files: [.init(path: path, people: ["A", "B"])])) { _ in }
        let anna = try #require(imported.keys.first { $0.value == "A" }?.key)
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn, participant: anna, erase: false), on: imported.recording, as: imported.moderator)
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await rows(imported).map(\.verdict) == ["empty"])
        #expect(try await recorder.renditions(of: imported.recording, as: imported.moderator).isEmpty)
        #expect(try FileManager.default.subpathsOfDirectory(atPath: folder.url.appending(path: "data").path).allSatisfy { !$0.hasSuffix(".sealed") })
        await recorder.shutDown()
    }

    @Test("what cannot be imported is told in words, with what to do, before anything is recorded")
    func refused() async throws {
        let (mjr, stream, capture) = try janus("C", "audio")
        let (noise, data) = (try write(Array("hello, world".utf8), "noise"), try write(Array("MJR00002".utf8) + be(UInt16(20)) + Array(#"{"t":"d","c":"text"} "#.utf8).prefix(20), "d.mjr"))
        let old = try write(Array("MEETECHO".utf8) + be(UInt16(5)) + Array("audio".utf8) + Array("MEETECHO".utf8) + be(UInt16(13)) + rtp(1, 1, payload: [1]), "old.mjr")
        let cases: [(captures: [String], streams: [ImportRequest.Stream], files: [ImportRequest.File], words: String)] = [
            ([mjr], [.init(people: ["A"], kind: .audio, sdp: stream.sdp)], [], "one stream without a port"),
            ([], [.init(people: ["A"], kind: .audio, sdp: nil, capture: capture.path)], [], "does not say which codec"),
            ([], [.init(people: ["A"], kind: .video, sdp: nil, capture: mjr)], [], "its m-line says audio"),
            ([], [.init(people: ["A"], kind: .audio, sdp: nil, capture: noise)], [], "is no capture"),
            ([], [.init(people: ["A"], kind: .audio, sdp: nil, capture: data)], [], "data channel"),
            ([], [.init(people: ["A"], kind: .audio, sdp: nil, capture: mjr), .init(people: ["A"], kind: .audio, sdp: nil, capture: mjr)], [], "2 streams name it"),
            ([], [.init(people: ["A"], kind: .audio, sdp: nil, capture: mjr), .init(people: ["A"], kind: .audio, sdp: nil, capture: old)], [], "says no time of day"),
            ([], [], [.init(path: noise, people: ["A"])], "neither MP4"),
            ([], [], [.init(path: folder.path + "/nowhere.mp4", people: ["A"])], "cannot be read"),
            ([], [], [.init(path: noise, people: ["A", "stranger"])], "does not say who is in it"),
        ]
        for (captures, streams, files, words) in cases {
            do {
                _ = try await recorder.importCaptures(ImportRequest(pipeline: "meeting", captures: captures, people: [person("A", [.audio, .video])], streams: streams, files: files)) { _ in }
                Issue.record("it was taken: \(words)")
            } catch let error as RecorderError {
                #expect(error.detail.contains(words))
            }
        }
        #expect(try await recorder.keys.count() == 0)
        await recorder.shutDown()
    }
}
