import Consent
import Foundation
import GRDB
import Media
import Recorder
import TestSupport
import Testing

extension Articles {
    /// Each on a server of its own, whose clock goes years ahead.
    @Suite("Art. 5, 17, 19: what ends after the recording, and who is told")
    struct Ends {
        @Test("Art. 5(1)(e), 17: proof of consent and name are there for three years after the end; then they are in no file and no backup taken then, and the audit log verifies")
        func proofs() async throws {
            let server = try await Server(environment: World.environment)
            defer { server.kill() }
            let (moderator, opened) = (try await server.issue(.moderator), Opened(data: server.data))
            let conference = try await Conference(server, moderator, days: 1, routes: [.init("A", .audio), .init("B", .audio)])
            let address = "annegret.apfelbaum@example.net"
            let _: ContactView = try await conference["A"].client.put("/v1/me/contact", ContactRequest(email: address))
            try await conference.give("A", [.audio])
            try await conference.decide("B", .refused)
            // Another that goes on: nothing of its proof ends with the first.
            let other = try await Conference(server, moderator, days: 365, routes: [.init("C", .audio)])
            try await other.give("C", [.audio])
            let events = try opened.catalog { try Row.fetchAll($0, sql: "SELECT event, hash FROM consent_event WHERE recording = ?", arguments: [conference.id.rawValue]).map { [$0["event"] as String, $0["hash"]] } }
            #expect(events.count == 2)
            // Not the whole event: a long row is in pieces.
            let searched = events.joined().map { Data($0.utf8.prefix(300)) } + [Conference.names["A"]!, Conference.names["B"]!, address].map { Data($0.utf8) }
            try await conference.stop()
            try await server.advance(86_401)
            try await eventually("it has ended") { try await moderator.status(.GET, "\(conference.path)/receipt") == 200 }
            let receipt: ReceiptView = try await moderator.get("\(conference.path)/receipt")
            let end = (receipt.objects.map(\.unlinkedAt).max() ?? 0) + 3 * 365.2425 * 86_400

            try await server.advance(to: end - 600)
            try await server.restart()
            try await eventually("the other has ended") { try opened.catalog { try String.fetchOne($0, sql: "SELECT state FROM recording WHERE id = ?", arguments: [other.id.rawValue]) } == "erased" }
            #expect(try count(opened) == [2, 1])
            for bytes in searched { #expect(try !Opened.holding(bytes, server.data).isEmpty) }
            #expect(try mitschnitt(["audit", "verify", server.data.path]).status == 0)

            try await server.advance(to: end + 60)
            try await eventually("the proof is gone") { try count(opened) == [0, 1] }
            try await eventually("it is in no file of the folder, database and write-ahead log included") { try searched.allSatisfy { try Opened.holding($0, server.data).isEmpty } }
            try expectEnded(server, searched)
            // No other start brings anything of it back, and a second sweep finds nothing to do.
            let entries = try opened.catalog { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM audit_event WHERE action = 'audit.erased' AND detail = 'consent proof, 3 years'") }
            #expect(entries == 1)
            #expect(try opened.catalog { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM meeting WHERE title IS NULL") } == 1)
            try await server.restart()
            try await server.advance(3_601)
            try await eventually("it has swept") { try opened.catalog { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM identity") } == 1 }
            #expect(try count(opened) == [0, 1])
            #expect(try opened.catalog { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM audit_event WHERE action = 'audit.erased' AND detail = 'consent proof, 3 years'") } == 1)
        }

        /// Consent events of the two recordings: of the one that ends first, and of the other.
        private func count(_ opened: Opened) throws -> [Int] {
            try opened.catalog { db in
                let all = try Row.fetchAll(db, sql: "SELECT recording.id, COUNT(sequence) AS count FROM recording LEFT JOIN consent_event ON recording = id GROUP BY id ORDER BY started_at")
                return all.map { $0["count"] }
            }
        }

        private func expectEnded(_ server: Server, _ searched: [Data]) throws {
            let verified = try mitschnitt(["audit", "verify", server.data.path])
            #expect(verified.status == 0, "\(verified.output)")
            let backup = server.folder.url.deletingLastPathComponent().appending(path: "mitschnitt-test-backup-\(UUID().uuidString)")
            Remains.note(folder: backup.path)
            #expect(try mitschnitt(["backup", "--data", server.data.path, "--keys", backup.path + "/keys", backup.path + "/files"]).status == 0)
            for folder in [backup, server.folder.url] { for bytes in searched { #expect(try Opened.holding(bytes, folder).isEmpty) } }
            // An export of the log holds the other's consent and not these.
            #expect(try mitschnitt(["audit", "export", "--data", server.data.path, server.folder.path + "/log"]).status == 0)
            for bytes in searched { #expect(try Data(contentsOf: server.folder.url.appending(path: "log")).range(of: bytes) == nil) }
            #expect(try mitschnitt(["audit", "verify", server.folder.path + "/log"]).status == 0)
        }

        @Test("Art. 5(1)(c): where a device is, from its SDP and the list of senders, is there for seven days after the end and in no file from then on")
        func addresses() async throws {
            let server = try await Server(environment: World.environment)
            defer { server.kill() }
            let (moderator, opened) = (try await server.issue(.moderator), Opened(data: server.data))
            let conference = try await Conference(server, moderator, routes: [.init("A", .audio)])
            let sdp = "v=0\r\no=anna 1 1 IN IP4 203.0.113.77\r\ns=-\r\nc=IN IP4 203.0.113.77\r\nt=0 0\r\nm=audio 5004 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:anna-laptop@203.0.113.79\r\n"
            let request = RecordingRequest(pipeline: "sound", sources: ["203.0.113.78"], streams: [StreamRequest(participants: [conference["A"].id], kind: .audio, sdp: sdp)])
            let view: RecordingView = try await moderator.post("/v1/meetings/\(conference.meeting)/recordings", request)
            let addresses = ["203.0.113.77", "203.0.113.78", "203.0.113.79"].map { Data($0.utf8) }
            func found() throws -> Int { try addresses.count { try !Opened.holding($0, server.folder.url).isEmpty } }
            // While it runs they are needed: a restarted server listens as before.
            try await server.advance(8 * 86_400)
            try await server.restart()
            #expect(try found() == 3)
            let _: RecordingView = try await moderator.post("/v1/recordings/\(view.id)/stop")
            try await server.advance(7 * 86_400 - 600)
            try await server.restart()
            #expect(try found() == 3)
            try await server.advance(601)
            try await eventually("they are gone") { try found() == 0 }
            // The recording itself goes on.
            let after: RecordingView = try await moderator.get("/v1/recordings/\(view.id)")
            #expect(after.state == .ready && after.streams.count == 1)
            #expect(try opened.keys()["recording:\(view.id)"] != nil)
        }

        @Test("Art. 19: each who had downloaded is told once by mail, whatever was killed meanwhile; who withdrew and who read nothing are not")
        func told() async throws {
            let mail = try MailServer()
            defer { mail.stop() }
            let server = try await Server(environment: World.environment.merging(["MITSCHNITT_SMTP_URL": mail.url, "MITSCHNITT_SMTP_FROM": "aufzeichnung@example.org"]) { $1 })
            defer { server.kill() }
            let (moderator, opened) = (try await server.issue(.moderator), Opened(data: server.data))
            let conference = try await Conference(server, moderator, routes: ["A", "B", "C"].map { .init($0, .audio) })
            for (letter, language) in [("A", Language.de), ("B", .de), ("C", .en)] {
                let _: ContactView = try await conference[letter].client.put("/v1/me/contact", ContactRequest(email: "\(letter.lowercased())@example.net", language: language))
                try await conference.give(letter, [.audio])
            }
            try await Conference.talk([conference])
            try await conference.stop()
            try await conference.ready()
            try await conference.release()
            let mix = try await conference.rendition("mix", for: "B")
            for letter in ["A", "B", "B"] { _ = try await conference.download(mix, by: letter) }
            try await conference.decide("A", .withdrawn, erase: true)
            server.kill()
            try await server.start()
            try await eventually("B was told") { try mail.messages().contains { $0.to == ["b@example.net"] } }
            server.kill()
            try await server.start()
            // The same person withdraws again, and a day goes by.
            try await conference.ready()
            try await conference.decide("A", .withdrawn, erase: true)
            try await server.advance(86_400)
            try await eventually("nothing waits to be told") {
                try opened.catalog { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM notification WHERE sent_at IS NULL AND is_moderators = 0") } == 0
            }
            let messages = try mail.messages()
            // A kill between the mail server's answer and our entry sends the same message again, with the same id.
            #expect(Set(messages.map { $0.to + [$0.id] }).count == 1 && messages.allSatisfy { $0.to == ["b@example.net"] && $0.from == "aufzeichnung@example.org" }, "\(messages.map(\.to))")
            for message in messages {
                #expect(message.text.contains(World.authority))
                for word in Array(Conference.names.values) + [Conference.title, conference["A"].id.rawValue, conference.id.rawValue] { #expect(!message.text.contains(word) && !message.subject.contains(word)) }
            }
            let log = try String(contentsOf: server.log, encoding: .utf8)
            for word in ["a@example.net", "b@example.net", "c@example.net"] { #expect(!log.contains(word)) }
        }
    }
}
