import Foundation
@testable import Recorder
import TestSupport
import Testing

/// The pages as people see them: a real browser on the real server.
@Suite("Pages in a browser", .serialized, .timeLimit(.minutes(5)))
struct PageTests {
    private static let stages = """
          tracks: {stage: depacketize}
          mix: {stage: mix, inputs: [tracks.audio], outputs: {sound: mp4}}
          composite:
            stage: compose
            inputs: [tracks.video, mix.sound]
            outputs: {picture: mp4}
            parameters: {width: 640, height: 360, frame_rate: 25, preset: medium, threads: 1}
        """

    private func signIn(_ browser: Browser, _ base: String, _ code: String, page: String) throws {
        try browser.go(to: "\(base)/#code=\(code)")
        // What is in the link does not stay in the address.
        try browser.wait(until: "document.querySelector('#code')?.value === '\(code)' && location.hash === ''")
        try browser.evaluate("document.querySelector('#sign-in').requestSubmit()")
        try browser.wait(until: "document.body.dataset.page === '\(page)'")
    }

    @Test("a moderator sees sound and picture come in bars that only rise, in German and in English, and releases them; whoever consented plays them")
    func made() async throws {
        let recording = try await UnmadeRecording(Self.stages, seconds: 8)
        try recording.renew()
        try await aside {
            let server = try recording.server()
            defer { server.stop() }
            let token = try recording.operatorToken
            #expect(try server.call("POST", "/v1/jobs/pause", token, #"{"scope":"all"}"#)?.status == 200)
            let browser = try Browser(language: "de-DE")
            try signIn(browser, server.base, UnmadeRecording.token, page: "moderator")
            let node = "document.querySelector('[data-id=\"\(recording.id)\"]')"
            func rows(_ what: String) throws -> [String] { try browser.evaluate("[...\(node).querySelectorAll('.making li')].map((row) => \(what))") as? [String] ?? [] }
            func how() throws -> [String] { try rows("row.querySelector('.how').textContent") }
            func wait(_ state: String) throws { try browser.wait(until: "\(node) && [...\(node).querySelectorAll('.making li')].filter((row) => row.dataset.state === '\(state)').length === 2") }
            try wait("waiting")
            #expect(try rows("row.querySelector('.what').textContent") == ["Ton", "Video"])
            // The sound's own inputs may be there already, if they were made before the pause.
            for words in try how() { #expect(words.hasPrefix("wartet"), "\(words)") }
            try browser.evaluate("""
                window.seen = { mix: [], composite: [] };
                new MutationObserver(() => { for (const row of \(node).querySelectorAll('.making li')) window.seen[row.dataset.stage]?.push(row.querySelector('progress').value); })
                    .observe(\(node), { subtree: true, attributes: true, childList: true, characterData: true });
                """)
            #expect(try server.call("POST", "/v1/jobs/resume", token, #"{"scope":"all"}"#)?.status == 200)
            try wait("ready")
            #expect(try how() == ["✓ fertig, kann freigegeben werden", "✓ fertig, kann freigegeben werden"])
            for stage in ["mix", "composite"] {
                let values = (try browser.evaluate("window.seen.\(stage)") as? [Any] ?? []).compactMap { ($0 as? NSNumber)?.intValue }
                #expect(values == values.sorted() && values.last == 100, "\(stage): \(values)")
            }
            try browser.evaluate("document.querySelector('#language').click()")
            try browser.wait(until: "document.documentElement.lang === 'en'")
            try wait("ready")
            #expect(try rows("`${row.querySelector('.what').textContent}: ${row.querySelector('.how').textContent}`") == ["Sound: ✓ ready, can be released", "Video: ✓ ready, can be released"])
            try browser.evaluate("\(node).querySelector('[data-command=release]').click()")
            try browser.wait(until: "\(node).querySelector('.making li .how').textContent === '✓ ready, can be downloaded'")
            try play(server)
        }
    }

    private func play(_ server: KilledServer.Server) throws {
        let browser = try Browser(language: "de-DE")
        try signIn(browser, server.base, UnmadeRecording.participantToken, page: "participant")
        try browser.wait(until: "document.querySelector('video')?.readyState >= 1")
        let played = try browser.evaluate("""
            (async () => {
              const video = document.querySelector('video');
              await video.play();
              while (video.currentTime < 2) await new Promise((done) => setTimeout(done, 20));
              video.pause();
              const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 36 });
              const context = canvas.getContext('2d');
              context.drawImage(video, 0, 0, 64, 36);
              const lights = [...context.getImageData(0, 0, 64, 36).data];
              return { width: video.videoWidth, height: video.videoHeight, seconds: Math.round(video.duration), isBright: Math.max(...lights.filter((_, at) => at % 4 < 3)) > 100, error: video.error?.message ?? '' };
            })()
            """) as? [String: Any] ?? [:]
        #expect(played["width"] as? Int == 640 && played["height"] as? Int == 360 && played["seconds"] as? Int == 8 && played["isBright"] as? Bool == true && played["error"] as? String == "", "\(played)")
    }

    @Test("whoever is invited reads the notice, allows their voice alone, is told that they are recorded, and withdraws; in the language of their browser",
          arguments: [("en-GB", "consented: my voice", "You are being recorded now.", "You are not being recorded now.", "withdrawn"),
                      ("de-AT", "eingewilligt: meinen Ton", "Sie werden gerade aufgezeichnet.", "Sie werden gerade nicht aufgezeichnet.", "widerrufen")])
    func decided(language: String, given: String, on: String, off: String, withdrawn: String) async throws {
        let recording = try await UnmadeRecording(Self.stages, seconds: 1)
        try recording.renew()
        try await aside {
            let server = try recording.server()
            defer { server.stop() }
            func post(_ path: String, _ body: [String: Any]) throws -> [String: Any] {
                let text = String(decoding: try JSONSerialization.data(withJSONObject: body), as: UTF8.self)
                let answer = try #require(try server.call("POST", path, UnmadeRecording.token, text))
                return try JSONSerialization.jsonObject(with: answer.body) as? [String: Any] ?? [:]
            }
            let meeting = try #require(try post("/v1/meetings", [:])["id"] as? String)
            let invited = try post("/v1/meetings/\(meeting)/participants", ["name": "Björn"])
            let person = try #require((invited["participant"] as? [String: Any])?["id"] as? String)
            let streams = [["participants": [person], "kind": "audio", "sdp": GateTests.sdp(0)]]
            let id = try #require(try post("/v1/meetings/\(meeting)/recordings", ["pipeline": "small", "streams": streams])["id"] as? String)
            let browser = try Browser(language: language)
            try signIn(browser, server.base, try #require(invited["token"] as? String), page: "participant")
            let card = "document.querySelector('#recordings > *')"
            func text(_ selector: String) throws -> String { try browser.evaluate("\(card).querySelector('\(selector)').textContent") as? String ?? "" }
            func wait(_ selector: String, _ text: String) throws { try browser.wait(until: "\(card)?.querySelector('\(selector)').textContent === '\(text)'") }
            try wait(".recorded", off)
            // The notice is open before anybody decides, and is the one that the consent is bound to.
            #expect(try browser.evaluate("\(card).querySelector('.consent > details').open") as? Bool == true)
            let notice = try #require(try server.call("GET", "/v1/recordings/\(id)/notice?language=\(language.prefix(2))", UnmadeRecording.token))
            #expect(try text(".notice") == (try JSONSerialization.jsonObject(with: notice.body) as? [String: Any])?["text"] as? String)
            try browser.evaluate("\(card).querySelector('[name=video]').click()")
            try browser.evaluate("\(card).querySelector('.give').click()")
            try wait(".decision", given)
            try wait(".recorded", on)
            func known() throws -> [String: Any] {
                let answer = try #require(try server.call("GET", "/v1/recordings/\(id)/consent", UnmadeRecording.token))
                return ((try JSONSerialization.jsonObject(with: answer.body) as? [String: Any])?["people"] as? [[String: Any]])?.first ?? [:]
            }
            #expect(try known()["decision"] as? String == "given" && known()["modalities"] as? [String] == ["audio"])
            try browser.evaluate("\(card).querySelector('.withdraw').click()")
            try wait(".decision", withdrawn)
            try wait(".recorded", off)
            #expect(try known()["decision"] as? String == "withdrawn")
        }
    }
}
