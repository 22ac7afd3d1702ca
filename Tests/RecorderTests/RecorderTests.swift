import Catalog
import Consent
import Foundation
import Logging
import Media
@testable import Recorder
import Renditions
import SealedFile
import TestSupport
import Testing
import Truth

/// The use cases on real stores, the real stage program and captured packets, with a clock that the tests move.
@Suite("Use cases", .serialized)
struct RecorderTests {
    let folder: TemporaryFolder
    let recorder: Recorder
    let moderator = Principal(role: .moderator, subject: "moderator")

    init() async throws {
        folder = try TemporaryFolder()
        var configuration = RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: Checkout.program("mitschnitt-stage"))
        configuration.hasMovableClock = true
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        recorder = try Recorder(configuration, logger: logger)
    }

    private func error(_ body: () async throws -> some Any) async -> RecorderError.Code? {
        do {
            _ = try await body()
            return nil
        } catch {
            return (error as? RecorderError)?.code
        }
    }

    private func invited(_ names: String...) async throws -> (meeting: MeetingID, people: [Principal]) {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: moderator).id
        var people: [Principal] = []
        for name in names { people.append(try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: name), to: meeting, as: moderator).token)) }
        return (meeting, people)
    }

    private static let audio = "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"

    private func recording(_ meeting: MeetingID, _ streams: [StreamRequest]) async throws -> RecordingView {
        try await recorder.createRecording(RecordingRequest(streams: streams), in: meeting, as: moderator)
    }

    private func give(_ who: Principal, _ id: RecordingID, _ modalities: [Modality] = [.audio, .video], _ purposes: [Purpose] = [.shareWithParticipants]) async throws {
        let notice = try await recorder.notice(for: id, language: .de, as: who)
        _ = try await recorder.decide(ConsentRequest(decision: .given, modalities: modalities, purposes: purposes, notice: notice.hash), on: id, as: who)
    }

    private func open(_ id: RecordingID) async throws -> [Bool] { try await recorder.recording(id, as: moderator).streams.map(\.recording) }

    @Test("Art. 7, 25: a gate opens by the person's own consent only, per modality, and closes with a withdrawal")
    func gates() async throws {
        let (meeting, people) = try await invited("Anna", "Bert")
        let (anna, bert) = (people[0], people[1])
        let made = try await recording(meeting, [StreamRequest(participants: [anna.participant!], kind: .audio, sdp: Self.audio),
                                                 StreamRequest(participants: [anna.participant!, bert.participant!], kind: .audio, sdp: Self.audio.replacing("5004", with: "5008"))])
        #expect(made.expiresAt > made.startedAt)
        #expect(try await open(made.id) == [false, false])
        #expect(await error { try await recorder.decide(ConsentRequest(decision: .given, participant: anna.participant, notice: "x"), on: made.id, as: moderator) } == .forbidden)
        #expect(await error { try await recorder.decide(ConsentRequest(decision: .given, notice: "another text"), on: made.id, as: anna) } == .conflict)
        try await give(anna, made.id, [.video])
        #expect(try await open(made.id) == [false, false])
        try await give(anna, made.id)
        #expect(try await open(made.id) == [true, false])
        try await give(bert, made.id)
        #expect(try await open(made.id) == [true, true])
        _ = try await recorder.decide(ConsentRequest(decision: .refused, participant: bert.participant), on: made.id, as: moderator)
        #expect(try await open(made.id) == [true, false])
        _ = try await recorder.control(made.id, .pause, as: moderator)
        #expect(try await open(made.id) == [false, false])
        _ = try await recorder.control(made.id, .resume, as: moderator)
        #expect(try await open(made.id) == [true, false])
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: anna)
        #expect(try await open(made.id) == [false, false])
        _ = try await recorder.control(made.id, .stop, as: moderator)
        #expect(await error { try await recorder.control(made.id, .stop, as: moderator) } == .conflict)
        await recorder.shutDown()
    }

    @Test("nobody reaches what is not theirs, and unknown ids and others' ids look alike")
    func access() async throws {
        let (meeting, people) = try await invited("Anna")
        let (_, strangers) = try await invited("Eve")
        let made = try await recording(meeting, [StreamRequest(participants: [people[0].participant!], kind: .audio, sdp: Self.audio)])
        #expect(await error { try await recorder.recording(made.id, as: strangers[0]) } == .notFound)
        #expect(await error { try await recorder.recording(.random(), as: strangers[0]) } == .notFound)
        #expect(await error { try await recorder.recording(made.id, as: Principal(role: .operator, subject: "o")) } == .forbidden)
        #expect(await error { try await recorder.control(made.id, .stop, as: people[0]) } == .forbidden)
        #expect(await error { try await recorder.createMeeting(MeetingRequest(), as: people[0]) } == .forbidden)
        #expect(await error { try await recorder.authenticate(token: "0123456789012345678901234567890") } == .unauthenticated)
        #expect(await error { try await recorder.grant(GrantRequest(), on: made.id, as: people[0]) } == .notConsented)
        await recorder.shutDown()
    }

    @Test("bad requests are refused with the field at fault", arguments: [
        ("hello", RecorderError.Code.invalid), ("v=0\nm=audio 5004 RTP/SAVP 111\na=rtpmap:111 opus/48000/2\n", .unsupported),
        ("v=0\nm=audio 5004 RTP/AVP 96\na=rtpmap:96 H266/90000\n", .unsupported), ("v=0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 VP8/90000\n", .invalid),
    ])
    func badStreams(sdp: String, code: RecorderError.Code) async throws {
        let (meeting, people) = try await invited("Anna")
        do {
            _ = try await recording(meeting, [StreamRequest(participants: [people[0].participant!], kind: .audio, sdp: sdp)])
            Issue.record("it was taken")
        } catch let error as RecorderError {
            #expect(error.code == code)
            #expect(error.pointer?.hasPrefix("/streams/0/") == true)
            if sdp.contains("H266") { #expect(error.detail.contains("H266/90000")) }
        }
        #expect(try await recorder.keys.count() == 0)
    }

    private func imported(_ modalities: [String: [Modality]]) async throws -> ImportedRecording {
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let truth = try CaptureTruth(capture: capture)
        let request = ImportRequest(pipeline: "meeting", captures: [capture.path], people: ["A", "B", "C"].map { .init(key: $0, name: $0, modalities: modalities[$0] ?? []) },
                                    streams: truth.streams.map { .init(people: [$0.participant], kind: MediaKind(rawValue: $0.kind)!, sdp: $0.sdp) })
        let imported = try await recorder.importCaptures(request) { _ in }
        await StageWorker(recorder: recorder).runUntilEmpty()
        return imported
    }

    @Test("the life of a recording: released, read, withdrawn from, made again, expired, erased")
    func life() async throws {
        let imported = try await imported(["A": [.audio, .video], "B": [.audio]])
        let id = imported.recording
        let view = try await recorder.recording(id, as: moderator)
        #expect(view.state == .ready && view.problems.isEmpty)
        let keys = Dictionary(uniqueKeysWithValues: imported.keys.map { ($0.value, $0.key) })
        func principal(_ key: String) -> Principal { Principal(role: .participant, subject: key, participant: keys[key], meeting: view.meeting) }
        func all() async throws -> [RenditionView] { try await recorder.renditions(of: id, as: principal("A")) }

        // Art. 5(1)(c): B allowed the voice only.
        #expect(Set(try await all().map(\.kind)) == ["mix", "composite", "waveform", "thumbnail"])
        #expect(view.streams.map(\.packets).enumerated().filter { $0.element > 0 }.map(\.offset) == [0, 1, 2])

        // Not before the moderator releases it; then who shares reads, who does not share does not.
        #expect(try await all().allSatisfy { !$0.downloadable })
        _ = try await recorder.control(id, .release, as: moderator)
        #expect(try await all().allSatisfy { $0.downloadable })
        let composite = try #require(try await all().first { $0.kind == "composite" })
        #expect(Set(composite.contains) == Set([keys["A"]!, keys["B"]!]))
        #expect(await error { try await recorder.download(composite.id, as: principal("C")) } == .notConsented)
        let download = try await recorder.download(composite.id, as: principal("B"))
        var bytes: [UInt8] = []
        for try await chunk in download.body(0..<download.length) { bytes += chunk }
        #expect(bytes.count == composite.bytes && Array(bytes[4..<8]) == Array("ftyp".utf8))
        #expect(String(decoding: bytes[..<64], as: UTF8.self).contains("moov"))

        // Art. 17: B withdraws; what contains them is gone at once, and is made again without them.
        let tracks = folder.url.appending(path: "data/recordings/\(id)/artifacts")
        let before = try Data(contentsOf: tracks.appending(path: "\(try await track(id, 0)).sealed"))
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: id, as: principal("B"))
        #expect(await error { try await recorder.download(composite.id, as: principal("A")) } == .gone)
        await #expect(throws: (any Error).self) { for try await _ in download.body(0..<download.length) {} }
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await recorder.recording(id, as: moderator).state == .ready)
        #expect(try await all().allSatisfy { $0.contains == [keys["A"]!] && $0.downloadable })
        #expect(Set(try await all().map(\.kind)) == ["mix", "composite", "waveform", "thumbnail"])
        #expect(try Data(contentsOf: tracks.appending(path: "\(try await track(id, 0)).sealed")) == before)
        #expect(!FileManager.default.fileExists(atPath: tracks.appending(path: "\(try await track(id, 2)).sealed").path))

        let kept = try DescriptorIO.sha256(ofFileAt: tracks.appending(path: "\(try await track(id, 0)).sealed").path)

        // Art. 5(1)(e): readable until the last second, gone at the date, keys first.
        let left = view.expiresAt - recorder.clock.now.seconds
        try recorder.clock.advance(by: Nanoseconds(seconds: left - 5))
        #expect(try await all().allSatisfy { $0.downloadable })
        try recorder.clock.advance(by: .seconds(5))
        #expect(await error { try await recorder.recording(id, as: moderator) } == .gone)
        await recorder.tidy()
        #expect(try await recorder.keys.count() == 0)
        #expect(!FileManager.default.fileExists(atPath: folder.url.appending(path: "data/recordings/\(id)").path))
        let receipt = try await recorder.receipt(of: id, as: moderator)
        #expect(receipt.trigger == "expiry" && receipt.auditEntry > 0 && receipt.objects.count >= 5)
        #expect(receipt.objects.allSatisfy { $0.keyDestroyedAt > 0 && $0.keyDestroyedAt <= $0.unlinkedAt && $0.keyFingerprint.count == 64 })
        #expect(receipt.objects.contains { $0.ciphertextSha256 == kept } && receipt.objects.count { $0.ciphertextSha256.count == 64 } >= 5)
        await recorder.shutDown()
    }

    @Test("Art. 17: an erasure that a kill interrupted is finished at the next start")
    func interrupted() async throws {
        let imported = try await imported(["A": [.audio], "B": [.audio]])
        let id = imported.recording
        let anna = try #require(imported.keys.first { $0.value == "A" }?.key)
        let before = try await recorder.keys.count()
        // The withdrawal is in the history; the process died before anything was destroyed.
        try await recorder.catalog.write { [recorder] db in
            let state = try db.consentState(of: id)
            let event = ConsentEvent(sequence: state.count + 1, recording: id, participant: anna, kind: .withdrawn, occurredAt: recorder.clock.now, receivedAt: recorder.clock.now,
                                     modalities: [], purposes: [], noticeHash: "", noticeVersion: "", language: "de", method: .click, isOwnAct: true, isGuardian: false,
                                     retentionClass: "recording", expiresAt: recorder.clock.now, asksErasure: true, previousHash: state.lastHash)
            _ = try db.append(event, to: state)
        }
        try await recorder.recover()
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await recorder.recording(id, as: moderator).state == .ready)
        #expect(try await recorder.keys.count() == before - 2)  // A's two tracks; every rendition has a successor
        #expect(!FileManager.default.fileExists(atPath: folder.url.appending(path: "data/recordings/\(id)/tracks/\(try await track(id, 0))").path))
        #expect(try await recorder.renditions(of: id, as: moderator).allSatisfy { !$0.contains.contains(anna) })
        await recorder.shutDown()
    }

    private func track(_ id: RecordingID, _ place: Int) async throws -> String { try await recorder.catalog.read { try $0.streams(of: id.rawValue)[place].stream.track } }

    @Test("consent for minutes only makes nothing that could be shared")
    func minutes() async throws {
        let (meeting, people) = try await invited("Anna")
        let made = try await recording(meeting, [StreamRequest(participants: [people[0].participant!], kind: .audio, sdp: Self.audio)])
        try await give(people[0], made.id, [.audio], [.minutes])
        #expect(try await open(made.id) == [true])
        #expect(await error { try await recorder.grant(GrantRequest(), on: made.id, as: people[0]) } == .notConsented)
        await recorder.shutDown()
    }

    @Test("a declared minor's own click opens nothing")
    func minor() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: moderator).id
        let token = try await recorder.invite(InvitationRequest(name: "Kim", minor: true), to: meeting, as: moderator).token
        let kim = try await recorder.authenticate(token: token)
        let made = try await recording(meeting, [StreamRequest(participants: [kim.participant!], kind: .audio, sdp: Self.audio)])
        await #expect(throws: RecorderError.self) { try await give(kim, made.id) }
        #expect(try await open(made.id) == [false])
        await recorder.shutDown()
    }

    @Test("a missing root key beside a used key store is an error, never a new key")
    func missingRoot() throws {
        try FileManager.default.removeItem(at: folder.url.appending(path: "data/root.key"))
        let again = RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: "")
        #expect(throws: (any Error).self) { try Recorder(again, logger: Logger(label: "test")) }
        #expect(!FileManager.default.fileExists(atPath: folder.url.appending(path: "data/root.key").path))
    }
}
