import Consent
import Foundation
import GRDB
import Media
import Recorder
import TestSupport
import Testing
import Truth

/// CONSENT.md section 6, row by row, on the server as it is shipped: each test names the article that it proves.
///
/// One after the other: they share a server, and some move its clock or kill it.
@Suite("GDPR", .serialized)
struct Articles {}

extension Articles {
    @Suite("Art. 5: principles")
    struct Principles {
        let world: World
        init() async throws { world = try await World.shared }

        @Test("Art. 5(1)(b): who allowed the minutes only is in no version that is shared, may not have one, and nothing can be made to be published")
        func purpose() async throws {
            let conference = world.minutes
            let (anna, berta) = (conference["A"], conference["B"])
            let mix = try await conference.rendition("mix", for: "B")
            #expect(mix.contains == [berta.id])
            let levels = try await heard(conference.download(mix, by: "B"))
            #expect(levels["B"]! > 0.05 && levels["A"]! < levels["B"]! / 100, "\(levels)")
            // A is no recipient that B agreed to: not with their own token, nor by a grant, nor by one for another purpose.
            let content = "/v1/renditions/\(mix.id)/content"
            #expect(try await anna.client.status(.GET, content) == 403)
            #expect(try await anna.client.status(.POST, "\(conference.path)/grants", GrantRequest()) == 403)
            let grant: GrantView = try await anna.client.post("\(conference.path)/grants", GrantRequest(purpose: .minutes))
            #expect(try await Client(conference.server, token: grant.token).status(.GET, content) == 403)
            let other: GrantView = try await berta.client.post("\(conference.path)/grants", GrantRequest(purpose: .minutes))
            #expect(try await Client(conference.server, token: other.token).status(.GET, content) == 403)
            // Publication is never asked with a recording, and no recording can be made for it.
            let notice = try await conference.notice("A")
            #expect(try await anna.client.status(.POST, "\(conference.path)/consent", ConsentRequest(decision: .given, purposes: [.publication], notice: notice.hash)) == 400)
            let stream = StreamRequest(participants: [anna.id], kind: .audio, sdp: try Speech.shared.get().sdp(.init("A", .audio)))
            let jobs = { try world.opened.catalog { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM job") } }
            let before = try jobs()
            let refused = try await world.moderator.raw(.POST, "/v1/meetings/\(conference.meeting)/recordings", RecordingRequest(pipeline: "publish", streams: [stream]))
            #expect(refused.status == 400 && refused.text.contains("publication"), "\(refused.text)")
            #expect(try jobs() == before)
        }

        @Test("Art. 5(1)(c): consent to sound alone keeps not one byte of the picture, and to nothing nothing at all; what is kept is byte for byte what was sent")
        func minimisation() async throws {
            let (conference, speech) = (world.shared, try Speech.shared.get())
            for (route, track) in zip(conference.routes, try world.opened.tracks(of: conference.id)) {
                let sent = speech.of(route).map(\.datagram)
                let isAllowed = route != Speech.Route("C", .video)
                #expect(try await conference.counts(route) == (isAllowed ? .init(kept: sent.count) : .init(dropped: sent.count)), "\(route)")
                // Behind all keys: the very packets, or none; and then no segment either.
                #expect(try world.opened.packets(track) == (isAllowed ? sent : []), "\(route)")
                let files = FileManager.default.subpaths(atPath: world.opened.logFolder(track).path) ?? []
                #expect(files.contains { $0.hasSuffix(".seg") } == isAllowed, "\(route): \(files)")
                #expect(FileManager.default.fileExists(atPath: world.opened.artifact(conference.id, track.id.rawValue).path) == isAllowed, "\(route)")
            }
            let composite = try await conference.rendition("composite", for: "A")
            #expect(Set(composite.contains) == Set(conference.people.values.map(\.id)))
            #expect(try await seen(conference.download(composite, by: "A"), width: Pipelines.width, height: Pipelines.height) == ["A", "B"])
        }

        @Test("Art. 5(1)(c): ffprobe finds no tag in any version, and neither names nor the topic nor dates are in their bytes or file names")
        func tags() async throws {
            let conference = world.shared
            for rendition in try await conference.renditions("A") {
                let answer = try await conference["A"].client.raw(.GET, "/v1/renditions/\(rendition.id)/content?download=1")
                let disposition = answer.header("Content-Disposition")
                #expect(disposition.wholeMatch(of: /attachment; filename="recording-\d{8}-[a-z]+\.[a-z0-9]+"/) != nil, "\(disposition)")
                for word in Array(Conference.names.values) + [Conference.title, conference.id.rawValue] + conference.people.values.map(\.id.rawValue) {
                    #expect(answer.body.range(of: Data(word.utf8)) == nil && !disposition.contains(word), "\(rendition.kind): \(word)")
                }
                guard ["mp4", "ogg", "jpeg"].contains(rendition.container) else { continue }
                let file = conference.server.folder.url.appending(path: "tmp/tags.\(rendition.container)")
                try answer.body.write(to: file)
                let probe = try run("ffprobe", ["-v", "error", "-show_entries", "format_tags:stream_tags:chapter_tags:program_tags", "-of", "default=nw=1", file.path])
                #expect(probe.status == 0)
                // What a container cannot be without, and what the muxer and its handlers always write.
                let bare = ["compatible_brands", "major_brand", "minor_version", "handler_name", "vendor_id", "language", "encoder"]
                let tags = probe.output.split(separator: "\n").map { $0.replacing("TAG:", with: "") }
                #expect(tags.allSatisfy { tag in bare.contains { tag.hasPrefix($0 + "=") } }, "\(rendition.kind): \(tags)")
            }
        }

        @Test("Art. 5(1)(e): readable a second before its date; at its date 410, before any sweep; then no key and no file, and the receipt says when and verifies")
        func expiry() async throws {
            let conference = world.expiry
            let view: RecordingView = try await conference.moderator.get(conference.path)
            let mix = try await conference.rendition("mix", for: "A")
            #expect(view.expiresAt == view.startedAt + 86_400 && mix.expiresAt <= view.expiresAt)
            let opened = world.opened
            let doomed = try opened.keys().filter { $0.key == "recording:\(conference.id)" || $0.value.parent == "recording:\(conference.id)" }
            #expect(doomed.count == 1 + conference.routes.count + 1)
            let content = "/v1/renditions/\(mix.id)/content"
            try await conference.server.advance(to: view.expiresAt - 1)
            let status = try await conference["A"].client.status(.GET, content)
            // Where this machine took longer than the second the question was not asked in time.
            if try await conference.server.now() < view.expiresAt { #expect(status == 200) }
            try await conference.server.advance(to: view.expiresAt)
            for path in [content, conference.path, "\(conference.path)/renditions", "\(conference.path)/consent"] { #expect(try await conference["A"].client.status(.GET, path) == 410, "\(path)") }
            #expect(try await conference.moderator.status(.GET, "\(conference.path)/timeline") == 410)
            try await eventually("its files are gone") { !FileManager.default.fileExists(atPath: opened.folder(conference.id).path) }
            try await eventually("there is a receipt") { try await conference.moderator.status(.GET, "\(conference.path)/receipt") == 200 }
            let keys = try opened.keys()
            for (id, key) in doomed {
                #expect(keys[id] == nil)
                #expect(try Opened.holding(key.wrapped, conference.server.folder.url).isEmpty, "\(id)")
            }
            let receipt: ReceiptView = try await conference["A"].client.get("\(conference.path)/receipt")
            #expect(receipt.trigger == "expiry" && receipt.supervisoryAuthority == World.authority)
            #expect(Set(receipt.objects.map(\.id)) == Set(doomed.keys))
            #expect(receipt.objects.allSatisfy { view.expiresAt <= $0.keyDestroyedAt && $0.keyDestroyedAt <= $0.unlinkedAt && $0.unlinkedAt < view.expiresAt + 3_600 })
            try await Receipts.verify(receipt, conference)
        }

        @Test("Art. 5(1)(e): killed at any moment around their date, recordings still end: no key, no file, a receipt each")
        func crashes() async throws {
            let server = world.server
            var ending: [Conference] = []
            for _ in 0..<3 {
                let conference = try await Conference(server, world.moderator, days: 1, routes: [.init("A", .audio)])
                try await conference.give("A", [.audio])
                #expect(try await conference.burst(.init("A", .audio)) == .init(kept: 30))
                ending.append(conference)
            }
            var random = Seeded(UInt64(Date().timeIntervalSince1970))
            try await server.advance(86_400)
            for _ in 0..<5 {
                try await Task.sleep(for: .milliseconds(Int.random(in: 0...150, using: &random)))
                server.kill()
                try await server.start()
            }
            for conference in ending {
                try await eventually("it has a receipt") { try await conference.moderator.status(.GET, "\(conference.path)/receipt") == 200 }
                #expect(!FileManager.default.fileExists(atPath: world.opened.folder(conference.id).path))
                #expect(try world.opened.keys().keys.allSatisfy { !$0.contains(conference.id.rawValue) })
                let receipt: ReceiptView = try await conference.moderator.get("\(conference.path)/receipt")
                #expect(receipt.objects.count == 2 && receipt.objects.allSatisfy { $0.unlinkedAt > 0 })
                try await Receipts.verify(receipt, conference)
            }
        }

        @Test("Art. 5(2), 7(1): a verifier elsewhere, in a process of its own, rebuilds each decision with the exact wording that was shown; one flipped bit fails")
        func evidence() async throws {
            let conference = world.shared
            let folder = conference.server.folder.url.appending(path: "evidence")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            #expect(try mitschnitt(["audit", "export", "--data", conference.server.data.path, folder.path + "/log"]).status == 0)
            let key = try mitschnitt(["audit", "show", "--public-key", conference.server.data.path]).output.trimmingCharacters(in: .whitespacesAndNewlines)
            // From here on nothing but the file and the key.
            func offline(_ arguments: [String]) throws -> (status: Int32, output: String) { try mitschnitt(arguments, in: folder, environment: [:]) }
            let right = try offline(["audit", "verify", "--key", key, "log"])
            #expect(right.status == 0, "\(right.output)")
            for (letter, language) in [("A", Language.de), ("B", .en), ("C", .de)] {
                let shown = try await conference.notice(letter, language)
                let own = try offline(["audit", "show", "--consents", "--object", conference[letter].id.rawValue, "log"])
                #expect(own.status == 0 && own.output.contains("recording \(conference.id)") && own.output.contains("\(conference[letter].id) given"), "\(own.output)")
                let wording = own.output.split(separator: "\n", omittingEmptySubsequences: false).filter { $0.hasPrefix("  | ") }.map { $0.dropFirst(4) }.joined(separator: "\n")
                #expect(wording == shown.text && wording.contains(World.controller))
                #expect(own.output.contains("(\(language.rawValue)), SHA-256 \(shown.hash)"))
                // A program that is not ours hashes it, too.
                try wording.write(to: folder.appending(path: "wording"), atomically: true, encoding: .utf8)
                #expect(try run("sha256sum", ["wording"], in: folder).output.hasPrefix(shown.hash))
            }
            let bytes = try Data(contentsOf: folder.appending(path: "log"))
            #expect(Conference.names.values.allSatisfy { bytes.range(of: Data($0.utf8)) == nil } && bytes.range(of: Data(Conference.title.utf8)) == nil)
            var random = Seeded(UInt64(bytes.count))
            for _ in 0..<12 {
                var flipped = bytes
                let (place, bit) = (Int.random(in: 0..<bytes.count, using: &random), UInt8.random(in: 0..<8, using: &random))
                flipped[place] ^= 1 << bit
                try flipped.write(to: folder.appending(path: "flipped"))
                #expect(try offline(["audit", "verify", "--key", key, "flipped"]).status != 0, "bit \(bit) of byte \(place)")
            }
        }
    }
}

/// A receipt as somebody keeps it who asks neither the server nor its folder.
enum Receipts {
    static func verify(_ receipt: ReceiptView, _ conference: Conference) async throws {
        let folder = conference.server.folder.url.appending(path: "receipts")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let key = try mitschnitt(["audit", "show", "--public-key", conference.server.data.path]).output.trimmingCharacters(in: .whitespacesAndNewlines)
        let file = folder.appending(path: "receipt.json")
        try await conference.moderator.raw(.GET, "\(conference.path)/receipt").body.write(to: file)
        let right = try mitschnitt(["audit", "verify", "--key", key, "receipt.json"], in: folder, environment: [:])
        #expect(right.status == 0, "\(right.output)")
        // It says something else: another time of unlinking.
        let text = try String(contentsOf: file, encoding: .utf8)
        let other = try #require(text.firstRange(of: /"unlinked_at":\d/))
        let changed = text.replacingCharacters(in: other, with: "\"unlinked_at\":" + (text[other].hasSuffix("1") ? "2" : "1"))
        try changed.write(to: file, atomically: true, encoding: .utf8)
        #expect(try mitschnitt(["audit", "verify", "--key", key, "receipt.json"], in: folder, environment: [:]).status == 1)
    }
}
