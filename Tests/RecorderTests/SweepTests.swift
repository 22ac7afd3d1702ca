import Catalog
import Foundation
import GRDB
import Logging
import Media
@testable import Recorder
import Renditions
import TestSupport
import Testing

@Suite("Expiry sweep")
struct SweepTests {
    @Test("Art. 5(1)(e): in many batches, two at a time, each ends with its receipt, key first; one that cannot end stays alone, and ends when it can")
    func batches() async throws {
        let folder = try TemporaryFolder()
        let moderator = Principal(role: .moderator, subject: "moderator")
        let recorder = try Self.recorder(folder)
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: moderator).token)
        var ids: [RecordingID] = []
        for _ in 0..<9 { ids.append(try await Self.recording(recorder, anna.participant!, meeting, as: moderator)) }
        let stuck = ids[4]
        try await recorder.catalog.write { db in
            try db.execute(sql: "CREATE TRIGGER stuck BEFORE INSERT ON receipt WHEN NEW.recording = '\(stuck)' BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        }
        _ = try await recorder.advanceClock(bySeconds: 91 * 86_400, as: Principal(role: .operator, subject: "operator"))
        #expect(try await recorder.sweep(batchMax: 2) == 8)
        #expect(try await recorder.keys.count() == 2)
        for id in ids where id != stuck {
            let receipt = try await recorder.receipt(of: id, as: moderator)
            #expect(receipt.objects.count == 2 && receipt.objects.allSatisfy { 0 < $0.keyDestroyedAt && $0.keyDestroyedAt <= $0.unlinkedAt } && receipt.fault() == nil)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.appending(path: "data/recordings").path) == [stuck.rawValue])
        try await recorder.catalog.write { try $0.execute(sql: "DROP TRIGGER stuck") }
        #expect(try await recorder.sweep(batchMax: 2) == 1)
        #expect(try await recorder.keys.count() == 0)
        #expect(try await recorder.receipt(of: stuck, as: moderator).fault() == nil)
        await recorder.shutDown()
    }

    private static func recorder(_ folder: TemporaryFolder) throws -> Recorder {
        var configuration = RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: Checkout.program("mitschnitt-stage"))
        configuration.hasMovableClock = true
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return try Recorder(configuration, logger: logger)
    }

    private static func recording(_ recorder: Recorder, _ who: ParticipantID, _ meeting: MeetingID, as moderator: Principal) async throws -> RecordingID {
        let stream = StreamRequest(participants: [who], kind: .audio, sdp: "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n")
        return try await recorder.createRecording(RecordingRequest(streams: [stream]), in: meeting, as: moderator).id
    }

    @Test("Art. 5(1)(e): a recording whose keys cannot be opened ends on its date, and takes no other gate down with it")
    func unreadable() async throws {
        let folder = try TemporaryFolder()
        let moderator = Principal(role: .moderator, subject: "moderator")
        let first = try Self.recorder(folder)
        let meeting = try await first.createMeeting(MeetingRequest(), as: moderator).id
        let anna = try await first.authenticate(token: first.invite(InvitationRequest(name: "Anna"), to: meeting, as: moderator).token)
        let old = try await Self.recording(first, anna.participant!, meeting, as: moderator)
        _ = try await first.control(old, .stop, as: moderator)
        // Another root key: what the first one wrapped opens no more.
        let root = folder.url.appending(path: "data/root.key")
        try FileManager.default.removeItem(at: root)
        #expect(FileManager.default.createFile(atPath: root.path, contents: Data(repeating: 7, count: 32), attributes: [.posixPermissions: 0o600]))
        let second = try Self.recorder(folder)
        _ = try await second.advanceClock(bySeconds: 91 * 86_400, as: Principal(role: .operator, subject: "operator"))
        let live = try await Self.recording(second, anna.participant!, meeting, as: moderator)
        let notice = try await second.notice(for: live, language: .de, as: anna)
        _ = try await second.decide(ConsentRequest(decision: .given, modalities: [.audio], purposes: [.minutes], notice: notice.hash), on: live, as: anna)
        await second.tidy()
        #expect(try await second.recording(live, as: moderator).streams.map(\.recording) == [true])
        let receipt = try await second.receipt(of: old, as: moderator)
        #expect(receipt.objects.map(\.keyFingerprint) == ["unreadable", "unreadable"])
        _ = try await second.control(live, .stop, as: moderator)
    }
}
