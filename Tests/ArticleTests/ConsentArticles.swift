import Consent
import Foundation
import Media
import Recorder
import TestSupport
import Testing

extension Articles {
    @Suite("Art. 6 to 9, 12, 13, 25: consent")
    struct ConsentArticles {
        let world: World
        init() async throws { world = try await World.shared }

        /// That nothing of a stream was kept: no packet behind all keys, no segment.
        private func expectNothing(of conference: Conference, _ server: Server? = nil) throws {
            let opened = Opened(data: (server ?? world.server).data)
            for track in try opened.tracks(of: conference.id) {
                #expect(try opened.packets(track).isEmpty)
                #expect(!(FileManager.default.subpaths(atPath: opened.logFolder(track).path) ?? []).contains { $0.hasSuffix(".seg") })
            }
        }

        @Test("Art. 6, 9: without a decision, after a refusal, after time has passed, after leaving, and with noise on the line no byte is kept")
        func defaultDeny() async throws {
            let conference = try await Conference(world.server, world.moderator)
            let sound = Speech.Route("A", .audio)
            #expect(try await conference.line("A").decision == "undecided")
            #expect(try await conference.burst(sound) == .init(dropped: 30))
            // Silence is no answer, however long.
            try await world.server.advance(600)
            #expect(try await conference.burst(sound) == .init(dropped: 30))
            // Signing in, looking at the notice, and leaving.
            let browser = try await conference["A"].client.browser()
            #expect(try await browser.status(.GET, "\(conference.path)/notice?language=de") == 200)
            #expect(try await browser.status(.DELETE, "/session") == 204)
            #expect(try await conference.burst(sound) == .init(dropped: 30))
            // Noise: no RTP, and telephone events of every digit (RFC 4733) under the payload type that the SDP names.
            var random = Seeded(733)
            let noise = (0..<40).map { place in
                let digit = UInt8(place % 17)
                let event = rtp(UInt16(place), 0, payloadType: 126, payload: [digit, 0x8A, 0x03, 0x20])
                return Speech.Packet(at: 0, route: sound, datagram: place.isMultiple(of: 2) ? event : random.bytes(Int.random(in: 1...200, using: &random)))
            }
            let before = try await conference.counts(sound)
            try await Speech.send(noise + Speech.shared.get().of(sound).prefix(30), to: conference.places)
            // Some of the noise counts as packets of nobody, some as damaged; the thirty after it are read after it.
            try await eventually("what came after the noise was decided on") { try await conference.counts(sound).dropped >= before.dropped + 30 }
            #expect(try await conference.counts(sound).kept == 0)
            #expect(try await conference.line("A").decision == "undecided")
            try await conference.decide("B", .refused)
            for kind in [MediaKind.audio, .video] { #expect(try await conference.burst(.init("B", kind)) == .init(dropped: 30)) }
            try expectNothing(of: conference)
            try await conference.stop()
            let view = try await conference.ready()
            #expect(view.problems.first?.contains("nothing was recorded") == true && view.streams.allSatisfy { $0.packets == 0 })
            #expect(try await conference.renditions("A").isEmpty)
        }

        @Test("Art. 6, 9: nobody consents for somebody else; one person's yes, or a yes to another recording, is nobody else's")
        func others() async throws {
            let conference = try await Conference(world.server, world.moderator)
            let notice = try await conference.notice("A")
            let platform = try await world.server.issue(.platform)
            let given = ConsentRequest(decision: .given, participant: conference["A"].id, notice: notice.hash)
            for somebody in [world.moderator, platform, conference["B"].client] { #expect(try await somebody.status(.POST, "\(conference.path)/consent", given) == 403) }
            #expect(try await world.server.operator().status(.POST, "\(conference.path)/consent", given) == 403)
            #expect(try await Client(world.server).status(.POST, "\(conference.path)/consent", given) == 401)
            // Without the text that was shown, or with another, there is none either.
            for hash in [nil, "", String(repeating: "0", count: 64)] {
                #expect(try await conference["A"].client.status(.POST, "\(conference.path)/consent", ConsentRequest(decision: .given, notice: hash)) == 409)
            }
            try await conference.give("B")
            #expect(try await conference.burst(.init("A", .audio)) == .init(dropped: 30))
            #expect(try await conference.burst(.init("B", .audio)) == .init(kept: 30))
            // A second recording of the same meeting asks again.
            let stream = StreamRequest(participants: [conference["B"].id], kind: .audio, sdp: try Speech.shared.get().sdp(.init("B", .audio)))
            let second: RecordingView = try await world.moderator.post("/v1/meetings/\(conference.meeting)/recordings", RecordingRequest(pipeline: "sound", streams: [stream]))
            #expect(second.streams.map(\.recording) == [false])
            let consent: ConsentView = try await conference["B"].client.get("/v1/recordings/\(second.id)/consent")
            #expect(consent.people.map(\.decision) == ["undecided"])
            // What a moderator may do for others is say no.
            let _: ConsentView = try await world.moderator.post("\(conference.path)/consent", ConsentRequest(decision: .refused, participant: conference["B"].id))
            #expect(try await conference.burst(.init("B", .audio)) == .init(dropped: 30))
        }

        @Test("Art. 7(3): withdrawing takes one click at the same place as giving, and after its answer not one packet passes, in the middle of speaking as well")
        func withdrawing() async throws {
            let conference = try await Conference(world.server, world.moderator)
            let browser = try await conference["A"].client.browser()
            let sound = Speech.Route("A", .audio)
            // Giving: the notice, one POST. Withdrawing: one POST to the same address by the same session.
            let shown: NoticeView = try await browser.get("\(conference.path)/notice?language=de")
            let _: ConsentView = try await browser.post("\(conference.path)/consent", ConsentRequest(decision: .given, notice: shown.hash))
            #expect(try await conference.burst(sound) == .init(kept: 30))
            async let speaking: Void = Speech.send(Array(Speech.shared.get().of(sound).prefix(100)), to: conference.places, isTimed: true)
            try await eventually("some of it has come") { try await conference.counts(sound).kept > 40 }
            let view: ConsentView = try await browser.post("\(conference.path)/consent", ConsentRequest(decision: .withdrawn, erase: false))
            let atAnswer = try await conference.counts(sound).kept
            #expect(view.people.first?.recorded == false)
            try await speaking
            #expect(try await conference.burst(sound) == .init(dropped: 30))
            #expect(try await conference.counts(sound).kept == atAnswer)
            // The page: both buttons side by side, no question in between.
            let page = try await browser.raw(.GET, "/participant").text
            let buttons = try #require(page.firstMatch(of: /<p class="buttons">(.*?)<\/p>/.dotMatchesNewlines())).output.1
            for name in ["give", "withdraw"] { #expect(buttons.contains("class=\"\(name)\"")) }
            let script = try await browser.raw(.GET, "/assets/app.js").text
            let card = try #require(script.firstMatch(of: /async function participantCard.*?\n}\n/.dotMatchesNewlines())).output
            #expect(card.contains("['withdraw', 'withdrawn']") && !card.contains("confirm("))
        }

        @Test("Art. 7(3): a withdrawal ends running downloads with an error, refuses new ones, and the recording is made anew without the person")
        func downloadsCut() async throws {
            let conference = world.withdrawal
            let old = try await conference.rendition("composite", for: "B")
            #expect(old.contains.contains(conference["A"].id) && old.bytes > 1 << 19, "\(old.bytes)")
            // What the server had handed to its sockets before is on its way already, and is a part only.
            let running = try (0..<8).map { _ in try SlowDownload(conference["B"].client, "/v1/renditions/\(old.id)/content") }
            try await conference.decide("A", .withdrawn)
            // The server's clock alone says when it looks again.
            try await conference.server.advance(5)
            let ends = running.map { (isWhole: $0.read(), received: $0.received) }
            #expect(ends.allSatisfy { !$0.isWhole && $0.received < old.bytes }, "\(ends)")
            for letter in ["A", "B"] { #expect([403, 410].contains(try await conference[letter].client.status(.GET, "/v1/renditions/\(old.id)/content"))) }
            try await conference.ready()
            let new = try await conference.rendition("composite", for: "B")
            #expect(Set(new.contains) == [conference["B"].id, conference["C"].id] && new.id != old.id)
            let file = try await conference.download(new, by: "B")
            let levels = try heard(file)
            #expect(levels["A"]! < levels["B"]! / 100 && levels["B"]! > 0.05 && levels["C"]! > 0.05, "\(levels)")
            #expect(try seen(file, width: 2 * Pipelines.width, height: 2 * Pipelines.height) == ["B"])
        }

        @Test("Art. 8: a declared minor is not recorded until their guardian consents, and no longer when they withdraw; neither moderator nor child can stand in")
        func minors() async throws {
            let conference = try await Conference(world.server, world.moderator, minors: ["A"])
            let sound = Speech.Route("A", .audio)
            let notice = try await conference.notice("A")
            #expect(try await conference["A"].client.status(.POST, "\(conference.path)/consent", ConsentRequest(decision: .given, notice: notice.hash)) == 403)
            let onBehalf = ConsentRequest(decision: .given, participant: conference["A"].id, notice: notice.hash)
            #expect(try await world.moderator.status(.POST, "\(conference.path)/consent", onBehalf) == 403)
            #expect(try await conference.burst(sound) == .init(dropped: 30))
            try expectNothing(of: conference)
            // Only for a declared minor is there a guardian.
            #expect(try await world.moderator.status(.POST, "/v1/participants/\(conference["B"].id)/guardian") == 409)
            #expect(try await conference["A"].client.status(.POST, "/v1/participants/\(conference["A"].id)/guardian") == 403)
            let invited: InvitationView = try await world.moderator.post("/v1/participants/\(conference["A"].id)/guardian")
            let guardian = Client(world.server, token: invited.token)
            #expect(try await conference.burst(sound) == .init(dropped: 30))
            try await conference.give("A", [.audio], by: guardian)
            #expect(try await conference.burst(sound) == .init(kept: 30))
            // The child's own no weighs as much as anybody's.
            try await conference.decide("A", .withdrawn)
            #expect(try await conference.burst(sound) == .init(dropped: 30))
        }

        @Test("Art. 12, 13: the notice is made from the configuration, in both languages; another configuration is another version, and who had consented is asked again")
        func notice() async throws {
            let server = try await Server(environment: World.environment.merging(["MITSCHNITT_RECORDING_DAYS": "47"]) { $1 })
            defer { server.kill() }
            let moderator = try await server.issue(.moderator)
            let conference = try await Conference(server, moderator, routes: [.init("A", .audio), .init("B", .audio)])
            var before: [Language: NoticeView] = [:]
            for language in Language.allCases {
                let notice = try await conference.notice("A", language)
                for value in [World.controller, World.authority, "47 "] { #expect(notice.text.contains(value), "\(language): \(value)") }
                // Art. 13(1)(a), (c), (e), (2)(a) to (d): each has its line.
                let lines = language == .de ? ["Wer verantwortlich ist", "Grundlage", "Wofür", "Wie lange", "Ihre Rechte", "widerrufen", "beschweren", "Art. 9"]
                    : ["Who is responsible", "On what ground", "What for", "How long", "Your rights", "withdraw", "complain", "Art. 9"]
                for line in lines { #expect(notice.text.contains(line), "\(language): \(line)") }
                before[language] = notice
            }
            #expect(before[.de]?.version == before[.en]?.version && before[.de]?.hash != before[.en]?.hash)
            try await conference.give("A", [.audio])
            try await conference.decide("B", .refused)
            // The same configuration: nothing changes.
            try await server.restart()
            #expect(try await conference.line("A").decision == "given")
            #expect(try await conference.burst(.init("A", .audio)) == .init(kept: 30))
            server.environment["MITSCHNITT_STORAGE"] = "in einem Rechenzentrum in Musterland"
            try await server.restart()
            let after = try await conference.notice("A")
            #expect(after.version != before[.de]?.version && after.hash != before[.de]?.hash && after.text.contains("Rechenzentrum in Musterland"))
            #expect(try await conference.line("A").decision == "invalidated")
            #expect(try await conference.line("B").decision == "refused")
            #expect(try await conference.burst(.init("A", .audio)) == .init(dropped: 30))
            let old = ConsentRequest(decision: .given, notice: before[.de]?.hash)
            #expect(try await conference["A"].client.status(.POST, "\(conference.path)/consent", old) == 409)
            try await conference.give("A", [.audio])
            #expect(try await conference.burst(.init("A", .audio)) == .init(kept: 30))
        }

        @Test("Art. 25: a fresh install records nothing that was not asked for and consented to, publishes and shares nothing by itself, and is its owner's alone")
        func freshInstall() async throws {
            // No setting at all but a port of its own.
            let server = try await Server(pipelines: Checkout.pipelines, isClockMovable: false)
            defer { server.kill() }
            let moderator = try await server.issue(.moderator)
            #expect(try FileManager.default.contentsOfDirectory(atPath: server.data.path + "/recordings").isEmpty)
            let conference = try await Conference(server, moderator, pipeline: "audio-only", routes: [.init("A", .audio), .init("A", .video)])
            #expect(conference.streams.map(\.recording) == [false, false])
            #expect(try await conference.burst(.init("A", .audio)) == .init(dropped: 30))
            try expectNothing(of: conference, server)
            let notice = try await conference.notice("A")
            let given: ConsentView = try await conference["A"].client.post("\(conference.path)/consent", ConsentRequest(decision: .given, notice: notice.hash))
            #expect(given.people.first.map { Set($0.purposes) } == [.minutes, .shareWithParticipants])
            #expect(given.people.first.map { Set($0.modalities) } == [.audio, .video])
            #expect(try await conference.burst(.init("A", .audio), 100) == .init(kept: 100))
            try await conference.stop()
            try await conference.ready()
            // Made, and nobody's until it is released.
            let made = try await conference.renditions("A")
            #expect(!made.isEmpty && made.allSatisfy { !$0.downloadable && $0.releasedAt == nil })
            for rendition in made { #expect(try await conference["A"].client.status(.GET, "/v1/renditions/\(rendition.id)/content") == 403) }
            #expect(try await server.operator().status(.POST, "/v1/clock", ["advance_seconds": 1.0]) == 403)
            let view: RecordingView = try await moderator.get(conference.path)
            #expect(view.expiresAt == view.startedAt + 90 * 86_400)
            // Nobody else on the machine reads any of it.
            for (path, mode) in [("", 0o700), ("/root.key", 0o600), ("/operator.token", 0o600), ("/keys.sqlite", 0o600), ("/catalog.sqlite", 0o600)] {
                #expect(try FileManager.default.attributesOfItem(atPath: server.data.path + path)[.posixPermissions] as? Int == mode, "\(path)")
            }
            let log = try String(contentsOf: server.log, encoding: .utf8)
            for word in Array(Conference.names.values) + [Conference.title] { #expect(!log.contains(word), "\(word)") }
        }
    }
}
