import Foundation
import Glibc
import TestSupport
import Testing

/// `mitschnitt audit` and `mitschnitt keys` beside a server that really ran.
@Suite("Audit and key commands", .serialized)
struct AuditCommandTests {
    let folder: TemporaryFolder
    let data: String

    init() throws {
        folder = try TemporaryFolder()
        data = folder.path + "/data"
    }

    private func mitschnitt(_ arguments: [String], environment: [String: String] = [:]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }

    private func server(environment: [String: String] = [:]) throws -> (process: Process, base: String) {
        let process = Process()
        process.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        process.arguments = ["serve", "--data", data, "--port", "0", "--pipelines", Checkout.pipelines.path, "--log-level", "error"]
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var line = ""
        while !line.hasSuffix("\n"), let byte = try pipe.fileHandleForReading.read(upToCount: 1), !byte.isEmpty { line += String(decoding: byte, as: UTF8.self) }
        return (process, line.replacing("listening on ", with: "").trimmingCharacters(in: .whitespacesAndNewlines))
    }

    private func end(_ process: Process) {
        kill(process.processIdentifier, SIGTERM)
        process.waitUntilExit()
    }

    private func call(_ base: String, _ path: String, _ token: String, _ body: [String: Any]? = nil) throws -> [String: Any] {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/curl")
        process.arguments = ["-s", "-H", "Authorization: Bearer \(token)", base + path]
            + (try body.map { ["-H", "Content-Type: application/json", "-d", String(decoding: try JSONSerialization.data(withJSONObject: $0), as: UTF8.self)] } ?? [])
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let answer = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return try JSONSerialization.jsonObject(with: answer) as? [String: Any] ?? [:]
    }

