import Catalog
import Consent
import Foundation
import GRDB
import Media
@testable import Recorder
import SealedFile
import TestSupport
import Testing

@Suite("Warnings, reports and figures of what ends", .serialized)
struct EndingTests {
    private func state(_ test: EvidenceCase, _ id: RecordingID) async throws -> (recording: WallTime, now: WallTime) {
        (WallTime(nanoseconds: Int64(try await test.number("SELECT expires_at FROM recording WHERE id = '\(id)'"))), test.recorder.clock.now)
    }

    @Test("Art. 5(1)(e): seven days and one day before the end, moderator and participants who may download are told once each, by mail and page; who may not is not")
    func warnings() async throws {
        let test = try EvidenceCase(hasMail: true)
        // C consents to nothing, so C may not download.
        let made = try await test.released(["A": [.audio], "B": [.audio]])
        _ = try await test.recorder.setContact(ContactRequest(email: "a@example.net"), as: made.principal("A"))
        func kinds(_ who: Principal) async throws -> Int { try await test.told(who).filter { $0.kind == .expiring }.count }
        func all() async throws -> [Int] { try await [kinds(made.principal("A")), kinds(made.principal("B")), kinds(made.principal("C")), kinds(test.rights.moderator)] }
        func until(_ secondsBefore: Double) async throws {
            let (end, now) = try await state(test, made.id)
            try await test.later((end - now).seconds - secondsBefore)
            for _ in 0..<3 { await test.recorder.tidy() }
            await test.recorder.deliver()
        }
        try await until(7 * 86_400 + 60)
        #expect(try await all() == [0, 0, 0, 0])
        try await until(7 * 86_400 - 60)
        #expect(try await all() == [1, 1, 0, 1])
        try await until(86_400 + 60)
        #expect(try await all() == [1, 1, 0, 1])
        try await until(86_400 - 60)
        #expect(try await all() == [2, 2, 0, 2])
        #expect(try test.server?.messages().map(\.to) == [["a@example.net"], ["a@example.net"]])
        #expect(try await test.told(test.rights.moderator).allSatisfy { !$0.text.contains("herunterladen") })
        #expect(try await test.told(made.principal("A"), .en).allSatisfy { $0.text.contains("until then you can download it") })
        await test.recorder.shutDown()
    }

    @Test("a server that was off tells the nearest threshold only; a short life is not warned of; a release within the time is told to those who may download then")
    func thresholds() async throws {
        let test = try EvidenceCase()
        let made = try await test.rights.imported(["A": [.audio], "B": [.audio]])
        let short = try await test.rights.imported(["A": [.audio]])
        try await test.recorder.catalog.write { try $0.execute(sql: "UPDATE recording SET expires_at = started_at + 86400000000000 WHERE id = ?", arguments: [short.id.rawValue]) }
        await test.recorder.tidy()
        #expect(try await test.told(test.rights.moderator).isEmpty)
        let (end, now) = try await state(test, made.id)
        try await test.later((end - now).seconds - 3600)
        await test.recorder.tidy()
        #expect(try await test.told(test.rights.moderator).map(\.recording) == [made.id])
        #expect(try await test.told(made.principal("A")).isEmpty)
        _ = try await test.recorder.control(made.id, .release, as: test.rights.moderator)
        await test.recorder.tidy()
        #expect(try await [test.told(made.principal("A")).count, test.told(test.rights.moderator).count] == [1, 1])
        await test.recorder.shutDown()
    }

