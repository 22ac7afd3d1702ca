import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import Media
import NIOCore
@testable import Recorder
import TestSupport
import Testing
@testable import Web

/// The real router on a real recorder.
@Suite("HTTP API and pages")
struct WebTests: Sendable {
    let folder: TemporaryFolder
    let recorder: Recorder

    init() throws {
        folder = try TemporaryFolder()
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        recorder = try Recorder(RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: ""), logger: logger)
    }

    private func app() -> some ApplicationProtocol { Application(router: WebServer.router(recorder, WebOptions())) }

    private func moderatorToken() async throws -> String {
        try await recorder.issueToken(TokenRequest(role: .moderator), as: Principal(role: .operator, subject: "o")).token
    }

    private struct Answer {
        var status: Int
        var headers: HTTPFields
        var json: [String: Any]
        var text: String
    }

    private func ask(_ client: some TestClientProtocol, _ method: HTTPRequest.Method, _ path: String, _ token: String? = nil, body: String? = nil, headers extra: HTTPFields = [:]) async throws -> Answer {
        var headers = extra
        if let token { headers[.authorization] = "Bearer \(token)" }
        if body != nil, headers[.contentType] == nil { headers[.contentType] = "application/json" }
        return try await client.execute(uri: path, method: method, headers: headers, body: body.map { ByteBuffer(string: $0) }) { response in
            let text = String(buffer: response.body)
            return Answer(status: response.status.code, headers: response.headers, json: (try? JSONSerialization.jsonObject(with: Data(text.utf8))) as? [String: Any] ?? [:], text: text)
        }
    }

    @Test("every route of the API is in the OpenAPI document, and every one in the document is there")
    func document() throws {
        let object = try #require(try JSONSerialization.jsonObject(with: Data(PackageResources.openapi_json)) as? [String: Any])
        #expect(object["openapi"] as? String == "3.1.0")
        let paths = try #require(object["paths"] as? [String: [String: Any]])
        let documented = Set(paths.flatMap { path, methods in methods.keys.map { "\($0.uppercased()) \(path)" } })
        let served = Set(WebServer.router(recorder, WebOptions()).routes.map { "\($0.method.rawValue) \($0.path.description.replacing(":id", with: "{id}"))" }
            .filter { $0.contains(" /v1/") })
        #expect(documented == served)
    }

    @Test("errors are problem details with what to do, and every answer has its guarding headers")
    func problems() async throws {
        let token = try await moderatorToken()
        try await app().test(.router) { client in
            let cases: [(HTTPRequest.Method, String, String?, String?, Int)] = [
                (.get, "/v1/meetings", nil, nil, 401), (.get, "/v1/meetings", "guessed-token-0123456789", nil, 401), (.get, "/v1/meetings/none", token, nil, 404),
                (.get, "/v1/recordings/..%2Fx", token, nil, 404), (.get, "/nowhere", token, nil, 404), (.post, "/v1/meetings", token, "{", 400),
                (.post, "/v1/meetings", token, #"{"titel":"x"}"#, 400), (.post, "/v1/meetings", token, #"{"title":7}"#, 400), (.post, "/v1/tokens", token, #"{"role":"moderator"}"#, 403),
                (.post, "/v1/clock", token, #"{"advance_seconds":1}"#, 403), (.get, "/metrics", token, nil, 403), (.get, "/metrics", nil, nil, 401),
            ]
            for (method, path, token, body, status) in cases {
                let answer = try await ask(client, method, path, token, body: body)
                #expect(answer.status == status, "\(method) \(path)")
                #expect(answer.headers[.contentType] == "application/problem+json")
                #expect(answer.json["status"] as? Int == status && answer.json["type"] != nil)
                #expect(answer.headers[.init("X-Content-Type-Options")!] == "nosniff")
                #expect(answer.headers[.init("Content-Security-Policy")!]?.hasPrefix("default-src 'none'") == true)
                #expect(answer.headers[.cacheControl] == "private, no-store")
            }
            let unknown = try await ask(client, .post, "/v1/meetings", token, body: #"{"titel":"x"}"#)
            #expect((unknown.json["detail"] as? String)?.contains("titel") == true && (unknown.json["hint"] as? String)?.contains("title") == true)
            #expect(try await ask(client, .post, "/v1/meetings", token, body: "title=x", headers: [.contentType: "application/x-www-form-urlencoded"]).status == 415)
            #expect(try await ask(client, .post, "/v1/meetings", token, body: "{\"title\":\"" + String(repeating: "x", count: 1 << 20) + "\"}").status == 413)
            #expect(try await ask(client, .get, "/v1/meetings").headers[.wwwAuthenticate]?.hasPrefix("Bearer") == true)
        }
    }

    @Test("a meeting is planned, people are invited, a recording is asked for, consent is given: over HTTP")
    func flow() async throws {
        let token = try await moderatorToken()
        try await app().test(.router) { client in
            let meeting = try #require(try await ask(client, .post, "/v1/meetings", token, body: #"{"title":"T"}"#).json["id"] as? String)
            let invited = try await ask(client, .post, "/v1/meetings/\(meeting)/participants", token, body: #"{"name":"Anna"}"#)
            #expect(invited.status == 201)
            let anna = try #require(invited.json["token"] as? String)
            let person = try #require((invited.json["participant"] as? [String: Any])?["id"] as? String)
            let sdp = #"v=0\r\nm=audio 5004 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\n"#
            let made = try await ask(client, .post, "/v1/meetings/\(meeting)/recordings", token, body: #"{"streams":[{"participants":["\#(person)"],"kind":"audio","sdp":"\#(sdp)"}]}"#)
            #expect(made.status == 201, "\(made.text)")
            let id = try #require(made.json["id"] as? String)
            let endpoint = ((made.json["streams"] as? [[String: Any]])?.first?["endpoint"] as? [String: Any])
            #expect((endpoint?["rtp_port"] as? Int ?? 0) > 0)
            let health = ((made.json["streams"] as? [[String: Any]])?.first?["health"] as? [String: Any])
            #expect((health?["state"] as? String, health?["packets_per_second"] as? Double, health?["loss_percent"] as? Double) == ("waiting", 0, 0))
            let notice = try await ask(client, .get, "/v1/recordings/\(id)/notice?language=de", anna)
            let hash = try #require(notice.json["hash"] as? String)
            let given = try await ask(client, .post, "/v1/recordings/\(id)/consent", anna, body: #"{"decision":"given","notice":"\#(hash)"}"#)
            #expect(given.status == 200, "\(given.text)")
            #expect((given.json["people"] as? [[String: Any]])?.first?["recorded"] as? Bool == true)
            #expect(try await ask(client, .post, "/v1/recordings/\(id)/stop", token).status == 200)
            #expect(try await ask(client, .get, "/v1/recordings/\(id)/receipt", token).status == 404)
        }
        await recorder.shutDown()
    }

    @Test("a browser's session needs our own page and its token for every change, and wrong codes are slowed")
    func sessions() async throws {
        let token = try await moderatorToken()
        try await app().test(.router) { client in
            let signedIn = try await ask(client, .post, "/session", body: #"{"code":"\#(token)"}"#)
            #expect(signedIn.json["page"] as? String == "/moderator")
            let cookie = try #require(signedIn.headers[.setCookie])
            #expect(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(token))
            let pair = String(cookie.prefix { $0 != ";" })
            let csrf = try #require(try await ask(client, .get, "/v1/me", headers: [.cookie: pair]).json["csrf"] as? String)
            let header = HTTPField.Name("X-CSRF-Token")!
            #expect(try await ask(client, .post, "/v1/meetings", body: "{}", headers: [.cookie: pair]).status == 403)
            #expect(try await ask(client, .post, "/v1/meetings", body: "{}", headers: [.cookie: pair, header: csrf, .init("Sec-Fetch-Site")!: "cross-site"]).status == 403)
            #expect(try await ask(client, .post, "/v1/meetings", body: "{}", headers: [.cookie: pair, header: csrf]).status == 201)
            #expect(try await ask(client, .delete, "/session", headers: [.cookie: pair, header: csrf]).status == 204)
            #expect(try await ask(client, .get, "/v1/me", headers: [.cookie: pair]).status == 401)
            for _ in 0..<Sessions.failuresPerMinute { #expect(try await ask(client, .post, "/session", body: #"{"code":"wrong-wrong-wrong-wrong"}"#).status == 401) }
            let slowed = try await ask(client, .post, "/session", body: #"{"code":"\#(token)"}"#)
            #expect(slowed.status == 429 && slowed.headers[.retryAfter] == "60")
        }
    }

    @Test("the pages load only what is ours, and say every text in both languages")
    func pages() async throws {
        let script = String(decoding: PackageResources.app_js, as: UTF8.self)
        let halves = script.components(separatedBy: "\n  en: {")
        try await app().test(.router) { client in
            for path in ["/", "/participant", "/moderator"] {
                let page = try await ask(client, .get, path)
                #expect(page.status == 200 && !page.text.contains("http") && !page.text.contains("<script>") && !page.text.contains("style="))
                for match in page.text.matches(of: #/data-t="(\w+)"/#) {
                    for half in halves { #expect(half.contains("\(match.1):"), "\(path): \(match.1)") }
                }
            }
            for path in ["/assets/app.js", "/assets/style.css", "/v1/openapi.json", "/v1/health"] { #expect(try await ask(client, .get, path).status == 200) }
        }
    }

    @Test("metrics are in Prometheus' text format")
    func metrics() {
        let samples = [MetricSample(name: "m", help: "h", kind: .gauge, labels: ["b": "2", "a": "1"], value: 1), MetricSample(name: "m", help: "h", kind: .gauge, value: 2.5)]
        #expect(MetricsRoute.exposition(samples) == "# HELP m h\n# TYPE m gauge\nm{a=\"1\",b=\"2\"} 1.0\nm 2.5\n")
    }
}
