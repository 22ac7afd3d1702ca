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
    private static let all = ["compose", "depacketize", "depacketize", "depacketize", "depacketize", "mix", "waveform"]

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

    /// Two servers, so that the one whose recording is paused is not killed with the other.
    @Test("a pause stays a pause; a recording whose server is killed is rendered from its beginning while it goes on, without what was lost in between")
    func interrupted() async throws {
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let truth = try CaptureTruth(capture: capture)
        let folders = ["calm", "cut"].map { folder.path + "/" + $0 }
        var servers = try folders.map { try LiveServer($0, log: URL(filePath: $0 + ".log")) }
        defer {
            for server in servers {
                kill(server.process.processIdentifier, SIGKILL)
                server.process.waitUntilExit()
            }
        }
        var moderators: [String] = [], meetings: [LiveMeeting] = []
        for (folder, server) in zip(folders, servers) {
            let op = try String(contentsOfFile: folder + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
            moderators.append(try #require(try server.post("/v1/tokens", op, ["role": "moderator"])["token"] as? String))
            meetings.append(try server.meeting(moderators.last ?? "", truth, yes: ["A", "C"]))
        }
        let sending = try zip(servers, meetings).map { try $0.replay(capture, $1) }
        let begun = Self.wall
        func until(_ seconds: Double) async throws { try await Task.sleep(for: .seconds(max(0, begun + seconds - Self.wall))) }
        func command(_ name: String) throws -> ClosedRange<Double> {
            let before = Self.wall
            _ = try servers[0].post("/v1/recordings/\(meetings[0].recording)/\(name)", moderators[0])
            return before...Self.wall
        }
        try await until(13.5)
        let pause = try command("pause")
        try await until(18.5)
        let resume = try command("resume")
        try await until(26.5)
        let death = Self.wall
        kill(servers[1].process.processIdentifier, SIGKILL)
        servers[1].process.waitUntilExit()
        servers[1] = try LiveServer(folders[1], log: URL(filePath: folders[1] + ".log"))
        let back = Self.wall
        try await until(29)
        // It is being made, and the page is told so.
        let told = String(decoding: try servers[0].curl(["-N", "--max-time", "1", "-H", "Authorization: Bearer \(moderators[0])", "\(servers[0].base)/v1/recordings/events"]), as: UTF8.self)
        #expect(told.hasPrefix("event: progress\ndata: {") && told.contains(#""state":"live""#), "\(told)")
        var shifts: [Double] = []
        for (process, pipe) in sending {
            while process.isRunning { try await Task.sleep(for: .milliseconds(100)) }
            let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
            shifts.append(try #require(said.firstMatch(of: /shift ([0-9.]+)/).flatMap { Double($0.1) }))
        }
        for (place, server) in servers.enumerated() { _ = try server.post("/v1/recordings/\(meetings[place].recording)/stop", moderators[place]) }
        let first = try Data(contentsOf: capture).dropFirst(24).prefix(8).withUnsafeBytes { Double($0.loadUnaligned(as: UInt32.self)) + Double($0.loadUnaligned(fromByteOffset: 4, as: UInt32.self)) / 1e6 }
        func key(_ letter: String, after wall: Double, _ shift: Double) -> Double? { Self.keys[letter]?.map { first + shift + $0 }.first { $0 > wall } }

        let (calm, calmEnd) = try await shown(servers[0], moderators[0], meetings[0], truth, shifts[0])
        let over = first + shifts[0] + 31.8
        #expect((over + 0.8...over + 1.8).contains(calmEnd), "\(calmEnd - over)")
        for letter in ["A", "C"] {
            // On a busy machine the last key picture may come before the pause is over.
            let (came, again) = (try #require(key(letter, after: 0, shifts[0])), key(letter, after: resume.upperBound, shifts[0]) ?? .infinity)
            #expect(calm.seen(letter, came + 1, pause.lowerBound - 0.3) >= 0.95)
            #expect(calm.seen(letter, pause.upperBound + 0.3, min(again, over) - 0.2) == 0)
            if again < over - 1 { #expect(calm.seen(letter, again + 0.3, over) >= 0.95) }
            #expect(calm.heard(letter, pause.upperBound + 0.3, resume.lowerBound - 0.2) ?? 0 == 0)
            for (from, to) in [(came + 1, pause.lowerBound - 0.3), (resume.upperBound + 0.5, over)] { #expect(calm.heard(letter, from, to) ?? 1 >= 0.95) }
        }
        #expect(try servers[0].live(meetings[0].recording) == Self.all)

        let (cut, cutEnd) = try await shown(servers[1], moderators[1], meetings[1], truth, shifts[1])
        #expect((over + 0.8...over + 1.8).contains(cutEnd - shifts[1] + shifts[0]), "\(cutEnd - over)")
        for letter in ["A", "C"] {
            let (came, again) = (try #require(key(letter, after: 0, shifts[1])), key(letter, after: back, shifts[1]) ?? .infinity)
            let over = first + shifts[1] + 31.8
            // At most the last second of what was captured is lost; a last picture is held for a second.
            #expect(cut.seen(letter, came + 1, min(death - 1.1, over)) >= 0.95)
            #expect(cut.seen(letter, death + 1.2, min(again, over) - 0.2) == 0)
            if again < over - 0.6 { #expect(cut.seen(letter, again + 0.3, over) >= 0.9) }
            for (from, to) in [(came + 1, min(death - 1.1, over)), (back + 1, over)] { #expect(cut.heard(letter, from, to) ?? 1 >= 0.9) }
        }
        let log = try String(contentsOf: servers[1].log, encoding: .utf8)
        #expect(try servers[1].live(meetings[1].recording) == Self.all, "\(log)")
        for folder in folders { #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/tmp").count { $0.hasPrefix("live.") } == 0) }
    }

    @Test("who came late and withdraws is taken out of what lies behind their coming; the pictures before it are not made again")
    func late() async throws {
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let truth = try CaptureTruth(capture: capture)
        let data = folder.path + "/late"
        let server = try LiveServer(data, log: folder.url.appending(path: "late.log"))
        defer {
            kill(server.process.processIdentifier, SIGKILL)
            server.process.waitUntilExit()
        }
        let op = try String(contentsOfFile: data + "/operator.token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let moderator = try #require(try server.post("/v1/tokens", op, ["role": "moderator"])["token"] as? String)
        let meeting = try server.meeting(moderator, truth, yes: ["A", "B", "C"])
        func map(_ letters: [String]) -> [String] {
            let ports = truth.streams.filter { letters.contains($0.participant) }.flatMap { ["\($0.rtpPort)=", "\($0.rtcpPort)="] }
            return meeting.map.filter { one in ports.contains { one.hasPrefix($0) } }.flatMap { ["--map", $0] }
        }
        let first = try server.replay(capture, meeting, map: map(["A", "C"]))
        try await Task.sleep(for: .seconds(13))
        let second = try server.replay(capture, meeting, map: map(["B"]))
        /// Waits until there are so many of the live rendering's files.
        func settle(_ count: Int) async throws {
            for _ in 0..<1_200 {
                if try FileManager.default.contentsOfDirectory(atPath: data + "/tmp").count(where: { $0.hasPrefix("live.") }) == count { return }
                try await Task.sleep(for: .milliseconds(50))
            }
            Issue.record("not \(count) files: \(try FileManager.default.contentsOfDirectory(atPath: data + "/tmp"))")
        }
        // Six tracks, a mix in two formats, its peaks, a composite; a chunk that is whole, one that is written, and an empty file.
        try await settle(13)
        let before = try await server.children(count: 1)
        try server.decide(meeting, "B", "withdrawn", erase: true)
        // Two tracks fewer; the chunk is there.
        try await settle(11)
        #expect(try await server.children(count: 1).isDisjoint(with: before))
        func copied() throws -> Int? { try String(contentsOf: server.log, encoding: .utf8).firstMatch(of: /pictures=([0-9]+).* that did not change are not made again/).flatMap { Int($0.1) } }
        for _ in 0..<600 where try copied() == nil { try await Task.sleep(for: .milliseconds(50)) }
        let pictures = try #require(try copied())
        // From the first of all to two seconds before B's first.
        #expect((250...375).contains(pictures))
        var shifts: [Double] = []
        for (process, pipe) in [first, second] {
            while process.isRunning { try await Task.sleep(for: .milliseconds(100)) }
            let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
            shifts.append(try #require(said.firstMatch(of: /shift ([0-9.]+)/).flatMap { Double($0.1) }))
        }
        _ = try server.post("/v1/recordings/\(meeting.recording)/stop", moderator)
        let (shown, _) = try await shown(server, moderator, meeting, truth, shifts[0])
        for letter in ["A", "C"] {
            let person = try #require(shown.judgement.people[letter])
            #expect(person.seen >= 0.99 && person.heard >= 0.99, "\(letter): seen \(person.seen), heard \(person.heard)")
            #expect((person.lipSyncP95 ?? .infinity) <= 40, "\(letter): \(person.lipSyncP95 ?? .nan)")
        }
        #expect(try server.live(meeting.recording) == Self.all)
        #expect(try FileManager.default.contentsOfDirectory(atPath: data + "/tmp").count { $0.hasPrefix("live.") } == 0)
    }
}
