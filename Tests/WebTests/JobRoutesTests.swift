import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import JobQueue
import Logging
import Media
import NIOCore
@testable import Recorder
import TestSupport
import Testing
@testable import Web

/// The queue over the real router.
@Suite("Jobs over HTTP")
struct JobRoutesTests {
    let folder: TemporaryFolder
    let recorder: Recorder

    init() throws {
        folder = try TemporaryFolder()
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        recorder = try Recorder(RecorderConfiguration(data: folder.url.appending(path: "data"), pipelines: Checkout.pipelines, stageExecutable: ""), logger: logger)
    }

    private func ask(_ client: some TestClientProtocol, _ method: HTTPRequest.Method, _ path: String, _ token: String, body: String? = nil) async throws -> (status: Int, json: [String: Any]) {
        try await client.execute(uri: path, method: method, headers: [.authorization: "Bearer \(token)", .contentType: "application/json"], body: body.map { ByteBuffer(string: $0) }) { response in
            (response.status.code, (try? JSONSerialization.jsonObject(with: Data(response.body.readableBytesView))) as? [String: Any] ?? [:])  // an empty answer is none
        }
    }

    @Test("the operator lists, shows, cancels, retries and pauses; nobody else does, and what cannot be is a conflict")
    func operatorOnly() async throws {
        let operatorToken = try String(contentsOfFile: try await recorder.provideOperatorToken(), encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try await recorder.issueToken(TokenRequest(role: .moderator), as: Principal(role: .operator, subject: "o")).token
        let jobs = [NewJob(id: JobID(rawValue: "a")!, kind: "mix", name: "mix", payload: ""), NewJob(id: JobID(rawValue: "b")!, kind: "waveform", name: "w", payload: "", dependencies: ["mix"])]
        try await recorder.jobs.write { [queue = recorder.jobs, now = recorder.clock.now] in _ = try queue.enqueue(jobs, owner: "r", now: now, in: $0) }
        try await Application(router: WebServer.router(recorder, WebOptions())).test(.router) { client in
            for (method, path) in [(HTTPRequest.Method.get, "/v1/jobs"), (.get, "/v1/jobs/a"), (.get, "/v1/jobs/events"), (.post, "/v1/jobs/a/cancel"), (.post, "/v1/jobs/a/retry")] {
                #expect(try await ask(client, method, path, moderator).status == 403, "\(path)")
            }
            #expect(try await ask(client, .post, "/v1/jobs/pause", moderator, body: #"{"scope":"all"}"#).status == 403)
            let list = try await ask(client, .get, "/v1/jobs?state=blocked,failed", operatorToken).json
            #expect((list["jobs"] as? [[String: Any]])?.map { $0["id"] as? String } == ["b"])
            #expect(try await ask(client, .get, "/v1/jobs?state=odd", operatorToken).status == 400)
            #expect(try await ask(client, .get, "/v1/jobs/none", operatorToken).status == 404)
            let paused = try await ask(client, .post, "/v1/jobs/pause", operatorToken, body: #"{"scope":"kind:mix"}"#).json
            #expect(paused["paused"] as? [String] == ["kind:mix"])
            #expect(try await ask(client, .post, "/v1/jobs/resume", operatorToken, body: #"{"scope":"kind:mix"}"#).json["paused"] as? [String] == [])
            #expect(try await ask(client, .post, "/v1/jobs/a/retry", operatorToken).status == 409)
            #expect(try await ask(client, .post, "/v1/jobs/a/cancel", operatorToken).json["state"] as? String == "cancelled")
            #expect(try await ask(client, .get, "/v1/jobs/b", operatorToken).json["state"] as? String == "cancelled", "what waits for it ends with it")
        }
        await recorder.shutDown()
    }

    @Test("who watches sees the queue at once, and again when it changes")
    func watch() async throws {
        let views = try await recorder.watchJobs(as: Principal(role: .operator, subject: "o"))
        var iterator = views.makeAsyncIterator()
        #expect(try await iterator.next()?.lanes.map(\.available) == [0, 0])
        let job = NewJob(id: JobID(rawValue: "a")!, kind: "mix", name: "mix", payload: "")
        try await recorder.jobs.write { [queue = recorder.jobs, now = recorder.clock.now] in _ = try queue.enqueue([job], owner: "r", now: now, in: $0) }
        #expect(try await iterator.next()?.lanes.map(\.available) == [1, 0])
        await recorder.shutDown()
    }
}
