import Catalog
import Consent
import Foundation
import GRDB
import Logging
import Media
@testable import Recorder
import SealedFile
import TestSupport
import Testing

/// What the use cases leave in the audit log and in the key store.
@Suite("Audit and keys of the use cases")
struct AuditAndKeysTests {
    let folder: TemporaryFolder
    let recorder: Recorder
    let moderator = Principal(role: .moderator, subject: "moderator-1")
    private var data: URL { folder.url.appending(path: "data") }

    init() async throws {
        folder = try TemporaryFolder()
        var configuration = RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: "")
        configuration.hasMovableClock = true
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        recorder = try Recorder(configuration, logger: logger)
        try await recorder.recover()
    }

    private func recorded() async throws -> (id: RecordingID, anna: Principal) {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: moderator).token)
        let stream = StreamRequest(participants: [anna.participant!], kind: .audio, sdp: "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n")
        let id = try await recorder.createRecording(RecordingRequest(streams: [stream]), in: meeting, as: moderator).id
        let notice = try await recorder.notice(for: id, language: .de, as: anna)
        _ = try await recorder.decide(ConsentRequest(decision: .given, modalities: [.audio], purposes: [.minutes], notice: notice.hash), on: id, as: anna)
        return (id, anna)
    }

    private func verified(held: [AuditCheckpoint] = []) throws -> AuditSummary {
        try AuditReader(path: data.appending(path: "catalog.sqlite").path).verify(keys: [recorder.signer.verifier], held: held)
    }

    @Test("Art. 5(2), 7(1): each decision is in the log with the hash of its event; at shutdown everything is signed")
    func decisions() async throws {
        let (id, anna) = try await recorded()
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: id, as: anna)
        let start = try #require(try await recorder.catalog.read { try AuditLog.lastCheckpoint($0) })
        await recorder.shutDown()
        let summary = try verified(held: [start])
        #expect([summary.consents, summary.notices, summary.uncovered] == [2, 1, 0] as [Int])
        var wordings: [String: String] = [:]
        var given: [ConsentEvent] = []
        try AuditReader(path: data.appending(path: "catalog.sqlite").path).lines { line in
            if case .notice(let text) = line { wordings[AuditVerifier.wordingHash(text)] = text }
            if case .consent(let json) = line { given.append(try JSONDecoder().decode(ConsentEvent.self, from: Data(json.utf8))) }
        }
        let notice = Notice(language: "de", policy: recorder.configuration.retention, days: 90)
        let shown = given.filter { $0.kind == .given }.compactMap { wordings[$0.noticeHash] }
        #expect(shown == [notice.text])
    }

    @Test("Art. 17: a receipt is proved to stand in the signed log, and not with another word in it")
    func receipt() async throws {
        let (id, anna) = try await recorded()
        _ = try await recorder.control(id, .stop, as: moderator)
        try await recorder.erase(id, trigger: "expiry", actor: "retention")
        let receipt = try await recorder.receipt(of: id, as: anna)
        let key = recorder.signer.verifier
        #expect(receipt.fault(trusting: [key]) == nil && receipt.objects.count == 2)
        #expect(receipt.fault(trusting: [NoteSigner(name: key.name, seed: .random()).verifier]) != nil)
        let changes: [(inout ReceiptView) -> Void] = [
            { $0.recording = .random() }, { $0.trigger = "withdrawal" }, { $0.policy += " " }, { $0.objects.removeLast() }, { $0.objects[0].keyDestroyedAt += 1 },
            { $0.objects[0].keyFingerprint = "" }, { $0.objects[1].id = "x" }, { $0.auditEntry -= 1 }, { $0.supervisoryAuthority = "" }, { $0.auditProof = nil },
        ]
        for (place, change) in changes.enumerated() {
            var changed = receipt
            change(&changed)
            #expect(changed.fault(trusting: [key]) != nil, "change \(place)")
        }
        await recorder.shutDown()
        _ = try verified()
    }

    @Test("Art. 17: a destroyed track key is found nowhere in the data folder, neither wrapped nor plain")
    func destroyed() async throws {
        let (id, _) = try await recorded()
        _ = try await recorder.control(id, .stop, as: moderator)
        let track = try #require(TrackID(rawValue: try await recorder.catalog.read { try $0.streams(of: id.rawValue)[0].stream.track }))
        let plain = try await recorder.keys.key(KeyStore.track(track)).withBytes { Array($0) }
        let wrapped = try await DatabaseQueue(path: data.appending(path: "keys.sqlite").path).read { db in
            try Data.fetchAll(db, sql: "SELECT wrapped FROM wrapped_key WHERE id IN (?, ?)", arguments: [KeyStore.track(track), KeyStore.recording(id)])
        }
        #expect(try wrapped.count == 2 && wrapped.allSatisfy { try folder.contains(Array($0)) })
        func isAnywhere(_ key: [UInt8]) throws -> Bool {
            try [key, Array(Hexadecimal.text(key).utf8), Array(Data(key).base64EncodedString().utf8)].contains { try folder.contains($0) }
        }
        #expect(try !isAnywhere(plain))
        try await recorder.erase(id, trigger: "expiry", actor: "retention")
        await recorder.shutDown()
        for bytes in wrapped.map(Array.init) + [plain] { #expect(try !isAnywhere(bytes)) }
        await #expect(throws: KeyStore.Missing.self) { try await recorder.keys.key(KeyStore.track(track)) }
    }

    @Test("a rotation that was killed is ended by the next start, and the log goes on under the same signing key")
    func rotation() async throws {
        _ = try await recorded()
        await recorder.shutDown()
        struct Killed: Error {}
        let old = try RootKey.load(path: data.appending(path: "root.key").path)
        #expect(throws: Killed.self) { try KeyRotation(data: data).rotate(from: old) { if $0 == .oldKeyOverwritten { throw Killed() } } }
        let again = try Recorder(recorder.configuration, logger: recorder.logger)
        #expect(again.signer.verifier == recorder.signer.verifier && !KeyRotation(data: data).isBegun)
        try await again.recover()
        #expect(try again.keys.unopened().isEmpty)
        await again.shutDown()
        _ = try verified()
    }
}
