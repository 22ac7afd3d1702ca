import Catalog
import Consent
import Foundation
import GRDB
import Mail
import Media
@testable import Recorder
import SealedFile
import TestSupport
import Testing

@Suite("Downloads, receipts, and who is told", .serialized)
struct DutiesToTellTests {
    @Test("Art. 5(2), 19: a download is one entry in list and log, in however many ranges; another after a pause, another person, another day is another")
    func downloads() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        let mix = try await test.mix(made, as: "A").rawValue
        try await test.read(made, as: "A", parts: 20)
        try await test.later(29 * 60)
        try await test.read(made, as: "A")
        try await test.read(made, as: "B")
        try await test.later(31 * 60)
        try await test.read(made, as: "A")
        let (a, b) = (made.people["A"]!.rawValue, made.people["B"]!.rawValue)
        #expect(try await test.log("download") == [a, b, a].map { .init(actor: $0, action: "download", object: mix, detail: made.id.rawValue) })
        let length = try await test.recorder.download(RenditionID(rawValue: mix)!, as: made.principal("A")).length
        let rows = try await test.recorder.catalog.read { try Row.fetchAll($0, sql: "SELECT participant, bytes, reads, is_whole FROM download ORDER BY id").map { [$0["participant"] as String, "\($0["bytes"] as Int)", "\($0["reads"] as Int)", "\($0["is_whole"] as Int)"] } }
        #expect(rows == [[a, "\(2 * length)", "21", "1"], [b, "\(length)", "1", "1"], [a, "\(length)", "1", "1"]])
        await test.recorder.shutDown()
    }

    @Test("Art. 19: who has the first byte is entered already, also when they hang up; and a read that a withdrawal overtakes is refused before it")
    func entered() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        let mix = try await test.mix(made, as: "B")
        let download = try await test.recorder.download(mix, as: made.principal("B"))
        #expect(try await test.number("SELECT COUNT(*) FROM download") == 0)
        var body = download.body(0..<download.length).makeAsyncIterator()
        _ = try await body.next()
        #expect(try await test.number("SELECT COUNT(*) FROM download") == 1)
        let late = try await test.recorder.download(mix, as: made.principal("C"))
        try await test.recorder.eraseParticipant(made.people["A"]!, of: made.id, actor: "a")
        await #expect(throws: RecorderError.self) { for try await _ in late.body(0..<late.length) {} }
        #expect(try await test.log("recipient.told").map(\.detail) == ["\(made.people["B"]!) withdrawn"])
        await test.recorder.shutDown()
    }

    @Test("Art. 5(1)(e): the list of downloads and the log's entries on it are gone after their time, and the log still verifies; nothing else is erased")
    func sweep() async throws {
        let test = try EvidenceCase { $0.retention.downloadLogDays = 30 }
        let made = try await test.released()
        try await test.read(made, as: "B")
        try await test.later(3600)
        _ = try await test.recorder.rename(made.people["C"]!, NameRequest(name: "C"), as: made.principal("C"))
        try await test.read(made, as: "C")
        let before = try await test.number("SELECT COUNT(*) FROM audit_event WHERE salt IS NOT NULL")
        try await test.later(30 * 86_400 - 3600 - 600)
        await test.recorder.tidy()
        #expect(try await test.number("SELECT COUNT(*) FROM download") == 2)
        try await test.later(3600 * 0.5)
        #expect(try !test.report().isClean)
        await test.recorder.tidy()
        #expect(try await test.number("SELECT COUNT(*) FROM download") == 1)
        try await test.later(3600 * 1.5)
        await test.recorder.tidy()
        #expect(try await test.number("SELECT COUNT(*) FROM download") == 0)
        #expect(try await test.log("download").isEmpty)
        // Two are gone, and two say so.
        #expect(try await test.log("audit.erased").count == 2)
        #expect(try await test.number("SELECT COUNT(*) FROM audit_event WHERE salt IS NOT NULL") >= before)
        #expect(try test.report().isClean)
        await test.recorder.shutDown()
        let summary = try test.verified()
        #expect(summary.erased == 2)
    }

    @Test("Art. 17, 77: erasing one person leaves a receipt: keys, ciphertext, both times, last backup, authority, proved to stand in the log; a word changed in it fails")
    func receipt() async throws {
        let test = try EvidenceCase { $0.retention.backupDays = 14 }
        let made = try await test.released()
        let (anna, key) = (made.principal("A"), test.recorder.signer.verifier)
        let (track, sums) = (try await test.rights.track(made.id, 0), try await test.recorder.catalog.read { db in
            try Dictionary(uniqueKeysWithValues: Row.fetchAll(db, sql: "SELECT 'track:' || track AS id, sha256 FROM stream WHERE sha256 IS NOT NULL UNION ALL SELECT 'rendition:' || id, sha256 FROM rendition").map { ($0["id"] as String, $0["sha256"] as String) })
        })
        let fingerprint = try await test.recorder.keys.fingerprint("track:\(track)")
        _ = try await test.recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: anna)
        let receipt = try await test.recorder.receipt(of: made.id, participant: made.people["A"]!, as: anna)
        #expect(receipt.fault(trusting: [key]) == nil && receipt.trigger == "withdrawal" && receipt.supervisoryAuthority == "LfDI Musterland")
        #expect(receipt.objects.first { $0.id == "track:\(track)" }?.keyFingerprint == fingerprint)
        #expect(receipt.objects.count >= 2 && receipt.objects.allSatisfy { $0.ciphertextSha256 == sums[$0.id] ?? $0.ciphertextSha256 && $0.keyFingerprint.count == 64 && $0.keyDestroyedAt > 0 && $0.unlinkedAt >= $0.keyDestroyedAt })
        #expect(receipt.objects.contains { $0.id.hasPrefix("rendition:") && $0.ciphertextSha256.count == 64 })
        #expect(receipt.backupsGoneAt == (receipt.objects.map(\.unlinkedAt).max() ?? 0) + 14 * 86_400)
        let changes: [(inout ReceiptView) -> Void] = [
            { $0.participant = .random() }, { $0.participant = nil }, { $0.backupsGoneAt! += 1 }, { $0.backupsGoneAt = nil }, { $0.supervisoryAuthority = "x" }, { $0.objects.removeLast() },
            { $0.objects[0].unlinkedAt -= 1 }, { $0.objects[0].ciphertextSha256 = "" }, { $0.recording = .random() },
        ]
        for (place, change) in changes.enumerated() {
            var changed = receipt
            change(&changed)
            #expect(changed.fault(trusting: [key]) != nil, "change \(place)")
        }
        #expect(await Rights.code { try await test.recorder.receipt(of: made.id, participant: made.people["A"]!, as: made.principal("B")) } == .notFound)
        #expect(await Rights.code { try await test.recorder.receipt(of: made.id, participant: made.people["B"]!, as: made.principal("B")) } == .notFound)
        // Carried out again, as after a kill: the same receipt.
        try await test.recorder.eraseParticipant(made.people["A"]!, of: made.id, actor: "a")
        let again = try await test.recorder.receipt(of: made.id, participant: made.people["A"]!, as: test.rights.moderator)
        #expect(again.objects.map(\.id) == receipt.objects.map(\.id) && again.auditEntry == receipt.auditEntry)
        await test.recorder.tidy()
        try await test.later(91 * 86_400)
        await test.recorder.tidy()
        let whole = try await test.recorder.receipt(of: made.id, as: anna)
        #expect(whole.fault(trusting: [key]) == nil && whole.backupsGoneAt == (whole.objects.map(\.unlinkedAt).max() ?? 0) + 14 * 86_400)
        await test.recorder.shutDown()
        _ = try test.verified()
    }

    @Test("Art. 17: a receipt whose drafting was followed by a kill is finished by the next run, with the fingerprints of keys that are gone")
    func killed() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        let track = KeyStore.track(TrackID(rawValue: try await test.rights.track(made.id, 0))!)
        let fingerprint = try await test.recorder.keys.fingerprint(track)
        try await test.recorder.draftReceipt(of: made.people["A"]!, in: made.id, [track])
        _ = try await test.recorder.keys.destroy([track])
        #expect(await Rights.code { try await test.recorder.receipt(of: made.id, participant: made.people["A"]!, as: test.rights.moderator) } == .notFound)
        let pending = await test.recorder.metrics().first { $0.name == "mitschnitt_erasures_pending" }
        #expect(pending?.value == 1)
        try await test.recorder.eraseParticipant(made.people["A"]!, of: made.id, actor: "a")
        let receipt = try await test.recorder.receipt(of: made.id, participant: made.people["A"]!, as: test.rights.moderator)
        #expect(receipt.objects.filter { $0.id == track }.map(\.keyFingerprint) == [fingerprint] && receipt.fault() == nil)
        await test.recorder.shutDown()
    }

    @Test("Art. 19: each past downloader's address is written to once, however often the erasure is carried out and messages are delivered; the person themself and who read nothing are not")
    func withdrawal() async throws {
        let test = try EvidenceCase(hasMail: true)
        let made = try await test.released()
        for (key, language) in [("A", Language.de), ("B", .de), ("C", .en)] {
            _ = try await test.recorder.setContact(ContactRequest(email: "\(key.lowercased())@example.net", language: language), as: made.principal(key))
        }
        for key in ["A", "B", "C", "B"] { try await test.read(made, as: key) }
        for _ in 0..<3 {
            try await test.recorder.eraseParticipant(made.people["A"]!, of: made.id, actor: "a")
            await test.recorder.deliver()
        }
        // A server that was killed before it noted the delivery: the message goes again, as the same message.
        try await test.recorder.catalog.write { try $0.execute(sql: "UPDATE notification SET sent_at = NULL, next_at = 0 WHERE recipient = ?", arguments: [made.people["B"]!.rawValue]) }
        let again = try Recorder(test.recorder.configuration, logger: Rights.logger)
        #expect(await [again.deliver(), again.deliver()] == [1, 0])
        let messages = try #require(test.server).messages()
        #expect(messages.map(\.to) .sorted { $0[0] < $1[0] } == [["b@example.net"], ["b@example.net"], ["c@example.net"]])
        #expect(Set(messages.map(\.id)).count == 2 && Set(messages.filter { $0.to == ["b@example.net"] }.map(\.id)).count == 1)
        let (german, english) = (messages.first { $0.to == ["b@example.net"] }, messages.first { $0.to == ["c@example.net"] })
        #expect(german?.subject == "Bitte löschen Sie Ihre Kopie einer Aufzeichnung" && english?.subject == "Please delete your copy of a recording")
        #expect(german?.text.contains("LfDI Musterland") == true && english?.text.contains("LfDI Musterland") == true)
        for message in messages { for name in ["Person A", made.people["A"]!.rawValue, made.id.rawValue] { #expect(!message.text.contains(name)) } }
        #expect(try await test.log("recipient.told").count == 2)
        await again.shutDown()
        await test.recorder.shutDown()
    }

    @Test("Art. 19: without a mail server the message is on the person's page until they have read it, and counts as undelivered")
    func page() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        try await test.read(made, as: "B")
        _ = try await test.recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: made.principal("A"))
        #expect(await test.recorder.deliver() == 0)
        func undelivered() async -> Double? { await test.recorder.metrics().first { $0.name == "mitschnitt_notices_undelivered" }?.value }
        #expect(await undelivered() == 1)
        let bert = made.principal("B")
        let shown = try await test.told(bert, .en)
        #expect(shown.map(\.kind) == [.withdrawn] && shown.first?.text.contains("delete your copies") == true && shown.first?.recording == made.id)
        for other in [made.principal("A"), made.principal("C"), test.rights.moderator] { #expect(try await test.told(other).isEmpty) }
        let id = try #require(shown.first?.id)
        for other in [made.principal("C"), test.rights.moderator] { #expect(await Rights.code { try await test.recorder.markRead(id, as: other) } == .notFound) }
        try await test.recorder.markRead(id, as: bert)
        #expect(try await test.told(bert).isEmpty)
        #expect(await undelivered() == 0)
        await test.recorder.shutDown()
    }

    @Test("a mail server that is away or busy is asked again later, never in a storm; a mailbox that is gone is not, and both stay on the page")
    func retries() async throws {
        let test = try EvidenceCase(hasMail: true)
        let made = try await test.released()
        for (key, name) in [("B", "unknown"), ("C", "busy")] {
            _ = try await test.recorder.setContact(ContactRequest(email: "\(name)@example.net"), as: made.principal(key))
            try await test.read(made, as: key)
        }
        _ = try await test.recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: made.principal("A"))
        #expect(await test.recorder.deliver() == 0)
        func attempts(_ key: String) async throws -> Int { try await test.recorder.catalog.read { try Int.fetchOne($0, sql: "SELECT attempts FROM notification WHERE recipient = ?", arguments: [made.people[key]!.rawValue]) ?? 0 } }
        await test.recorder.deliver()
        #expect(try await [attempts("B"), attempts("C")] == [1, 1])
        _ = try await test.recorder.setContact(ContactRequest(email: "c@example.net"), as: made.principal("C"))
        try await test.later(61)
        #expect(await test.recorder.deliver() == 1)
        #expect(try await [attempts("B"), attempts("C")] == [1, 2])
        #expect(try await test.told(made.principal("B")).count == 1)
        #expect(try test.server?.messages().map(\.to) == [["c@example.net"]])
        #expect((0...12).map { Recorder.pause(afterAttempts: $0).seconds } == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15_360, 21_600, 21_600, 21_600, 21_600])
        await test.recorder.shutDown()
    }

    @Test("Art. 16, 19: a corrected name is told to whoever read a version that shows it, once for each correction")
    func corrected() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        let mix = try await test.mix(made, as: "B").rawValue
        try await test.read(made, as: "B")
        _ = try await test.recorder.rename(made.people["A"]!, NameRequest(name: "Anna"), as: made.principal("A"))
        // Sound shows no name.
        #expect(try await test.told(made.principal("B")).isEmpty)
        try await test.recorder.catalog.write { try $0.execute(sql: "UPDATE rendition SET kind = 'composite' WHERE id = ?", arguments: [mix]) }
        for name in ["Anna B", "Anna C"] { _ = try await test.recorder.rename(made.people["A"]!, NameRequest(name: name), as: made.principal("A")) }
        #expect(try await test.told(made.principal("B")).map(\.kind) == [.corrected, .corrected])
        await test.recorder.shutDown()
    }

    @Test("an address is in the identity's keeping alone: not in the log, not in a message's row, gone with the identity, and told in the person's own export")
    func addresses() async throws {
        let test = try EvidenceCase()
        let meeting = try await test.recorder.createMeeting(MeetingRequest(), as: test.rights.moderator).id
        let invited = try await test.recorder.invite(InvitationRequest(name: "Anna", email: "anna.kern@example.net", language: .en), to: meeting, as: test.rights.moderator)
        let anna = try await test.recorder.authenticate(token: invited.token)
        #expect(try await test.recorder.contact(as: anna).email == "anna.kern@example.net")
        #expect(await Rights.code { try await test.recorder.setContact(ContactRequest(email: "anna@example.net\r\nBcc: x@y"), as: anna) } == .invalid)
        #expect(await Rights.code { try await test.recorder.invite(InvitationRequest(name: "B", email: "b"), to: meeting, as: test.rights.moderator) } == .invalid)
        _ = try await test.recorder.setContact(ContactRequest(email: "anna.neu@example.net"), as: anna)
        var export = Data()
        for try await chunk in try await test.recorder.export(as: anna).body() { export += chunk }
        #expect(export.range(of: Data("anna.neu@example.net".utf8)) != nil)
        try await test.recorder.catalog.checkpoint()
        #expect(try !test.rights.folder.contains(Array("anna.kern@example.net".utf8)) && test.rights.folder.contains(Array("anna.neu@example.net".utf8)))
        try await test.recorder.catalog.write { try $0.execute(sql: "DELETE FROM identity WHERE participant = ?", arguments: [anna.participant!.rawValue]) }
        try await test.recorder.catalog.checkpoint()
        #expect(try !test.rights.folder.contains(Array("anna.neu@example.net".utf8)))
        #expect(await Rights.code { try await test.recorder.contact(as: anna) } == .notFound)
        #expect(await Rights.code { try await test.recorder.setContact(ContactRequest(email: "anna@example.net"), as: anna) } == .gone)
        await test.recorder.shutDown()
    }
}
