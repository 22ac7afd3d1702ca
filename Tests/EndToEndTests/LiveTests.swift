import Foundation
import Glibc
import TestSupport
import Testing
import Truth

@Suite("Rendered while it runs", .serialized)
struct LiveTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    @Test("who consented is seen and heard in sync, made while it ran or, where that was killed, after the end; who withdraws meanwhile is nowhere, nothing made with them stays, and all of it is made anew without them while it runs")
    func live() async throws {
        let data = folder.path + "/data"
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let truth = try CaptureTruth(capture: capture)
        let server = try LiveServer(data, log: folder.url.appending(path: "server.log"))
        defer {
            kill(server.process.processIdentifier, SIGKILL)
            server.process.waitUntilExit()
        }
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try server.post("/v1/tokens", op, ["role": "moderator"])["token"] as? String)
        let calm = try server.meeting(moderator, truth, yes: ["A", "C"]), changed = try server.meeting(moderator, truth, yes: ["A", "B", "C"])
        let others = try await server.children(count: 2)
        let broken = try server.meeting(moderator, truth, yes: ["A", "C"])
        var child = try #require(try await server.children(count: 3).subtracting(others).first)
        let sending = [try server.replay(capture, calm), try server.replay(capture, changed), try server.replay(capture, broken)]
        // Some of B is in what is being made by then: everything settles within twenty seconds.
        try await Task.sleep(for: .seconds(26))
        func temporaries() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: data + "/tmp").count { $0.hasPrefix("live.") } }
        // Six tracks, a mix in two formats, its peaks, a composite, and two empty files for chunks of it, of each.
        #expect(try temporaries() == 36)
        let first = child
        kill(first, SIGKILL)
        func settle(_ children: Int, _ files: Int) async throws -> Set<pid_t> {
            var now = try await server.children(count: children)
            while try now.contains(first) || temporaries() != files {
                try await Task.sleep(for: .milliseconds(50))
                now = try await server.children(count: children)
            }
            return now
        }
        child = try #require(try await settle(3, 36).subtracting(others).first)
        try server.decide(changed, "B", "withdrawn", erase: true)
        // Begun anew without B: four tracks of that meeting.
        #expect(try await settle(3, 34).intersection(others).count == 1)
        var shifts: [Double] = []
        for (process, pipe) in sending {
            // Whoever waits here on a thread keeps others' tests waiting.
            while process.isRunning { try await Task.sleep(for: .milliseconds(100)) }
            let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
            shifts.append(try #require(said.firstMatch(of: /shift ([0-9.]+)/).flatMap { Double($0.1) }))
        }
        var loudness: [String: Loudness] = [:]
        for (meeting, shift) in zip([calm, changed, broken], shifts) {
            if meeting.recording == broken.recording { kill(child, SIGKILL) }
            _ = try server.post("/v1/recordings/\(meeting.recording)/stop", moderator)
            let view = try await server.made(meeting.recording, moderator)
            #expect(view["state"] as? String == "ready", "\(view["problems"] ?? "")")
            loudness[meeting.recording] = try await aside { try judge(server, moderator, meeting, truth, shift) }
        }
        // The same was sent to both, and the one was mixed after its end.
        let (mixedLive, mixedAfter) = (try #require(loudness[calm.recording]), try #require(loudness[broken.recording]))
        #expect(abs(mixedLive.integrated - mixedAfter.integrated) <= 1, "\(mixedLive) \(mixedAfter)")
        #expect(mixedLive.peak <= -1 && mixedAfter.peak <= -1, "\(mixedLive) \(mixedAfter)")
        let complaints = try String(contentsOf: server.log, encoding: .utf8).split(separator: "\n").filter { $0.contains("warning") || $0.contains("error") }.joined(separator: "\n")
        for meeting in [calm, changed] {
            #expect(try server.live(meeting.recording) == ["compose", "depacketize", "depacketize", "depacketize", "depacketize", "mix", "waveform"], "\(complaints)")
        }
        #expect(try server.live(broken.recording) == [], "\(complaints)")
        #expect(try temporaries() == 0)
    }

    private func judge(_ server: LiveServer, _ moderator: String, _ meeting: LiveMeeting, _ truth: CaptureTruth, _ shift: Double) throws -> Loudness {
        _ = try server.post("/v1/recordings/\(meeting.recording)/release", moderator)
        let anna = try #require(meeting.people["A"]).token
        let list = try server.call("GET", "/v1/recordings/\(meeting.recording)/renditions", anna) as? [[String: Any]] ?? []
        let composite = try #require(list.first { $0["kind"] as? String == "composite" }, "\(list)")
        let file = folder.url.appending(path: "\(meeting.recording).mp4")
        try server.fetch(composite, anna, to: file)
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
        let sound = folder.url.appending(path: "\(meeting.recording).m4a")
        try server.fetch(try #require(mixes.first { $0["container"] as? String == "mp4" }), anna, to: sound)
        return try Loudness(of: sound)
    }
}
