import Foundation
import Glibc
import TestSupport
import Testing
import Truth

@Suite("Rendered while it runs, with interruptions", .serialized)
struct LiveInterruptionTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    /// Key pictures of the capture, in seconds after its first packet: behind a gap nobody is seen before the next one.
    private static let keys = ["A": [0.64, 10.69, 20.80, 30.89], "C": [2.82, 12.90, 23.00]]
    private static let all = ["compose", "depacketize", "depacketize", "depacketize", "depacketize", "mix"]

    private static var wall: Double { Date().timeIntervalSince1970 }

    /// The share of a person's pictures that are there between two wall times, and of their tone; nil where none is due.
    private struct Shown {
        var judgement: Judgement
        var start: Double

        func seen(_ letter: String, _ from: Double, _ to: Double) -> Double {
            Double((judgement.people[letter]?.seenAt ?? []).count { from - start <= $0 && $0 < to - start }) / max(1, (to - from) * 25)
        }

        func heard(_ letter: String, _ from: Double, _ to: Double) -> Double? {
            let due = (judgement.people[letter]?.toneAt ?? []).filter { from - start <= $0.time && $0.time < to - start }
            return due.isEmpty ? nil : Double(due.count { $0.isHeard }) / Double(due.count)
        }
    }

    private func shown(_ server: LiveServer, _ moderator: String, _ meeting: LiveMeeting, _ truth: CaptureTruth, _ shift: Double) async throws -> (Shown, end: Double) {
        let view = try await server.made(meeting.recording, moderator)
        #expect(view["state"] as? String == "ready", "\(view["problems"] ?? "")")
        _ = try server.post("/v1/recordings/\(meeting.recording)/release", moderator)
        let anna = try #require(meeting.people["A"]).token
        let list = try server.call("GET", "/v1/recordings/\(meeting.recording)/renditions", anna) as? [[String: Any]] ?? []
        let composite = try #require(list.first { $0["kind"] as? String == "composite" }, "\(list)")
        let (start, duration) = (composite["start_wall"] as? Double ?? 0, composite["duration"] as? Double ?? 0)
        let file = folder.url.appending(path: "\(meeting.recording).mp4")
        try server.fetch(composite, anna, to: file)
        let judgement = try await aside { try Judgement(file: file, width: 1280, height: 720, frameRate: 25, startWall: start, shift: shift, truth: truth, expected: ["A", "C"], absent: ["B"]) }
        #expect(abs(judgement.seconds - duration) < 0.1, "\(judgement.seconds) \(duration)")
        #expect(judgement.strangersSeen == ["B": 0])
        return (Shown(judgement: judgement, start: start), start + duration)
    }

    @Test("a pause stays a pause; a recording whose server is killed is rendered from its beginning while it goes on, without what was lost in between")
    func interrupted() async throws {
        let data = folder.path + "/data"
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let truth = try CaptureTruth(capture: capture)
        var server = try LiveServer(data, log: folder.url.appending(path: "first.log"))
        defer {
            kill(server.process.processIdentifier, SIGKILL)
            server.process.waitUntilExit()
        }
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try server.post("/v1/tokens", op, ["role": "moderator"])["token"] as? String)
        let (halted, killed) = (try server.meeting(moderator, truth, yes: ["A", "C"]), try server.meeting(moderator, truth, yes: ["A", "C"]))
        let sending = [try server.replay(capture, halted), try server.replay(capture, killed)]
        let begun = Self.wall
        func until(_ seconds: Double) async throws { try await Task.sleep(for: .seconds(max(0, begun + seconds - Self.wall))) }
        func command(_ name: String) throws -> ClosedRange<Double> {
            let before = Self.wall
            _ = try server.post("/v1/recordings/\(halted.recording)/\(name)", moderator)
            return before...Self.wall
        }
        try await until(13.5)
        let pause = try command("pause")
        try await until(18.5)
        let resume = try command("resume")
        try await until(22.5)
        // Both are being made, and the page is told so.
        let told = String(decoding: try server.curl(["-N", "--max-time", "1", "-H", "Authorization: Bearer \(moderator)", "\(server.base)/v1/recordings/events"]), as: UTF8.self)
        #expect(told.hasPrefix("event: progress\ndata: {") && told.contains(#""state":"live""#) && !told.contains(#""made_seconds":0,"#), "\(told)")
        let stop = try command("stop")
        _ = try await server.made(halted.recording, moderator)
        #expect(try server.live(halted.recording) == Self.all)
        let death = Self.wall
        kill(server.process.processIdentifier, SIGKILL)
        server.process.waitUntilExit()
        server = try LiveServer(data, log: folder.url.appending(path: "second.log"))
        let back = Self.wall
        var shifts: [Double] = []
        for (process, pipe) in sending {
            while process.isRunning { try await Task.sleep(for: .milliseconds(100)) }
            let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
            shifts.append(try #require(said.firstMatch(of: /shift ([0-9.]+)/).flatMap { Double($0.1) }))
        }
        _ = try server.post("/v1/recordings/\(killed.recording)/stop", moderator)
        let first = try Data(contentsOf: capture).dropFirst(24).prefix(8).withUnsafeBytes { Double($0.loadUnaligned(as: UInt32.self)) + Double($0.loadUnaligned(fromByteOffset: 4, as: UInt32.self)) / 1e6 }
        func key(_ letter: String, after wall: Double, _ shift: Double) -> Double? { Self.keys[letter]?.map { first + shift + $0 }.first { $0 > wall } }

        let (calm, end) = try await shown(server, moderator, halted, truth, shifts[0])
        #expect((stop.lowerBound - 0.5...stop.upperBound + 0.3).contains(end), "\(end - stop.lowerBound)")
        for letter in ["A", "C"] {
            let (came, again) = (try #require(key(letter, after: 0, shifts[0])), key(letter, after: resume.upperBound, shifts[0]) ?? .infinity)
            #expect(calm.seen(letter, came + 1, pause.lowerBound - 0.3) >= 0.95)
            #expect(calm.seen(letter, pause.upperBound + 0.3, min(again, stop.lowerBound) - 0.2) == 0)
            if again < stop.lowerBound - 1 { #expect(calm.seen(letter, again + 0.3, stop.lowerBound - 0.3) >= 0.9) }
            #expect(calm.heard(letter, pause.upperBound + 0.3, resume.lowerBound - 0.2) ?? 0 == 0)
            for (from, to) in [(came + 1, pause.lowerBound - 0.3), (resume.upperBound + 0.5, stop.lowerBound - 0.5)] { #expect(calm.heard(letter, from, to) ?? 1 >= 0.9) }
        }

        let (cut, _) = try await shown(server, moderator, killed, truth, shifts[1])
        for letter in ["A", "C"] {
            let (came, again) = (try #require(key(letter, after: 0, shifts[1])), key(letter, after: back, shifts[1]))
            // At most the last second of what was captured is lost; a last picture is held for a second.
            #expect(cut.seen(letter, came + 1, death - 1.1) >= 0.95)
            #expect(cut.seen(letter, death + 1.2, (again ?? back) - 0.2) == 0)
            #expect(cut.heard(letter, came + 1, death - 1.1) ?? 1 >= 0.9)
            if let again, again < first + shifts[1] + 31.5 { #expect(cut.seen(letter, again + 0.3, first + shifts[1] + 31.9) >= 0.8) }
        }
        let complaints = try String(contentsOf: server.log, encoding: .utf8)
        #expect(try server.live(killed.recording) == Self.all, "\(complaints)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: data + "/tmp").count { $0.hasPrefix("live.") } == 0)
    }
}
