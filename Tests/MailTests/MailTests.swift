import Foundation
@testable import Mail
import TestSupport
import Testing

@Suite("Mail")
struct MailTests {
    private let from = MailAddress(rawValue: "aufzeichnung@example.org")!

    @Test("an address is one that needs no quoting; nothing else gets into a header or an envelope")
    func addresses() {
        for good in ["a@b", "anna.beispiel+x@mail.example.org", "!#$%&'*+-/=?^_`{|}~@x-1.de"] { #expect(MailAddress(rawValue: good)?.rawValue == good) }
        let bad = ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\r\nBcc: x@y", "a\n@b", "<a@b>", "a@b>", "\"a\"@b", "a@[127.0.0.1]", "ä@b", "a@ö.de", ".a@b", "a.@b", "a..b@c", "a@b..c", "a@b.", "a\u{0}@b",
                   "a,b@c", String(repeating: "a", count: 65) + "@b", "a@" + String(repeating: "b", count: 253)]
        for text in bad { #expect(MailAddress(rawValue: text) == nil, "\(text)") }
    }

    @Test("a message says the same in the same bytes, and is read back as it was by another program")
    func message() throws {
        let text = "Grüße,\n\n.\nFrom here: " + String(repeating: "ä", count: 2_000) + "\n"
        let message = MailMessage(from: from, to: MailAddress(rawValue: "anna@example.net")!, subject: "Bitte löschen Sie Ihre Kopie einer Aufzeichnung, die nicht ganz kurz heißt", text: text, id: "0a1b", date: 1_790_000_000)
        #expect(message.bytes == message.bytes && message.bytes.allSatisfy { $0 < 128 })
        #expect(message.bytes.split(separator: 10).allSatisfy { $0.count <= 78 && $0.last == 13 })
        let folder = try TemporaryFolder()
        try Data(message.bytes).write(to: folder.url.appending(path: "m"))
        let read = try Python.run("""
            import email, email.policy, json, sys
            m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
            print(json.dumps([m['subject'], m['from'], m['to'], m['message-id'], m['date'], m['auto-submitted'], m.get_content(), [str(d) for d in m.defects]]))
            """, [folder.path + "/m"])
        let values = try #require(try JSONSerialization.jsonObject(with: Data(read.utf8)) as? [Any])
        #expect(values[0] as? String == message.subject && values[3] as? String == "<0a1b@example.org>" && values[5] as? String == "auto-generated")
        #expect([values[1], values[2]] as? [String] == ["aufzeichnung@example.org", "anna@example.net"])
        #expect(values[4] as? String == "Mon, 21 Sep 2026 14:13:20 +0000")
        #expect((values[6] as? String)?.replacing("\r\n", with: "\n") == text && values[7] as? [String] == [])
    }

    @Test("a relay is smtp or smtps with a host; credentials in its URL are refused")
    func urls() {
        for good in ["smtp://localhost", "smtps://mail.example.org:465", "smtp://127.0.0.1:2525/"] { #expect(SMTPRelay(url: good) != nil) }
        for bad in ["", "localhost", "http://x", "smtp://", "smtp://anna:secret@x", "smtp://anna@x", "smtp://x/path", "smtp://x?y", "file:///etc/passwd"] { #expect(SMTPRelay(url: bad) == nil, "\(bad)") }
        #expect(SMTPRelay(url: "smtp://mail.example.org")?.needsTLS == true && SMTPRelay(url: "smtp://localhost")?.needsTLS == false)
    }

    @Test("a real server takes the message as it is; a mailbox it does not know is final, a busy one and no server at all are not")
    func server() throws {
        let server = try MailServer()
        defer { server.stop() }
        func message(_ to: String) -> MailMessage { MailMessage(from: from, to: MailAddress(rawValue: to)!, subject: "Übung", text: "eins\n.\nzwei\n", id: "x1", date: 0) }
        let relay = try #require(SMTPRelay(url: server.url))
        try relay.send(message("anna@example.net"))
        let taken = try server.messages()
        #expect(taken.map(\.to) == [["anna@example.net"]] && taken.map(\.from) == ["aufzeichnung@example.org"] && taken.map(\.id) == ["<x1@example.org>"])
        #expect(taken.first?.text.replacing("\r\n", with: "\n") == "eins\n.\nzwei\n" && taken.first?.subject == "Übung")
        func refusal(_ relay: SMTPRelay, _ to: String) -> SMTPRelay.Refusal? {
            do throws(SMTPRelay.Refusal) { try relay.send(message(to)) } catch { return error }
            return nil
        }
        let (unknown, busy) = (refusal(relay, "unknown@example.net"), refusal(relay, "busy@example.net"))
        #expect(unknown?.isFinal == true && unknown?.reply == 550 && busy?.isFinal == false && busy?.reply == 451)
        #expect(!"\(unknown!)".contains("@") && !"\(busy!)".contains("@"))
        server.stop()
        #expect(refusal(relay, "anna@example.net").map { [$0.reply, $0.isFinal ? 1 : 0] } == [0, 0])
    }

    @Test("TLS is demanded: a server without it and one with a certificate that nobody vouches for get nothing; with the right one and credentials it goes through")
    func tls() throws {
        let (plain, secured) = (try MailServer(), try MailServer(isSecured: true))
        defer { [plain, secured].forEach { $0.stop() } }
        let message = MailMessage(from: from, to: MailAddress(rawValue: "anna@example.net")!, subject: "S", text: "T\n", id: "x2", date: 0)
        let certificates = secured.certificate
        #expect(throws: SMTPRelay.Refusal.self) { try SMTPRelay(url: plain.url, certificates: certificates)!.send(message) }
        #expect(throws: SMTPRelay.Refusal.self) { try SMTPRelay(url: secured.url, user: "u", password: "p", certificates: "/etc/ssl/certs/ca-certificates.crt")!.send(message) }
        let wrong = SMTPRelay(url: secured.url, user: "u", password: "wrong", certificates: certificates)!
        do throws(SMTPRelay.Refusal) {
            try wrong.send(message)
            Issue.record("a wrong password was taken")
        } catch { #expect(!error.isFinal) }
        #expect(try plain.messages().isEmpty && secured.messages().isEmpty)
        try SMTPRelay(url: secured.url, user: "u", password: "p", certificates: certificates)!.send(message)
        #expect(try secured.messages().map(\.to) == [["anna@example.net"]])
    }
}