    @Test("Art. 18: what is restricted is not warned of; when it ends within the time it is")
    func restricted() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        let (end, now) = try await state(test, made.id)
        try await test.later((end - now).seconds - 86_400 * 6)
        _ = try await test.recorder.restrict(made.id, RestrictionRequest(reason: .objection, until: test.recorder.clock.now.seconds + 86_400), as: test.rights.moderator)
        await test.recorder.tidy()
        #expect(try await test.told(test.rights.moderator).isEmpty)
        try await test.later(86_400 + 1)
        await test.recorder.tidy()
        #expect(try await test.told(test.rights.moderator).count == 1)
        await test.recorder.shutDown()
    }

    @Test("Art. 5(1)(e): the report names what is past its date and what is left over, and is clean after the sweep; so do the figures")
    func report() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        let before = try test.report()
        #expect(before.isClean && before.endingNext.map(\.recording) == [made.id.rawValue] && before.kinds.first { $0.name == "recordings" }?.count == 1)
        func figure(_ name: String, _ labels: [String: String] = [:]) async -> Double? { await test.recorder.metrics().first { $0.name == "mitschnitt_\(name)" && $0.labels == labels }?.value }
        #expect(await figure("artefacts_past_date") == 0)
        try await test.later(90 * 86_400 + 3600)
        let late = try test.report()
        #expect(!late.isClean && late.leftovers.isEmpty)
        for name in ["recordings", "renditions", "tracks"] {
            let kind = try #require(late.kinds.first { $0.name == name })
            #expect(kind.pastDate == kind.count && kind.count > 0 && kind.oldestPastDate == before.endingNext[0].expiresAt, "\(name)")
        }
        #expect(try #require(await figure("artefacts_past_date")) > 5)
        #expect(abs(try #require(await figure("artefacts_past_date_oldest_seconds")) - 3600) < 600)
        // A restriction keeps it, and nothing is late but what goes without it.
        await test.recorder.keepRecords()
        try await test.recorder.catalog.write { [now = test.recorder.clock.now] in
            try $0.place(RestrictionRecord(recording: made.id.rawValue, reason: "objection", participant: nil, placedBy: "m", placedAt: now.nanoseconds, until: (now + .seconds(60)).nanoseconds))
        }
        #expect(try test.report().isClean && test.report().held == 1)
        #expect(await figure("artefacts_past_date") == 0)
        #expect(await figure("erasures_held") == 1)
        try await test.later(61)
        await test.recorder.tidy()
        #expect(try test.report().isClean)
        #expect(await [figure("artefacts_past_date"), figure("artefacts_past_date_oldest_seconds"), figure("erasures_pending"), figure("recordings", ["state": "erased"]), figure("erasures_held")] == [0, 0, 0, 1, 0])
        #expect(try #require(await figure("sweep_last_success_timestamp_seconds")) > late.at)
        #expect(try #require(await figure("sweep_duration_seconds")) >= 0)
        // Something that the sweep forgot.
        let folder = test.rights.data.appending(path: "recordings/\(made.id)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let orphan = RecordingID.random()
        try await test.recorder.keys.create(recording: orphan, tracks: [], now: test.recorder.clock.now)
        #expect(try test.report().leftovers == ["folder recordings/\(made.id)", "key recording:\(orphan)"])
        await test.recorder.shutDown()
    }

    @Test("no figure's label names a person, a meeting or a recording; a source of others that fails is told of, and leaves the rest as it is")
    func labels() async throws {
        let test = try EvidenceCase()
        let made = try await test.released()
        try await test.read(made, as: "B")
        test.recorder.metricRegistry.add("queue") { [MetricSample(name: "mitschnitt_queue", help: "h", kind: .counter, value: 3)] }
        test.recorder.metricRegistry.add("broken") { throw RecorderError(.storage, "x") }
        let samples = await test.recorder.metrics()
        #expect(samples.contains { $0.name == "mitschnitt_queue" && $0.value == 3 })
        #expect(samples.first { $0.name == "mitschnitt_metric_source_failed" }?.labels == ["source": "broken"])
        let ids = [made.id.rawValue, made.meeting.rawValue] + made.people.values.map(\.rawValue)
        #expect(samples.allSatisfy { sample in sample.labels.values.allSatisfy { value in !ids.contains(value) && value.utf8.count < 32 } })
        await test.recorder.shutDown()
    }

    @Test("Art. 5(1)(e): a name goes with the person's last proof, code and recording, a title with the last name, a proof with its time; not before, and the log verifies")
    func proofs() async throws {
        let test = try EvidenceCase { $0.retention.consentProofYears = 1 }
        let recorder = test.recorder
        let planned = try await recorder.createMeeting(MeetingRequest(title: "Anonyme Apfelesser"), as: test.rights.moderator).id
        _ = try await recorder.invite(InvitationRequest(name: "Annegret Apfelbaum"), to: planned, as: test.rights.moderator)
        let made = try await test.released()
        func left() async throws -> [Int] {
            await recorder.tidy()
            #expect(try test.report().isClean)
            return [try await test.number("SELECT COUNT(*) FROM identity"), try await test.number("SELECT COUNT(*) FROM consent_event"), try await test.number("SELECT COUNT(title) FROM meeting")]
        }
        let all = try await left()
        #expect(all[0] == 4 && all[1] == 3)
        await #expect(throws: DatabaseError.self) { try await recorder.catalog.write { try $0.execute(sql: "DELETE FROM consent_event") } }
        try await test.later(91 * 86_400)
        #expect(try await left() == all)
        // The recording is erased, its proof's time is not over.
        await #expect(throws: DatabaseError.self) { try await recorder.catalog.write { try $0.execute(sql: "DELETE FROM consent_event") } }
        // Whoever was invited and never answered: their code has run out.
        try await test.later(289 * 86_400)
        #expect(try await left() == [3, 3, all[2] - 1])
        try await test.later(76 * 86_400)
        #expect(try await left() == [3, 3, all[2] - 1])
        try await test.later(86_400)
        #expect(try !test.report().isClean)
        #expect(try await left() == [0, 0, 0])
        for word in ["Annegret", "Anonyme", "Person A"] { #expect(try !test.rights.folder.contains(Array(word.utf8)), "\(word)") }
        // No consent comes into a history that has ended.
        await #expect(throws: DatabaseError.self) {
            try await recorder.catalog.write { try $0.execute(sql: "INSERT INTO consent_event VALUES (?, 1, ?, '{}', ?)", arguments: [made.id.rawValue, made.people["A"]!.rawValue, String(repeating: "0", count: 64)]) }
        }
        await recorder.shutDown()
        #expect(try test.verified().erased >= 3)
    }

    @Test("Art. 5(1)(c): addresses of devices, the SDP's and those allowed to send, are gone seven days after the end, from catalog, key store and files; before it and while it runs they are there")
    func technical() async throws {
        let test = try EvidenceCase()
        let recorder = test.recorder
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: test.rights.moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: test.rights.moderator).token)
        let key = Data((0..<30).map { UInt8($0) }).base64EncodedString()
        let sdp = "v=0\r\no=anna-kern 1 1 IN IP4 203.0.113.77\r\ns=-\r\ne=anna.kern@example.net\r\np=+49 170 5550199\r\nc=IN IP4 203.0.113.77\r\nt=0 0\r\nm=audio 5004 RTP/SAVP 111\r\n"
            + "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:\(key)\r\na=ssrc:77 cname:anna-laptop@203.0.113.77\r\na=candidate:1 1 UDP 1 203.0.113.77 5004 typ host\r\n"
        let id = try await recorder.createRecording(RecordingRequest(sources: ["203.0.113.78"], streams: [StreamRequest(participants: [anna.participant!], kind: .audio, sdp: sdp)]), in: meeting, as: test.rights.moderator).id
        let secrets = ["203.0.113.77", "203.0.113.78", "anna-kern", "anna-laptop", "anna.kern", "5550199"].map { Array($0.utf8) }
        func found() async throws -> Int {
            try await recorder.catalog.checkpoint()
            return try secrets.count { try test.rights.folder.contains($0) }
        }
        try await test.later(20 * 86_400)
        await recorder.tidy()
        #expect(try await found() == secrets.count)
        let track = try #require(TrackID(rawValue: try await test.rights.track(id, 0)))
        #expect(try await recorder.keys.secret(of: track) != nil)
        _ = try await recorder.control(id, .stop, as: test.rights.moderator)
        try await test.later(7 * 86_400 - 60)
        await recorder.tidy()
        #expect(try await found() == secrets.count)
        try await test.later(120)
        #expect(try !test.report().isClean)
        await recorder.tidy()
        #expect(try await found() == 0)
        #expect(try await recorder.keys.secret(of: track) == nil)
        #expect(try test.report().isClean)
        // What says how it is coded stays, and is read as before.
        #expect(try await recorder.catalog.read { try $0.streams(of: id.rawValue)[0].stream.sdp }
            == "v=0\r\nm=audio 5004 RTP/SAVP 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:(sealed)\r\n")
        #expect(try await recorder.recording(id, as: test.rights.moderator).streams.map(\.codec).count == 1)
        _ = try await recorder.keys.key(KeyStore.track(track))
        await recorder.shutDown()
    }

    @Test("Art. 5(1)(e): access codes that ran out are gone seven days later, and with its last code a moderator's address")
    func codes() async throws {
        let test = try EvidenceCase()
        let issued = try await test.recorder.issueToken(TokenRequest(role: .moderator, days: 1), as: test.rights.operatorPrincipal)
        let moderator = try await test.recorder.authenticate(token: issued.token)
        _ = try await test.recorder.setContact(ContactRequest(email: "m@example.net"), as: moderator)
        for (seconds, count) in [(8 * 86_400.0 - 60, 1), (120, 0)] {
            try await test.later(seconds)
            await test.recorder.tidy()
            #expect(try await [test.number("SELECT COUNT(*) FROM access_token"), test.number("SELECT COUNT(*) FROM contact")] == [count, count])
        }
        await test.recorder.shutDown()
    }

    @Test("Art. 12, 13: each message is whole in both languages, names no person, and changes with its facts", arguments: NotificationView.Kind.allCases)
    func texts(kind: NotificationView.Kind) {
        var facts = NotificationText.Facts(startedAt: WallTime(seconds: 1_790_000_000), expiresAt: WallTime(seconds: 1_797_000_000))
        facts.zone = TimeZone(identifier: "Europe/Berlin")!
        let (german, english) = (NotificationText(kind, .de, facts), NotificationText(kind, .en, facts))
        #expect(german.text.contains("21.9.2026") && english.text.contains("21 September 2026"))
        for word in ["the ", "your ", "you "] { #expect(!german.text.contains(word)) }
        for word in ["Sie ", "die ", "Ihre"] { #expect(!english.text.contains(word)) }
        if kind == .expiring { #expect(german.text.contains("am 11.12.2026 um 15:40 Uhr") && english.text.contains("on 11 December 2026 at 15:40")) }
        facts.page = "https://mitschnitt.example.org/"
        facts.authority = "LfDI"
        #expect(NotificationText(kind, .de, facts).text.contains("Ihre Seite: https://mitschnitt.example.org/\n") && NotificationText(kind, .en, facts).text.contains("(Art. 77 GDPR): LfDI"))
    }
}
