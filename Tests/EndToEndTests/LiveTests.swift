import Foundation
import Glibc
import TestSupport
import Testing
import Truth

@Suite("Rendered while it runs", .serialized)
struct LiveTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private struct Server {
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

        func get(_ path: String, _ token: String) throws -> [String: Any] { try call("GET", path, token) as? [String: Any] ?? [:] }
        func post(_ path: String, _ token: String, _ body: [String: Any] = [:]) throws -> [String: Any] { try call("POST", path, token, body) as? [String: Any] ?? [:] }

        /// Which stages of a recording were entered as they had been made while it ran.
        func live(_ recording: String) throws -> [String] {
            let lines = try String(contentsOf: log, encoding: .utf8).split(separator: "\n").filter { $0.contains("made while it ran") && $0.contains(recording) }
            return lines.compactMap { $0.firstMatch(of: /stage=([a-z]+)/).map { String($0.1) } }.sorted()
        }
    }

    private struct Meeting {
        var recording: String
        var people: [String: (id: String, token: String)] = [:]
        var map: [String] = []
    }

    private func meeting(_ server: Server, _ moderator: String, _ truth: CaptureTruth, yes: [String]) throws -> Meeting {
        let id = try #require(try server.post("/v1/meetings", moderator)["id"] as? String)
        var meeting = Meeting(recording: "")
        for letter in ["A", "B", "C"] {
            let invited = try server.post("/v1/meetings/\(id)/participants", moderator, ["name": "Person \(letter)"])
            meeting.people[letter] = (try #require((invited["participant"] as? [String: Any])?["id"] as? String), try #require(invited["token"] as? String))
        }
        let made = try server.post("/v1/meetings/\(id)/recordings", moderator, ["streams": truth.streams.map { ["participants": [meeting.people[$0.participant]?.id ?? ""], "kind": $0.kind, "sdp": $0.sdp] }])
        meeting.recording = try #require(made["id"] as? String, "\(made)")
        for letter in yes { try decide(server, meeting, letter, "given") }
        meeting.map = zip(truth.streams, made["streams"] as? [[String: Any]] ?? []).flatMap { stream, view -> [String] in
            let endpoint = view["endpoint"] as? [String: Any]
            return ["--map", "\(stream.rtpPort)=127.0.0.1:\(endpoint?["rtp_port"] as? Int ?? 0)", "--map", "\(stream.rtcpPort)=127.0.0.1:\(endpoint?["rtcp_port"] as? Int ?? 0)"]
        }
        return meeting
    }

    private func decide(_ server: Server, _ meeting: Meeting, _ letter: String, _ decision: String, erase: Bool = false) throws {
        let token = try #require(meeting.people[letter]).token
        let notice = try #require(try server.get("/v1/recordings/\(meeting.recording)/notice?language=en", token)["hash"] as? String)
        _ = try server.post("/v1/recordings/\(meeting.recording)/consent", token, ["decision": decision, "notice": notice, "erase": erase])
    }

    private func replay(_ capture: URL, _ meeting: Meeting) throws -> (Process, Pipe) {
        let (replay, pipe) = (Process(), Pipe())
        replay.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        replay.standardOutput = pipe
        replay.arguments = ["replay", capture.path, "--machine"] + meeting.map
        try replay.run()
        return (replay, pipe)
    }

    /// Waits until the server has so many live stages.
    private func children(of server: Server, count: Int) async throws -> Set<pid_t> {
        for _ in 0..<300 {
            let found = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { process in
                // A process may be gone before it is looked at.
                guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8), let line = try? String(contentsOfFile: "/proc/\(process)/cmdline", encoding: .utf8) else { return false }
                return stat.split(separator: ")").last?.split(separator: " ").dropFirst().first.flatMap { pid_t($0) } == server.process.processIdentifier && line.contains("--live") && line.contains("mitschnitt-stage")
            }
            if found.count == count { return Set(found) }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw CancellationError()
    }

    @Test("who consented is seen and heard in sync, made while it ran or, where that was killed, after the end; who withdraws meanwhile is nowhere, and nothing made with them stays")
    func live() async throws {
        let data = folder.path + "/data"
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let truth = try CaptureTruth(capture: capture)
        let server = try Server(data, log: folder.url.appending(path: "server.log"))
        defer {
            kill(server.process.processIdentifier, SIGKILL)
            server.process.waitUntilExit()
        }
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try server.post("/v1/tokens", op, ["role": "moderator"])["token"] as? String)
        let calm = try meeting(server, moderator, truth, yes: ["A", "C"]), changed = try meeting(server, moderator, truth, yes: ["A", "B", "C"])
        let others = try await children(of: server, count: 2)
        let broken = try meeting(server, moderator, truth, yes: ["A", "C"])
        let child = try #require(try await children(of: server, count: 3).subtracting(others).first)
        let sending = [try replay(capture, calm), try replay(capture, changed), try replay(capture, broken)]
        // Some of B is in what is being made by then: everything settles within twenty seconds.
        try await Task.sleep(for: .seconds(26))
        func temporaries() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: data + "/tmp").count { $0.hasPrefix("live.") } }
        // Six tracks, a mix in two formats, a composite, of each.
        #expect(try temporaries() == 27)
        kill(child, SIGKILL)
        _ = try await children(of: server, count: 2)
        while try temporaries() > 18 { try await Task.sleep(for: .milliseconds(50)) }
        try decide(server, changed, "B", "withdrawn", erase: true)
        #expect(try temporaries() == 9)
        #expect(try await children(of: server, count: 1).isSubset(of: others))
        var shifts: [Double] = []
        for (process, pipe) in sending {
            // Whoever waits here on a thread keeps others' tests waiting.
            while process.isRunning { try await Task.sleep(for: .milliseconds(100)) }
            let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
            shifts.append(try #require(said.firstMatch(of: /shift ([0-9.]+)/).flatMap { Double($0.1) }))
        }
        for (meeting, shift) in zip([calm, changed, broken], shifts) {
            _ = try server.post("/v1/recordings/\(meeting.recording)/stop", moderator)
            var view: [String: Any] = [:]
            for _ in 0..<600 {
                view = try server.get("/v1/recordings/\(meeting.recording)", moderator)
                if let state = view["state"] as? String, state == "ready" || state == "failed" { break }
                try await Task.sleep(for: .milliseconds(200))
            }
            #expect(view["state"] as? String == "ready", "\(view["problems"] ?? "")")
            try await aside { try judge(server, moderator, meeting, truth, shift) }
        }
        let complaints = try String(contentsOf: server.log, encoding: .utf8).split(separator: "\n").filter { $0.contains("warning") || $0.contains("error") }.joined(separator: "\n")
        #expect(try server.live(calm.recording) == ["compose", "depacketize", "depacketize", "depacketize", "depacketize", "mix"], "\(complaints)")
        #expect(try server.live(changed.recording) == [] && server.live(broken.recording) == [])
        #expect(try temporaries() == 0)
    }

    private func judge(_ server: Server, _ moderator: String, _ meeting: Meeting, _ truth: CaptureTruth, _ shift: Double) throws {
        _ = try server.post("/v1/recordings/\(meeting.recording)/release", moderator)
        let anna = try #require(meeting.people["A"]).token
        let list = try server.call("GET", "/v1/recordings/\(meeting.recording)/renditions", anna) as? [[String: Any]] ?? []
        let composite = try #require(list.first { $0["kind"] as? String == "composite" }, "\(list)")
        let file = folder.url.appending(path: "\(meeting.recording).mp4")
        try server.curl(["-H", "Authorization: Bearer \(anna)", "\(server.base)/v1/renditions/\(composite["id"] as? String ?? "")/content"]).write(to: file)
        #expect(Set(composite["contains"] as? [String] ?? []) == Set(["A", "C"].compactMap { meeting.people[$0]?.id }))
        let judgement = try Judgement(file: file, width: 1280, height: 720, frameRate: 25, startWall: composite["start_wall"] as? Double ?? 0, shift: shift, truth: truth,
                                      expected: ["A", "C"], absent: ["B"])
        for (letter, person) in judgement.people {
            #expect(person.seen >= 0.99 && person.heard >= 0.99, "\(letter): seen \(person.seen), heard \(person.heard)")
            #expect((person.lipSyncP95 ?? .infinity) <= 40, "\(letter): \(person.lipSyncP95 ?? .nan)")
        }
        #expect(judgement.strangersSeen == ["B": 0])
        #expect((judgement.strangersHeardDB["B"] ?? 0) <= -40)
        #expect(abs(judgement.seconds - (composite["duration"] as? Double ?? 0)) < 0.1)
        // ffprobe, which shares no code with ours.
        let (probe, pipe) = (Process(), Pipe())
        probe.executableURL = URL(filePath: "/usr/bin/ffprobe")
        probe.arguments = ["-v", "error", "-show_entries", "stream=codec_name,start_time", "-of", "csv=p=0", file.path]
        probe.standardOutput = pipe
        try probe.run()
        let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        probe.waitUntilExit()
        #expect(said.split(separator: "\n") == ["h264,0.000000", "aac,0.000000"])
        let bytes = try Data(contentsOf: file, options: .mappedIfSafe)
        let (moov, mdat) = (try #require(bytes.range(of: Data("moov".utf8))), try #require(bytes.range(of: Data("mdat".utf8))))
        #expect(moov.lowerBound < mdat.lowerBound)
        let mixes = list.filter { $0["kind"] as? String == "mix" }
        #expect(mixes.count == 2)
    }
}
