import Foundation
import Glibc
import TestSupport
import Testing

/// `mitschnitt retention`, the metrics' own port and a person's receipt, beside a server that really runs, with its clock moved.
@Suite("Retention command and figures", .serialized)
struct RetentionCommandTests {
    let folder: TemporaryFolder
    let data: String

    init() throws {
        folder = try TemporaryFolder()
        data = folder.path + "/data"
    }

    private func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }

    private func mitschnitt(_ arguments: String...) throws -> (status: Int32, output: String) { try run(Checkout.program("mitschnitt"), arguments) }

    private func call(_ base: String, _ path: String, _ token: String, _ body: [String: Any]? = nil) throws -> [String: Any] {
        let json = try body.map { ["-H", "Content-Type: application/json", "-d", String(decoding: try JSONSerialization.data(withJSONObject: $0), as: UTF8.self)] } ?? []
        let answer = try run("/usr/bin/curl", ["-s", "-H", "Authorization: Bearer \(token)", base + path] + json).output
        return try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any] ?? [:]
    }

    /// A free port below those that the system gives out by itself, so that nobody takes it in the moment between.
    private func freePort() throws -> Int {
        let program = """
            import random, socket
            while True:
                with socket.socket() as s:
                    try: s.bind(('127.0.0.1', random.randrange(20000, 30000)))
                    except OSError: continue
                    print(s.getsockname()[1])
                    break
            """
        return Int(try Python.run(program, []).trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
    }

    @Test("Art. 5(1)(e): a server's folder is clean now, not at a date beyond the recordings', and clean again when the server has lived to see it; its own port tells figures and nothing else")
    func retention() throws {
        let port = try freePort()
        let server = Process()
        server.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        server.arguments = ["serve", "--data", data, "--port", "0", "--pipelines", Checkout.pipelines.path, "--log-level", "error", "--movable-clock"]
        server.environment = ProcessInfo.processInfo.environment.merging(["MITSCHNITT_METRICS_PORT": "\(port)", "MITSCHNITT_RECORDING_DAYS": "30"]) { $1 }
        let pipe = Pipe()
        server.standardOutput = pipe
        try server.run()
        defer {
            kill(server.processIdentifier, SIGTERM)
            server.waitUntilExit()
        }
        var line = ""
        while !line.hasSuffix("\n"), let byte = try pipe.fileHandleForReading.read(upToCount: 1), !byte.isEmpty { line += String(decoding: byte, as: UTF8.self) }
        let base = line.replacing("listening on ", with: "").trimmingCharacters(in: .whitespacesAndNewlines)
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try call(base, "/v1/tokens", op, ["role": "moderator", "days": 365])["token"] as? String)
        let meeting = try #require(try call(base, "/v1/meetings", moderator, [:])["id"] as? String)
        let invited = try call(base, "/v1/meetings/\(meeting)/participants", moderator, ["name": "Anna", "email": "anna@example.net"])
        let (anna, person) = (try #require(invited["token"] as? String), try #require((invited["participant"] as? [String: Any])?["id"] as? String))
        let stream = ["participants": [person], "kind": "audio", "sdp": "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"] as [String: Any]
        let id = try #require(try call(base, "/v1/meetings/\(meeting)/recordings", moderator, ["streams": [stream]])["id"] as? String)
        let notice = try call(base, "/v1/recordings/\(id)/notice?language=de", anna)
        _ = try call(base, "/v1/recordings/\(id)/consent", anna, ["decision": "given", "notice": notice["hash"]!, "language": "de"])
        _ = try call(base, "/v1/recordings/\(id)/stop", moderator, [:])
        _ = try call(base, "/v1/recordings/\(id)/consent", anna, ["decision": "withdrawn"])
        // The person's receipt, checked offline.
        let receipt = folder.path + "/receipt.json"
        let text = try run("/usr/bin/curl", ["-s", "-H", "Authorization: Bearer \(anna)", "\(base)/v1/recordings/\(id)/receipt?participant=\(person)"]).output
        try text.write(toFile: receipt, atomically: true, encoding: .utf8)
        let key = try mitschnitt("audit", "show", "--public-key", data).output.trimmingCharacters(in: .whitespacesAndNewlines)
        let right = try mitschnitt("audit", "verify", "--key", key, receipt)
        #expect(right.status == 0, "\(right.output) \(text)")
        try text.replacing("track:", with: "trick:").write(toFile: receipt, atomically: true, encoding: .utf8)
        #expect(try mitschnitt("audit", "verify", "--key", key, receipt).status == 1)

        let now = try mitschnitt("retention", "--data", data)
        #expect(now.status == 0 && now.output.contains("nothing is past its date") && now.output.contains(id), "\(now.output)")
        let later = "\(Int(Date().timeIntervalSince1970) + 31 * 86_400)"
        let then = try mitschnitt("retention", "--data", data, "--at", later)
        #expect(then.status == 1 && then.output.contains("PAST ITS DATE: 1"), "\(then.output)")
        #expect(try mitschnitt("retention", "--data", folder.path).status == 2)
        _ = try call(base, "/v1/clock", op, ["advance_seconds": 31 * 86_400])
        func figures() throws -> String { try run("/usr/bin/curl", ["-s", "http://127.0.0.1:\(port)/metrics"]).output }
        var seen = ""
        for _ in 0..<200 where !seen.contains("mitschnitt_recordings{state=\"erased\"} 1.0") {
            seen = try figures()
            usleep(50_000)
        }
        #expect(seen.contains("mitschnitt_artefacts_past_date 0.0\n") && seen.contains("# TYPE mitschnitt_sweep_duration_seconds gauge\n"), "\(seen)")
        #expect(seen.contains("# TYPE mitschnitt_stage_attempts_total counter\n") && seen.contains("mitschnitt_job_queue_age_seconds{lane=\"light\"} 0.0\n"), "\(seen)")
        for word in [id, meeting, person, "anna@"] { #expect(!seen.contains(word)) }
        let after = try mitschnitt("retention", "--data", data, "--at", later)
        #expect(after.status == 0, "\(after.output)")
        #expect(try run("/usr/bin/curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:\(port)/v1/health"]).output == "404")
        #expect(try run("/usr/bin/curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", "\(base)/metrics"]).output == "401")
    }
}
