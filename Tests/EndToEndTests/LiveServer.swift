import Foundation
import Glibc
import TestSupport
import Testing
import Truth

/// A server that renders while it records, as a process of its own.
struct LiveServer {
    let process = Process()
    let base: String
    let log: URL

    init(_ data: String, log: URL) throws {
        try Data().write(to: log)
        self.log = log
        process.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        process.arguments = ["serve", "--data", data, "--port", "0", "--pipelines", Checkout.pipelines.path, "--log-level", "info", "--live"]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = try FileHandle(forWritingTo: log)
        try process.run()
        var line = ""
        while !line.hasSuffix("\n"), let byte = try pipe.fileHandleForReading.read(upToCount: 1), !byte.isEmpty { line += String(decoding: byte, as: UTF8.self) }
        base = line.replacing("listening on ", with: "").trimmingCharacters(in: .whitespacesAndNewlines)
    }

    func curl(_ arguments: [String]) throws -> Data {
        let curl = Process()
        curl.executableURL = URL(filePath: "/usr/bin/curl")
        curl.arguments = ["-s"] + arguments
        let pipe = Pipe()
        curl.standardOutput = pipe
        try curl.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        curl.waitUntilExit()
        return data
    }

    func call(_ method: String, _ path: String, _ token: String, _ body: [String: Any]? = nil) throws -> Any {
        try JSONSerialization.jsonObject(with: curl(["-X", method, "-H", "Authorization: Bearer \(token)", base + path]
            + (body.map { try ["-H", "Content-Type: application/json", "-d", String(decoding: JSONSerialization.data(withJSONObject: $0), as: UTF8.self)] } ?? [])))
    }

    /// A recording's view once it is made.
    func made(_ recording: String, _ token: String) async throws -> [String: Any] {
        var view: [String: Any] = [:]
        for _ in 0..<600 {
            view = try get("/v1/recordings/\(recording)", token)
            if let state = view["state"] as? String, state == "ready" || state == "failed" { break }
            try await Task.sleep(for: .milliseconds(200))
        }
        return view
    }

    /// Downloads a rendition.
    func fetch(_ rendition: [String: Any], _ token: String, to file: URL) throws {
        try curl(["-H", "Authorization: Bearer \(token)", "\(base)/v1/renditions/\(rendition["id"] as? String ?? "")/content"]).write(to: file)
    }

    func get(_ path: String, _ token: String) throws -> [String: Any] { try call("GET", path, token) as? [String: Any] ?? [:] }
    func post(_ path: String, _ token: String, _ body: [String: Any] = [:]) throws -> [String: Any] { try call("POST", path, token, body) as? [String: Any] ?? [:] }

    /// Which stages of a recording were entered as they had been made while it ran.
    func live(_ recording: String) throws -> [String] {
        let lines = try String(contentsOf: log, encoding: .utf8).split(separator: "\n").filter { $0.contains("made while it ran") && $0.contains(recording) }
        return lines.compactMap { $0.firstMatch(of: /stage=([a-z]+)/).map { String($0.1) } }.sorted()
    }

    func meeting(_ moderator: String, _ truth: CaptureTruth, yes: [String]) throws -> LiveMeeting {
        let id = try #require(try post("/v1/meetings", moderator)["id"] as? String)
        var meeting = LiveMeeting(recording: "")
        for letter in ["A", "B", "C"] {
            let invited = try post("/v1/meetings/\(id)/participants", moderator, ["name": "Person \(letter)"])
            meeting.people[letter] = (try #require((invited["participant"] as? [String: Any])?["id"] as? String), try #require(invited["token"] as? String))
        }
        let made = try post("/v1/meetings/\(id)/recordings", moderator, ["streams": truth.streams.map { ["participants": [meeting.people[$0.participant]?.id ?? ""], "kind": $0.kind, "sdp": $0.sdp] }])
        meeting.recording = try #require(made["id"] as? String, "\(made)")
        for letter in yes { try decide(meeting, letter, "given") }
        meeting.map = zip(truth.streams, made["streams"] as? [[String: Any]] ?? []).flatMap { stream, view -> [String] in
            let endpoint = view["endpoint"] as? [String: Any]
            return ["--map", "\(stream.rtpPort)=127.0.0.1:\(endpoint?["rtp_port"] as? Int ?? 0)", "--map", "\(stream.rtcpPort)=127.0.0.1:\(endpoint?["rtcp_port"] as? Int ?? 0)"]
        }
        return meeting
    }

    func decide(_ meeting: LiveMeeting, _ letter: String, _ decision: String, erase: Bool = false) throws {
        let token = try #require(meeting.people[letter]).token
        let notice = try #require(try get("/v1/recordings/\(meeting.recording)/notice?language=en", token)["hash"] as? String)
        _ = try post("/v1/recordings/\(meeting.recording)/consent", token, ["decision": decision, "notice": notice, "erase": erase])
    }

    /// `map`: only some of the streams.
    func replay(_ capture: URL, _ meeting: LiveMeeting, map: [String]? = nil) throws -> (Process, Pipe) {
        let (replay, pipe) = (Process(), Pipe())
        replay.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        replay.standardOutput = pipe
        replay.arguments = ["replay", capture.path, "--machine"] + (map ?? meeting.map)
        try replay.run()
        return (replay, pipe)
    }

    /// Waits until the server has so many live stages.
    func children(count: Int) async throws -> Set<pid_t> {
        for _ in 0..<300 {
            let found = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { found in
                // A process may be gone before it is looked at.
                guard let stat = try? String(contentsOfFile: "/proc/\(found)/stat", encoding: .utf8), let line = try? String(contentsOfFile: "/proc/\(found)/cmdline", encoding: .utf8) else { return false }
                return stat.split(separator: ")").last?.split(separator: " ").dropFirst().first.flatMap { pid_t($0) } == process.processIdentifier && line.contains("--live") && line.contains("mitschnitt-stage")
            }
            if found.count == count { return Set(found) }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw CancellationError()
    }
}

/// A recording of three people who are sent from a capture.
struct LiveMeeting {
    var recording: String
    var people: [String: (id: String, token: String)] = [:]
    var map: [String] = []
}
