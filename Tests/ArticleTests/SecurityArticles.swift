import Consent
import Foundation
import Media
import Recorder
import TestSupport
import Testing
import Truth

extension Articles {
    @Suite("Art. 32 to 34, 77: security, breaches, supervision")
    struct Security {
        let world: World
        init() async throws { world = try await World.shared }

        @Test("Art. 32: a stolen disk without the root key gives no picture, no voice and no way in")
        func stolenDisk() async throws {
            let (conference, speech) = (world.shared, try Speech.shared.get())
            let stolen = conference.server.folder.url.appending(path: "stolen")
            try FileManager.default.copyItem(at: conference.server.data, to: stolen)
            defer { try? FileManager.default.removeItem(at: stolen) }  // with the folder at last
            // With the key it is all there: what is searched for could be found.
            let track = try #require(world.opened.tracks(of: conference.id).first)
            let search = PayloadSearch(payloads: speech.packets.map(\.payload), others: [])
            #expect(try search.contains(Data(world.opened.packets(track).joined())) && search.pieces > 2_000)
            #expect(try world.opened.matroska(track)?.range(of: Data("matroska".utf8)) != nil)
            let root = try Data(contentsOf: stolen.appending(path: "root.key"))
            try FileManager.default.removeItem(at: stolen.appending(path: "root.key"))
            #expect(try Opened.holding(root, stolen).isEmpty)
            #expect(try search.search(stolen).hits.isEmpty)
            #expect(try PlaintextSearch.search(stolen).isEmpty)
            #expect(throws: (any Error).self) { try Opened(data: stolen).matroska(track) }
            let checked = try mitschnitt(["keys", "check", "--data", stolen.path])
            #expect(checked.status != 0, "\(checked.output)")
            await #expect(throws: Server.NotStarted.self) { try await Server(data: stolen) }
            // Another root key opens nothing either.
            let other = stolen.appending(path: "root.key")
            try Data(root.reversed()).write(to: other)
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: other.path)
            #expect(throws: (any Error).self) { try Opened(data: stolen).matroska(track) }
            #expect(try mitschnitt(["keys", "check", "--data", stolen.path]).status != 0)
        }

        @Test("Art. 32: a sealed file that was flipped, cut, extended, reordered, doubled, swapped or replaced by an older one is never served to its end")
        func tampering() async throws {
            // A copy of everything with a server of its own, so that nobody else's files are touched.
            let conference = world.withdrawal
            world.server.stop()
            let copy = world.server.folder.url.appending(path: "tampered")
            try FileManager.default.copyItem(at: world.server.data, to: copy)
            try await world.server.start()
            defer { try? FileManager.default.removeItem(at: copy) }  // with the folder at last
            let server = try await Server(data: copy, environment: World.environment)
            defer { server.kill() }
            let (anna, opened) = (Client(server, token: conference["B"].client.token), Opened(data: copy))
            // Whoever has the disk kept the file as it was before a name was corrected, which had it made anew.
            let before = try #require(try await (anna.get("\(conference.path)/renditions") as [RenditionView]).first { $0.kind == "composite" })
            let older = try Data(contentsOf: opened.artifact(conference.id, before.id.rawValue))
            let _: ParticipantView = try await anna.put("/v1/participants/\(conference["B"].id)/name", NameRequest(name: "Balduin B."))
            var renditions: [RenditionView] = []
            try await eventually("it is made anew") {
                renditions = try await anna.get("\(conference.path)/renditions")
                return try await (anna.get(conference.path) as RecordingView).state == .ready && renditions.contains { $0.kind == "composite" && $0.id != before.id }
            }
            let large = try #require(renditions.first { $0.kind == "composite" })
            let small = try #require(renditions.first { $0.kind == "mix" })
            let file = opened.artifact(conference.id, large.id.rawValue)
            let whole = try Data(contentsOf: file)
            let path = "/v1/renditions/\(large.id)/content"
            let right = try await anna.raw(.GET, path)
            #expect(right.status == 200 && right.body.count == large.bytes && large.bytes > 4 << 16)
            // The header, then chunks of 64 KiB with a tag of 16 bytes each.
            let chunk = (1 << 16) + 16
            let header = whole.count - large.bytes - 16 * ((large.bytes + 65_535) / 65_536)
            func piece(_ index: Int) -> Range<Int> { header + index * chunk..<header + (index + 1) * chunk }
            func flipped(_ place: Int) -> Data {
                var bytes = whole
                bytes[place] ^= 1
                return bytes
            }
            let (one, two) = (whole[piece(1)], whole[piece(2)])
            let wrongs: [(String, Data)] = [
                ("header", flipped(0)), ("salt", flipped(header - 40)), ("first byte", flipped(header)), ("middle", flipped(whole.count / 2)), ("last byte", flipped(whole.count - 1)),
                ("last byte cut", whole.dropLast()), ("half", whole.prefix(whole.count / 2)), ("at a chunk's end", whole.prefix(piece(2).upperBound)), ("empty", Data()),
                ("extended", whole + [0]), ("a chunk more", whole + one), ("without a chunk", whole[..<piece(1).lowerBound] + whole[piece(1).upperBound...]),
                ("reordered", whole[..<piece(1).lowerBound] + two + one + whole[piece(2).upperBound...]), ("a chunk twice", whole[..<piece(2).lowerBound] + one + whole[piece(2).upperBound...]),
                ("another version's file", try Data(contentsOf: opened.artifact(conference.id, small.id.rawValue))),
                ("the same as it was before", older), ("another recording's", try Data(contentsOf: opened.artifact(world.shared.id, try await world.shared.rendition("composite", for: "A").id.rawValue))),
            ]
            for (name, bytes) in wrongs {
                try bytes.write(to: file)
                // Refused, or broken off: never a whole answer, and what came of it is right as far as it goes.
                do {
                    let answer = try await anna.raw(.GET, path)
                    #expect(answer.status >= 400, "\(name): \(answer.status), \(answer.body.count) bytes")
                    #expect(answer.body.range(of: right.body.prefix(32)) == nil, "\(name)")
                } catch is Client.Unexpected {
                    Issue.record("\(name)")
                } catch {}  // the connection was reset
            }
            try whole.write(to: file)
            let again = try await anna.raw(.GET, path)
            #expect(again.status == 200 && again.body == right.body)
        }

