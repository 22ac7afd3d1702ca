import Consent
import Foundation
import GRDB
import Media
import Recorder
import SealedFile
import TestSupport
import Testing
import Truth

extension Articles {
    @Suite("Art. 15 to 20: rights of the person")
    struct Rights {
        let world: World
        init() async throws { world = try await World.shared }

        /// The person's export, unpacked by the system's tar.
        private func export(_ conference: Conference, _ letter: String) async throws -> (folder: URL, data: [String: Any]) {
            let answer = try await conference[letter].client.raw(.GET, "/v1/me/export")
            #expect(answer.status == 200 && answer.header("Content-Type") == "application/x-tar")
            let folder = conference.server.folder.url.appending(path: "export-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try answer.body.write(to: folder.appending(path: "x.tar"))
            #expect(try run("tar", ["-xf", "x.tar"], in: folder).status == 0)
            return (folder, try #require(JSONSerialization.jsonObject(with: Data(contentsOf: folder.appending(path: "data.json"))) as? [String: Any]))
        }

        @Test("Art. 15, 20: a person gets their own consents with their wording, who downloaded, and their own tracks in open formats; nobody else's voice, picture or name")
        func export() async throws {
            let conference = world.shared
            let mix = try await conference.rendition("mix", for: "B")
            _ = try await conference.download(mix, by: "B")
            let (folder, data) = try await export(conference, "A")
            let consents = try #require(data["consents"] as? [[String: Any]])
            #expect(consents.compactMap { ($0["event"] as? [String: Any])?["kind"] as? String } == ["given"])
            let notices = try #require(data["notices"] as? [[String: Any]])
            #expect(try await notices.map { $0["text"] as? String } == [conference.notice("A").text])
            let recordings = try #require(data["recordings"] as? [[String: Any]])
            #expect(recordings.map { $0["recording"] as? String } == [conference.id.rawValue])
            let read = (recordings.first?["renditions"] as? [[String: Any]] ?? []).filter { $0["rendition"] as? String == mix.id.rawValue }.flatMap { $0["downloads"] as? [[String: Any]] ?? [] }
            #expect(read.contains { $0["by"] as? String == conference["B"].id.rawValue && $0["whole"] as? Bool == true })
            let tracks = (recordings.first?["tracks"] as? [[String: Any]] ?? []).compactMap { $0["file"] as? String }
            #expect(tracks.map { $0.hasSuffix(".mka") ? "audio" : "video" } == ["audio", "video"])
            // Open formats, by a program that is not ours.
            let codecs = try tracks.map { try run("ffprobe", ["-v", "error", "-show_entries", "format=format_name:stream=codec_name", "-of", "csv=p=0", $0], in: folder).output.split(separator: "\n").map(String.init) }
            #expect(codecs == [["opus", "\"matroska,webm\""], ["vp8", "\"matroska,webm\""]] || codecs == [["opus", "matroska,webm"], ["vp8", "matroska,webm"]], "\(codecs)")
            // A's tone and no other's; A's picture and no other's.
            let levels = try heard(folder.appending(path: tracks[0]))
            #expect(levels["A"]! > 0.02 && levels["B"]! < levels["A"]! / 100 && levels["C"]! < levels["A"]! / 100, "\(levels)")
            let size = try run("ffprobe", ["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0:s=x", tracks[1]], in: folder).output
                .trimmingCharacters(in: .whitespacesAndNewlines).split(separator: "x").compactMap { Int($0) }
            #expect(try seen(folder.appending(path: tracks[1]), width: size[0], height: size[1]) == ["A"])
            let everything = try Opened.files(folder)
            for word in [conference["B"].name, conference["C"].name, conference["C"].id.rawValue] { #expect(everything.allSatisfy { $0.value.range(of: Data(word.utf8)) == nil }, "\(word)") }
            #expect(everything["data.json"]?.range(of: Data(conference["A"].name.utf8)) != nil)
        }

        @Test("Art. 15: every table and file that names the person is one whose content is in the export")
        func everyStore() async throws {
            let conference = world.shared
            let (id, data) = (conference["A"].id.rawValue, try await export(conference, "A").data)
            let naming = try world.opened.catalog { db in
                try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").filter { table in
                    let columns = try Row.fetchAll(db, sql: "PRAGMA table_info('\(table)')").map { $0["name"] as String }
                    return try columns.contains { try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM \"\(table)\" WHERE CAST(\"\($0)\" AS TEXT) LIKE ?)", arguments: ["%\(id)%"]) ?? false }
                }
            }
            // Where each table's rows are in `data.json`; a table that is not here has to be exported first.
            let sections = ["participant": "person", "identity": "person", "access_token": "accesses", "consent_event": "consents", "stream_participant": "recordings",
                            "rendition_member": "recordings", "download": "recordings", "audit_event": "audit", "restriction": "recordings"]
            for table in naming {
                let section = try #require(sections[table], "the table \(table) names a person and is in no export")
                #expect((data[section] as? [Any])?.isEmpty == false || data[section] is [String: Any], "\(table): \(section)")
            }
            #expect(Set(naming).isSuperset(of: ["participant", "access_token", "consent_event", "stream_participant", "rendition_member", "audit_event"]), "\(naming)")
            let rows = try world.opened.catalog { db in
                (consents: try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM consent_event WHERE participant = ?", arguments: [id]),
                 tokens: try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM access_token WHERE participant = ?", arguments: [id]))
            }
            #expect((data["consents"] as? [Any])?.count == rows.consents && (data["accesses"] as? [Any])?.count == rows.tokens)
            // No file beside the catalog does.
            let files = try Opened.holding(Data(id.utf8), conference.server.data)
            #expect(files.allSatisfy { $0.hasPrefix("catalog.sqlite") || $0.hasPrefix("erasure") }, "\(files)")
            #expect(try Opened.holding(Data(conference["A"].name.utf8), conference.server.data).allSatisfy { $0.hasPrefix("catalog.sqlite") })
        }

        @Test("Art. 16: the next version shows the corrected name and nothing else changes; the old version's key is gone, and the old name is nowhere")
        func rectification() async throws {
            let conference = world.rename
            let (anna, old) = (conference["A"], try await conference.rendition("composite", for: "A"))
            let before = try await conference.download(old, by: "A")
            let key = try #require(world.opened.keys()["rendition:\(old.id)"])
            let view: ParticipantView = try await anna.client.put("/v1/participants/\(anna.id)/name", NameRequest(name: "W"))
            #expect(view.name == "W")
            try await eventually("a new version is there") { try await conference.renditions("A").contains { $0.kind == "composite" && $0.id != old.id } }
            try await conference.ready()
            let new = try await conference.rendition("composite", for: "A")
            #expect(new.contains == old.contains)
            #expect(try await anna.client.status(.GET, "/v1/renditions/\(old.id)/content") == 410)
            try await eventually("the old version's key is gone") { try world.opened.keys()["rendition:\(old.id)"] == nil }
            #expect(try Opened.holding(key.wrapped, conference.server.folder.url).isEmpty)
            #expect(!FileManager.default.fileExists(atPath: world.opened.artifact(conference.id, old.id.rawValue).path))
            // The same people at the same places; what differs are the pixels of one label.
            let after = try await conference.download(new, by: "A")
            let changed = try difference(before, after)
            #expect(changed.count > 200 && changed.width < Pipelines.width / 2 && changed.height < 60, "\(changed)")
            // The catalog keeps the new one only: this person has the old name nowhere. (The others of that name are other people.)
            let names = try world.opened.catalog { try String.fetchAll($0, sql: "SELECT name FROM identity WHERE participant = ?", arguments: [anna.id.rawValue]) }
            #expect(names == ["W"])
        }

        /// How many pixels of a picture in the middle differ visibly, and the box around them.
        private func difference(_ one: URL, _ other: URL) throws -> (count: Int, width: Int, height: Int) {
            func picture(_ file: URL) throws -> [UInt8] {
                var pictures: [[UInt8]] = []
                try Decoded.pictures(of: file, width: Pipelines.width, height: Pipelines.height) { pictures.append(Array($0)) }
                return try #require(pictures.dropFirst(pictures.count / 2).first)
            }
            let different = zip(try picture(one), try picture(other)).enumerated().filter { abs(Int($0.element.0) - Int($0.element.1)) > 40 }.map(\.offset)
            let (columns, rows) = (different.map { $0 % Pipelines.width }, different.map { $0 / Pipelines.width })
            return (different.count, (columns.max() ?? 0) - (columns.min() ?? 0), (rows.max() ?? 0) - (rows.min() ?? 0))
        }

        @Test("Art. 17: after erasure no byte of the person's payload or key is anywhere, temporary files and a restored backup included; the others' tracks are bit-identical")
        func erasure() async throws {
            let (conference, opened, speech) = (world.erasure, world.opened, try Speech.shared.get())
            let data = conference.server.data
            let tracks = try opened.tracks(of: conference.id)
            let own = tracks.filter { $0.participants == [conference["A"].id.rawValue] }
            let kept = tracks.filter { $0.participants != [conference["A"].id.rawValue] && FileManager.default.fileExists(atPath: opened.artifact(conference.id, $0.id.rawValue).path) }
            #expect(own.count == 2 && kept.count == 3)
            let versions = try await conference.renditions("A")
            let ids = own.map(opened.keyID) + versions.map { "rendition:\($0.id)" }
            let before = try opened.keys()
            let wrapped = try ids.map { try #require(before[$0]?.wrapped) }
            let plain = try ids.map { try opened.key($0).withBytes { Data($0) } }
            let others = try kept.map { try Opened.files(opened.logFolder($0)).merging(["matroska": Data(contentsOf: opened.artifact(conference.id, $0.id.rawValue))]) { $1 } }
            let sound = try opened.matroska(kept[0])
            // What is searched for is there before, and readable with the key.
            #expect(try opened.packets(own[0]) == speech.of(.init("A", .audio)).map(\.datagram))
            for bytes in wrapped { #expect(try Opened.holding(bytes, data) == ["keys.sqlite"]) }
            let backup = conference.server.folder.url.deletingLastPathComponent().appending(path: "mitschnitt-test-backup-\(UUID().uuidString)")
            Remains.note(folder: backup.path)
            #expect(try mitschnitt(["backup", "--data", data.path, "--keys", backup.path + "/keys", backup.path + "/files"]).status == 0)
            #expect(try Opened.holding(wrapped[0], backup) == ["keys/keys.sqlite"])

            try await conference.decide("A", .withdrawn, erase: true)
            try await conference.ready()
            try await eventually("all versions are made anew") { try await Set(conference.renditions("B").map(\.kind)) == Set(versions.map(\.kind)) }
            // The whole folder: database, WAL, stages' temporary files, the server's own, and its log.
            func expectGone(_ folder: URL) throws {
                let files = try Opened.files(folder)
                for bytes in wrapped + plain { #expect(files.filter { $0.value.range(of: bytes) != nil }.isEmpty) }
                for id in own.map(\.id.rawValue) + versions.map(\.id.rawValue) { #expect(!files.keys.contains { $0.contains(id) }, "\(id)") }
            }
            try expectGone(data)
            try expectGone(conference.server.folder.url.appending(path: "tmp"))
            let search = PayloadSearch(payloads: speech.payloads("A"), others: speech.payloads("B", "C"))
            #expect(search.pieces > 500)
            #expect(try search.search(data).hits.isEmpty)
            let after = try opened.keys()
            for id in ids { #expect(after[id] == nil, "\(id)") }
            // Not behind the keys that are left either: what they open is the others', bit for bit.
            for (track, files) in zip(kept, others) {
                #expect(try Opened.files(opened.logFolder(track)).merging(["matroska": Data(contentsOf: opened.artifact(conference.id, track.id.rawValue))]) { $1 } == files)
            }
            #expect(try opened.matroska(kept[0]) == sound)
            let mix = try await conference.rendition("mix", for: "B")
            #expect(Set(mix.contains) == [conference["B"].id, conference["C"].id])
            let levels = try await heard(conference.download(mix, by: "B"))
            #expect(levels["A"]! < levels["B"]! / 100 && levels["B"]! > 0.02 && levels["C"]! > 0.02, "\(levels)")
            try await expectNothingRestored(conference, backup, own, versions, expectGone)
        }

        /// The backup from before, restored with the newest ledger.
        private func expectNothingRestored(_ conference: Conference, _ backup: URL, _ own: [Opened.Track], _ versions: [RenditionView], _ expectGone: (URL) throws -> Void) async throws {
            let data = conference.server.data
            let ledger = try #require(FileManager.default.contentsOfDirectory(atPath: data.path).first { $0.contains("ledger") || $0.contains("erasure") })
            let restored = backup.appending(path: "restored")
            let told = try mitschnitt(["restore", "--data", restored.path, "--keys", backup.path + "/keys", "--root-key", data.path + "/root.key", "--ledger", data.path + "/\(ledger)",
                                       "--pipelines", Pipelines.folder.path, backup.path + "/files"])
            #expect(told.status == 0, "\(told.output)")
            try expectGone(restored)
            // A server on it: A is gone, B is there.
            try FileManager.default.copyItem(atPath: data.path + "/operator.token", toPath: restored.path + "/operator.token")
            if !FileManager.default.fileExists(atPath: restored.path + "/root.key") { try FileManager.default.copyItem(atPath: data.path + "/root.key", toPath: restored.path + "/root.key") }
            let server = try await Server(data: restored, environment: World.environment)
            defer { server.kill() }
            for version in versions {
                #expect([404, 410].contains(try await Client(server, token: conference["B"].client.token).status(.GET, "/v1/renditions/\(version.id)/content")))
            }
            let consent: ConsentView = try await Client(server, token: conference["A"].client.token).get("\(conference.path)/consent")
            #expect(consent.people.map(\.decision) == ["withdrawn"])
            server.stop()
            try expectGone(restored)
        }

        @Test("Art. 17: a recording that is erased as a whole has a receipt that is verified elsewhere; a changed one is not")
        func receipt() async throws {
            let conference = try await Conference(world.server, world.moderator, routes: [.init("A", .audio)])
            try await conference.give("A", [.audio])
            #expect(try await conference.burst(.init("A", .audio)) == .init(kept: 30))
            let track = try #require(world.opened.tracks(of: conference.id).first)
            let wrapped = try #require(world.opened.keys()[world.opened.keyID(track)]?.wrapped)
            #expect(try await world.moderator.status(.POST, "\(conference.path)/erase") == 410)
            let receipt: ReceiptView = try await conference["A"].client.get("\(conference.path)/receipt")
            #expect(receipt.trigger == "moderator" && Set(receipt.objects.map(\.id)) == ["recording:\(conference.id)", world.opened.keyID(track)])
            try await Receipts.verify(receipt, conference)
            #expect(try Opened.holding(wrapped, world.server.folder.url).isEmpty)
            #expect(!FileManager.default.fileExists(atPath: world.opened.folder(conference.id).path))
        }

        @Test("Art. 18: while restricted it is neither downloaded nor made anew nor ended by its date, and is kept; lifting restores, and what had to wait is done")
        func restriction() async throws {
            let (conference, moderator) = (world.restriction, world.moderator)
            let mix = try await conference.rendition("mix", for: "A")
            let content = "/v1/renditions/\(mix.id)/content"
            let view: RecordingView = try await moderator.get(conference.path)
            let file = world.opened.artifact(conference.id, mix.id.rawValue)
            let sealed = try Data(contentsOf: file)
            func restrict(_ until: Double) async throws { let _: RestrictionView = try await conference["A"].client.put("\(conference.path)/restriction", RestrictionRequest(reason: .accuracy, until: until)) }
            try await restrict(view.expiresAt + 9 * 86_400)
            for letter in ["A", "B"] {
                #expect(try await conference[letter].client.status(.GET, content) == 423)
                #expect(try await conference[letter].client.status(.POST, "\(conference.path)/grants", GrantRequest()) == 423)
            }
            for command in ["release", "erase"] { #expect(try await moderator.status(.POST, "\(conference.path)/\(command)") == 423, "\(command)") }
            // A corrected name would have it made anew: the job waits.
            let _: ParticipantView = try await conference["B"].client.put("/v1/participants/\(conference["B"].id)/name", NameRequest(name: "Bertha"))
            // It is shown to whom it concerns, and to nobody else whose it is.
            let told: ConsentView = try await conference["A"].client.get("\(conference.path)/consent")
            #expect(told.restriction?.reason == .accuracy && told.restriction?.participant == conference["A"].id)
            let others: ConsentView = try await conference["B"].client.get("\(conference.path)/consent")
            #expect(others.restriction != nil && others.restriction?.participant == nil)
            // Its date passes: the sweep ends another recording of the same date, and leaves this one.
            let other = try await Conference(world.server, moderator, days: 20, routes: [.init("A", .audio)])
            let witness: RecordingView = try await moderator.get(other.path)
            try await conference.server.advance(to: max(view.expiresAt, witness.expiresAt) + 1)
            try await eventually("the sweep has come by") { try await moderator.status(.GET, "\(other.path)/receipt") == 200 }
            #expect(try await conference["B"].client.status(.GET, content) == 423)
            #expect(try Data(contentsOf: file) == sealed)
            #expect(try world.opened.keys()["rendition:\(mix.id)"] != nil)
            #expect(try await moderator.status(.GET, "\(conference.path)/receipt") == 404)
            // Nobody lifts another's; once it is lifted its date counts again.
            #expect(try await conference["B"].client.status(.DELETE, "\(conference.path)/restriction") == 403)
            #expect(try await conference["A"].client.status(.DELETE, "\(conference.path)/restriction") == 204)
            #expect(try await conference["A"].client.status(.GET, content) == 410)
            try await eventually("it ends after all") { try await moderator.status(.GET, "\(conference.path)/receipt") == 200 }
            #expect(try world.opened.keys()["rendition:\(mix.id)"] == nil)
        }

        @Test("Art. 18: before its date, lifting gives back exactly what was there")
        func lifting() async throws {
            let conference = world.shared
            let mix = try await conference.rendition("mix", for: "A")
            let content = "/v1/renditions/\(mix.id)/content"
            let before = try await conference["B"].client.raw(.GET, content)
            let until = try await world.server.now() + 86_400
            let _: RestrictionView = try await world.moderator.put("\(conference.path)/restriction", RestrictionRequest(reason: .objection, until: until))
            let running = try await conference["B"].client.raw(.GET, content)
            #expect(running.status == 423 && running.body.range(of: before.body.prefix(64)) == nil)
            #expect(try await world.moderator.status(.DELETE, "\(conference.path)/restriction") == 204)
            let after = try await conference["B"].client.raw(.GET, content)
            #expect(before.status == 200 && after.status == 200 && after.body == before.body && after.header("ETag") == before.header("ETag"))
        }
    }
}
