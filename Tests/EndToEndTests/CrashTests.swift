import Foundation
import Glibc
import TestSupport
import Testing
import Truth

@Suite("Kill -9", .serialized)
struct CrashTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private final class Server {
        let process = Process()
        let base: String
        init(_ data: String) throws {
            process.executableURL = URL(filePath: Checkout.program("mitschnitt"))
            process.arguments = ["serve", "--data", data, "--port", "0", "--pipelines", Checkout.pipelines.path, "--log-level", "error"]
            let pipe = Pipe()
            process.standardOutput = pipe
            try process.run()
            var line = ""
            while !line.hasSuffix("\n"), let byte = try pipe.fileHandleForReading.read(upToCount: 1), !byte.isEmpty { line += String(decoding: byte, as: UTF8.self) }
            base = line.replacing("listening on ", with: "").trimmingCharacters(in: .whitespacesAndNewlines)
        }
        func end(_ signal: Int32) {
            kill(process.processIdentifier, signal)
            process.waitUntilExit()
        }
    }

    private func call(_ server: Server, _ method: String, _ path: String, _ token: String, _ body: [String: Any]? = nil) async throws -> [String: Any] {
        // curl is what an operator has at hand.
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/curl")
        process.arguments = ["-s", "-X", method, "-H", "Authorization: Bearer \(token)", server.base + path]
            + (try body.map { ["-H", "Content-Type: application/json", "-d", String(decoding: try JSONSerialization.data(withJSONObject: $0), as: UTF8.self)] } ?? [])
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:]
    }

    @Test("what was captured up to the last second before a kill is rendered, and the capture goes on after the restart")
    func midCapture() async throws {
        let data = folder.path + "/data"
        let capture = Checkout.fixtures.appending(path: "vp8.pcap")
        let streams = try CaptureTruth(capture: capture).streams.filter { $0.participant == "A" }
        var server = try Server(data)
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try await call(server, "POST", "/v1/tokens", op, ["role": "moderator"])["token"] as? String)
        let meeting = try #require(try await call(server, "POST", "/v1/meetings", moderator, [:])["id"] as? String)
        let invited = try await call(server, "POST", "/v1/meetings/\(meeting)/participants", moderator, ["name": "Anna"])
        let (anna, person) = (try #require(invited["token"] as? String), try #require((invited["participant"] as? [String: Any])?["id"] as? String))
        let made = try await call(server, "POST", "/v1/meetings/\(meeting)/recordings", moderator, ["streams": streams.map { ["participants": [person], "kind": $0.kind, "sdp": $0.sdp] }])
        let id = try #require(made["id"] as? String)
        let notice = try #require(try await call(server, "GET", "/v1/recordings/\(id)/notice?language=en", anna)["hash"] as? String)
        _ = try await call(server, "POST", "/v1/recordings/\(id)/consent", anna, ["decision": "given", "notice": notice])
        let replay = Process()
        replay.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        replay.standardOutput = FileHandle.nullDevice
        replay.arguments = ["replay", capture.path, "--machine"] + zip(streams, made["streams"] as? [[String: Any]] ?? []).flatMap { stream, view in
            ["--map", "\(stream.rtpPort)=127.0.0.1:\((view["endpoint"] as? [String: Any])?["rtp_port"] as? Int ?? 0)"]
        }
        try replay.run()
        try await Task.sleep(for: .seconds(8))
        let before = try await call(server, "GET", "/v1/recordings/\(id)", moderator)
        let counted = (before["streams"] as? [[String: Any]] ?? []).compactMap { $0["packets"] as? Int }
        server.end(SIGKILL)
        server = try Server(data)
        try await Task.sleep(for: .seconds(3))
        replay.terminate()
        replay.waitUntilExit()
        _ = try await call(server, "POST", "/v1/recordings/\(id)/stop", moderator)
        var view: [String: Any] = [:]
        for _ in 0..<300 {
            view = try await call(server, "GET", "/v1/recordings/\(id)", moderator)
            if let state = view["state"] as? String, state == "ready" || state == "failed" { break }
            try await Task.sleep(for: .milliseconds(200))
        }
        server.end(SIGTERM)
        #expect(view["state"] as? String == "ready", "\(view["problems"] ?? "")")
        let verdicts = (view["streams"] as? [[String: Any]] ?? []).compactMap { $0["verdict"] as? [String: Any] }
        #expect(verdicts.count == 2)
        for (verdict, count) in zip(verdicts, counted) {
            let (start, end) = (verdict["start_wall"] as? Double ?? 0, verdict["end_wall"] as? Double ?? 0)
            // Eight seconds before the kill and some after the restart; of the packets counted at the kill at most the last second's are missing.
            #expect(end - start > 9.5, "\(end - start)")
            #expect(verdict["packets"] as? Int ?? 0 > count - 60)
        }
    }
}