        @Test("Art. 33, 34: given ids of recordings, tracks, versions or sealed files, who is in them and who had received them is told, by the server and without it")
        func affected() async throws {
            let conference = world.shared
            let mix = try await conference.rendition("mix", for: "B")
            _ = try await conference.download(mix, by: "B")
            let tracks = try world.opened.tracks(of: conference.id)
            let people = Dictionary(uniqueKeysWithValues: ["A", "B", "C"].map { ($0, conference[$0].id) })
            func ask(_ objects: [String]) async throws -> BreachView {
                let told: BreachView = try await world.server.operator().post("/v1/breach", BreachRequest(objects: objects))
                // The same from the disk alone, as ids or as the names of files that were found.
                let offline = try mitschnitt(["breach", "--data", world.server.data.path, "--json"] + objects)
                let decoder = JSONDecoder()
                decoder.keyDecodingStrategy = .convertFromSnakeCase
                let same = try decoder.decode(BreachView.self, from: Data(offline.output.utf8))
                #expect(same.affected.map(\.participant) == told.affected.map(\.participant) && same.recipients.map(\.participant) == told.recipients.map(\.participant))
                return told
            }
            let all = try await ask([conference.id.rawValue])
            #expect(Set(all.affected.map(\.participant)) == Set(people.values) && all.affected.allSatisfy { $0.name != nil })
            #expect(all.affected.first { $0.participant == people["C"] }?.modalities == [.audio])
            #expect(all.affected.first { $0.participant == people["A"] }.map { Set($0.modalities) } == [.audio, .video])
            #expect(all.recipients.contains { $0.participant == people["B"] && $0.rendition == mix.id })
            // A's picture alone: A alone, and through the versions with it.
            let picture = try await ask([tracks[1].id.rawValue])
            #expect(picture.affected.map(\.participant) == [people["A"]] && picture.affected.first?.modalities == [.video])
            let version = try await ask([mix.id.rawValue])
            #expect(Set(version.affected.map(\.participant)) == Set(people.values) && version.affected.allSatisfy { $0.modalities == [.audio] })
            #expect(version.recipients.map(\.participant) == [people["B"]] || Set(version.recipients.map(\.participant)).isSubset(of: Set(people.values)))
            // From a track of which nothing was kept nobody is affected.
            let nothing = try await ask([tracks[5].id.rawValue, "nobody-s-id"])
            #expect(nothing.affected.isEmpty && nothing.recipients.isEmpty && nothing.unknown == ["nobody-s-id"])
            #expect(try await conference["A"].client.status(.POST, "/v1/breach", BreachRequest(objects: [conference.id.rawValue])) == 403)
        }

        @Test("Art. 77: the configured supervisory authority is named in every notice and every receipt, and one is named where none is configured")
        func authority() async throws {
            let conference = try await Conference(world.server, world.moderator, routes: [.init("A", .audio)])
            for language in Language.allCases { #expect(try await conference.notice("A", language).text.contains(World.authority)) }
            #expect(try await world.moderator.status(.POST, "\(conference.path)/erase") == 410)
            let receipt: ReceiptView = try await conference["A"].client.get("\(conference.path)/receipt")
            #expect(receipt.supervisoryAuthority == World.authority)
            let answer = try await conference["A"].client.raw(.GET, "/v1/me/export")
            #expect(answer.body.range(of: Data(World.authority.utf8)) != nil)
            let server = try await Server()
            defer { server.kill() }
            let bare = try await Conference(server, server.issue(.moderator), routes: [.init("A", .audio)])
            #expect(try await bare.notice("A", .de).text.contains("Datenschutzaufsicht Ihres Bundeslandes"))
            #expect(try await bare.notice("A", .en).text.contains("data protection authority of your federal state"))
        }
    }
}