    @Test("Art. 5(2), 7(1): from a server to a file that is verified elsewhere; a flipped bit, a cut and another key have exit status 1")
    func audit() throws {
        let (process, base) = try server()
        defer { if process.isRunning { end(process) } }
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try call(base, "/v1/tokens", op, ["role": "moderator"])["token"] as? String)
        let meeting = try #require(try call(base, "/v1/meetings", moderator, [:])["id"] as? String)
        let invited = try call(base, "/v1/meetings/\(meeting)/participants", moderator, ["name": "Anna Beispiel"])
        let (anna, person) = (try #require(invited["token"] as? String), try #require((invited["participant"] as? [String: Any])?["id"] as? String))
        let stream = ["participants": [person], "kind": "audio", "sdp": "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"] as [String: Any]
        let id = try #require(try call(base, "/v1/meetings/\(meeting)/recordings", moderator, ["streams": [stream]])["id"] as? String)
        let notice = try call(base, "/v1/recordings/\(id)/notice?language=de", anna)
        _ = try call(base, "/v1/recordings/\(id)/consent", anna, ["decision": "given", "notice": notice["hash"]!, "language": "de"])
        // While it runs: the folder itself, and one checkpoint to hold.
        #expect(try mitschnitt(["audit", "verify", data]).status == 0)
        let held = folder.path + "/held"
        try mitschnitt(["audit", "show", "--checkpoint", data]).output.write(toFile: held, atomically: true, encoding: .utf8)
        end(process)
        let key = try mitschnitt(["audit", "show", "--public-key", data]).output.trimmingCharacters(in: .whitespacesAndNewlines)
        let export = folder.path + "/audit"
        #expect(try mitschnitt(["audit", "export", "--data", data, export]).status == 0)
        #expect(try mitschnitt(["audit", "export", "--data", data, export]).status != 0)
        let right = try mitschnitt(["audit", "verify", "--key", key, "--checkpoint", held, export])
        #expect(right.status == 0 && right.output.contains("right:"), "\(right.output)")
        // The exact wording, line by line, and no name.
        let shown = try mitschnitt(["audit", "show", "--consents", "--object", id, export])
        #expect(shown.status == 0)
        for line in try #require(notice["text"] as? String).split(separator: "\n") { #expect(shown.output.contains("| \(line)\n")) }
        #expect(try !String(contentsOfFile: export, encoding: .utf8).contains("Beispiel"))
        let proof = folder.path + "/proof"
        #expect(try mitschnitt(["audit", "export", "--data", data, "--since", held, proof]).status == 0)
        #expect(try mitschnitt(["audit", "verify", "--key", key, proof]).status == 0)
        var bytes = try Data(contentsOf: URL(filePath: export))
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: URL(filePath: export + "-flipped"))
        let wrong = try mitschnitt(["audit", "verify", export + "-flipped"])
        #expect(wrong.status == 1 && wrong.output.contains("WRONG:"), "\(wrong.output)")
        try Data(contentsOf: URL(filePath: export)).dropLast(30).write(to: URL(filePath: export + "-cut"))
        #expect(try mitschnitt(["audit", "verify", export + "-cut"]).status == 1)
        let other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        #expect(try mitschnitt(["audit", "verify", "--key", other, export]).status == 1)
        #expect(try mitschnitt(["audit", "verify", folder.path + "/nothing"]).status == 2)
    }

    @Test("keys are rotated only while no server runs; killed at any moment one root key opens everything")
    func rotation() throws {
        let (process, base) = try server()
        defer { if process.isRunning { end(process) } }
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try call(base, "/v1/tokens", op, ["role": "moderator"])["token"] as? String)
        let meeting = try #require(try call(base, "/v1/meetings", moderator, [:])["id"] as? String)
        let invited = try call(base, "/v1/meetings/\(meeting)/participants", moderator, ["name": "Anna"])
        let person = try #require((invited["participant"] as? [String: Any])?["id"] as? String)
        let stream = ["participants": [person], "kind": "audio", "sdp": "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"] as [String: Any]
        _ = try call(base, "/v1/meetings/\(meeting)/recordings", moderator, ["streams": [stream]])
        let refused = try mitschnitt(["keys", "rotate", "--data", data])
        #expect(refused.status != 0 && refused.output.contains("in use"), "\(refused.output)")
        let old = try Data(contentsOf: URL(filePath: data + "/root.key"))
        end(process)
        var random = Seeded(9)
        for _ in 0..<6 {
            let rotating = Process()
            rotating.executableURL = URL(filePath: Checkout.program("mitschnitt"))
            rotating.arguments = ["keys", "rotate", "--data", data]
            rotating.standardOutput = FileHandle.nullDevice
            rotating.standardError = FileHandle.nullDevice
            try rotating.run()
            usleep(UInt32.random(in: 0...120_000, using: &random))
            kill(rotating.processIdentifier, SIGKILL)
            rotating.waitUntilExit()
            var opening = 0
            for name in ["root.key", "root.key.new"] {
                guard let key = FileManager.default.contents(atPath: data + "/" + name), key.count == 32 else { continue }
                // A copy beside the key store, so that the check sees this key alone.
                let copy = folder.path + "/copy"
                try? FileManager.default.removeItem(atPath: copy)  // none the first time
                try FileManager.default.copyItem(atPath: data, toPath: copy)
                for key in ["root.key", "root.key.new"] { try? FileManager.default.removeItem(atPath: copy + "/" + key) }  // either may be missing
                if try mitschnitt(["keys", "check", "--data", copy], environment: ["MITSCHNITT_ROOT_KEY": key.base64EncodedString()]).status == 0 { opening += 1 }
                try FileManager.default.removeItem(atPath: copy)
            }
            #expect(opening == 1)
        }
        let last = try mitschnitt(["keys", "rotate", "--data", data])
        #expect(last.status == 0 && last.output.contains("opens everything"), "\(last.output)")
        #expect(try mitschnitt(["keys", "check", "--data", data]).status == 0)
        let new = try Data(contentsOf: URL(filePath: data + "/root.key"))
        #expect(new != old)
        #expect(try !folder.contains(Array(old)))
        // The server goes on with the new key, from the environment as well, and its children and /proc do not see it.
        let shown = try mitschnitt(["keys", "show", "--data", data])
        #expect(shown.output.contains("fingerprint") && !shown.output.contains(new.base64EncodedString()))
        try FileManager.default.removeItem(atPath: data + "/root.key")
        #expect(try mitschnitt(["keys", "check", "--data", data]).status != 0)
        let (again, address) = try server(environment: ["MITSCHNITT_ROOT_KEY": new.base64EncodedString()])
        #expect(address.hasPrefix("http"))
        end(again)
    }
}
