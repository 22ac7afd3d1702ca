import Catalog
import CLinux
import Foundation
import Glibc
import GRDB
import Media
import Renditions
import Tap
import Truth

/// Ready at hang-up: a meeting of four, replayed in real time into the server, that is rendered while it runs.
///
/// The captured conference of Fixtures/vp8 goes round, its sequence numbers and time stamps going on; the fourth person is the first one
/// once more. The picture is 1280x720 at 25 a second. Measured from the request to stop.
struct LiveBench {
    let folder: URL
    let seconds: Int
    /// Whether the server renders while the meeting runs; without it, for comparison.
    let isLive: Bool
    /// Whether the fourth person comes late, and withdraws a minute before the end.
    let isWithdrawn: Bool
    static let soundLimitSeconds = 3.0
    static let limitSeconds = 10.0

    private struct Datagram {
        var place: Int
        var at: Int64
        var bytes: [UInt8]
    }

    /// One round of the capture, and by how much its numbers move each time.
    private struct Round {
        var datagrams: [Datagram] = []
        var packets: [Int]
        var clockRates: [Int]
        var length: Int64 = 0
    }

    func run() async throws {
        let data = folder.path + "/live"
        let (output, errors) = (folder.path + "/live.txt", folder.path + "/live.log")
        let server = try Measured.start(URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/mitschnitt",
                                        ["serve", "--data", data, "--port", "0", "--pipelines", "Pipelines", "--log-level", "notice"] + [isLive ? "--live" : "--no-live"], output: output, errors: errors)
        var isOver = false
        defer { if !isOver { kill(server, SIGKILL) } }
        let client = try await ServerClient(data: data, output: output)
        let truth = try CaptureTruth(capture: URL(filePath: "Fixtures/vp8.pcap"))
        let sent = truth.streams + truth.streams.filter { $0.participant == "A" }
        let letters = truth.streams.map(\.participant) + truth.streams.filter { $0.participant == "A" }.map { _ in "D" }
        let (recording, ports, people) = try await prepare(client, sent, letters)
        let round = try self.round(truth, sent.count)
        let (total, withdrawal) = (seconds, seconds - 60)
        let late = isWithdrawn ? letters.indices.filter { letters[$0] == "D" } : []
        let withdrawing = isWithdrawn ? Task {
            try await Task.sleep(for: .seconds(withdrawal))
            _ = try await client.call("POST", "/v1/recordings/\(recording)/consent", ["decision": "withdrawn", "method": "platform", "participant": people["D"] ?? "", "erase": true])
        } : nil
        let count = try await BlockingWork.onThread(named: "replay") { try Self.replay(round, ports, seconds: total, late: late, lateAfter: Double(total) * 0.8) }
        try await withdrawing?.value
        let stopped = Measured.now()
        _ = try await client.call("POST", "/v1/recordings/\(recording)/stop", [:])
        let answered = Measured.now() - stopped
        var done: [String: Double] = [:]
        var view: [String: Any] = [:]
        while Measured.now() - stopped < 3_600 {
            view = try await client.call("GET", "/v1/recordings/\(recording)", [:])
            for stage in view["progress"] as? [[String: Any]] ?? [] {
                if let name = stage["stage"] as? String, stage["state"] as? String == "done", done[name] == nil { done[name] = Measured.now() - stopped }
            }
            if ["ready", "failed"].contains(view["state"] as? String ?? "") { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        let ready = view["state"] as? String == "ready" ? Measured.now() - stopped : .infinity
        kill(server, SIGTERM)
        let cost = try Measured.wait(server, since: Measured.now())
        isOver = true
        let streams = view["streams"] as? [[String: Any]] ?? []
        let kept = streams.reduce(0) { $0 + ($1["packets"] as? Int ?? 0) }, drops = streams.reduce(0) { $0 + ($1["kernel_drops"] as? Int ?? 0) }
        let loudness = try await Catalog(path: data + "/catalog.sqlite").read { try Double.fetchOne($0, sql: "SELECT loudness FROM rendition WHERE kind = 'mix' AND state = 'ready'") }
        func line(_ name: String, _ value: Double, _ limit: Double) { row(name, String(format: "%.2f s", value), isLive ? value <= limit ? "pass" : "FAIL" : "") }
        row("the request to stop is answered", String(format: "%.2f s", answered))
        line("from the end to the sound", done["mix"] ?? .infinity, Self.soundLimitSeconds)
        line("from the end to the picture with sound", done["composite"] ?? .infinity, Self.limitSeconds)
        line("from the end to everything", ready, Self.limitSeconds)
        row("packets sent, kept, and dropped by the kernel", "\(count), \(kept), \(drops)", drops == 0 && (kept == count || isWithdrawn) ? "pass" : "FAIL")
        row("integrated loudness of the mix", String(format: "%.2f LUFS", loudness ?? .nan), abs((loudness ?? .infinity) + 23) <= 1 ? "pass" : "FAIL")
        row("CPU of the server and its stages", String(format: "%.1f s, %.0f %% of a core", cost.cpu, cost.cpu / Double(seconds) * 100))
        for line in try String(contentsOfFile: errors, encoding: .utf8).split(separator: "\n") { print("    " + line) }
    }

    private func prepare(_ client: ServerClient, _ sent: [CaptureTruth.Stream], _ letters: [String]) async throws -> (RecordingID, [UInt16], people: [String: String]) {
        guard let meeting = try await client.call("POST", "/v1/meetings", [:])["id"] as? String else { throw BenchFailure(description: "no meeting") }
        var people: [String: String] = [:]
        for letter in Set(letters).sorted() {
            let person = try await client.call("POST", "/v1/meetings/\(meeting)/participants", ["name": "Person \(letter)"])["participant"] as? [String: Any]
            people[letter] = person?["id"] as? String ?? ""
        }
        let made = try await client.call("POST", "/v1/meetings/\(meeting)/recordings", ["pipeline": "meeting", "streams": zip(sent, letters).map { stream, letter in
            // A port of its own for each, though the fourth person's description is the first one's.
            ["participants": [people[letter] ?? ""], "kind": stream.kind, "sdp": letter == "D" ? stream.sdp.replacing(" \(stream.rtpPort) ", with: " 0 ") : stream.sdp] as [String: Any]
        }])
        guard let id = (made["id"] as? String).flatMap(RecordingID.init) else { throw BenchFailure(description: "no recording") }
        let notice = try await client.call("GET", "/v1/recordings/\(id)/notice?language=en", [:])["hash"] as? String ?? ""
        for person in people.values.sorted() {
            _ = try await client.call("POST", "/v1/recordings/\(id)/consent", ["decision": "given", "method": "platform", "participant": person, "notice": notice])
        }
        let ports = (made["streams"] as? [[String: Any]] ?? []).map { UInt16(($0["endpoint"] as? [String: Any])?["rtp_port"] as? Int ?? 0) }
        guard ports.count == sent.count, Set(ports).count == ports.count else { throw BenchFailure(description: "ports \(ports) for \(sent.count) streams") }
        return (id, ports, people)
    }

    private func round(_ truth: CaptureTruth, _ count: Int) throws -> Round {
        let reader = try CaptureFileReader(path: "Fixtures/vp8.pcap")
        var round = Round(packets: .init(repeating: 0, count: count), clockRates: [])
        let kinds = truth.streams.map(\.kind) + truth.streams.filter { $0.participant == "A" }.map(\.kind)
        round.clockRates = kinds.map { $0 == "audio" ? 48_000 : 90_000 }
        let firsts = truth.streams.indices.filter { truth.streams[$0].participant == "A" }
        var start: WallTime?
        while let datagram = try reader.next() {
            guard let place = truth.streams.firstIndex(where: { $0.rtpPort == datagram.destinationPort }), datagram.payload.count > 12 else { continue }
            let begin = start ?? datagram.arrival
            start = begin
            let at = (datagram.arrival - begin).count
            round.length = at + 20_000_000
            round.datagrams.append(Datagram(place: place, at: at, bytes: datagram.payload))
            round.packets[place] += 1
            if let first = firsts.firstIndex(of: place) {
                let other = truth.streams.count + first
                var bytes = datagram.payload
                bytes[8] ^= 0xFF
                round.datagrams.append(Datagram(place: other, at: at, bytes: bytes))
                round.packets[other] += 1
            }
        }
        return round
    }

    /// Sends round after round at the captured pace, those at `late` only from some seconds on; how many packets it were.
    private static func replay(_ round: Round, _ ports: [UInt16], seconds: Int, late: [Int], lateAfter: Double) throws -> Int {
        let targets = ports.map { port in
            var target = sockaddr_storage()
            let length = clinux_socket_address("127.0.0.1", port, &target)
            return (target, length)
        }
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(socket) }
        let start = Int64(Measured.now() * 1e9), end = Int64(seconds) * 1_000_000_000
        var sent = 0
        for turn in 0... {
            for datagram in round.datagrams {
                let at = Int64(turn) * round.length + datagram.at
                guard at < end else { return sent }
                if late.contains(datagram.place), at < Int64(lateAfter * 1e9) { continue }
                var bytes = datagram.bytes
                let number = (UInt16(bytes[2]) << 8 | UInt16(bytes[3])) &+ UInt16(truncatingIfNeeded: turn * round.packets[datagram.place])
                let ticks = Int64((Double(round.length) * Double(turn) * Double(round.clockRates[datagram.place]) / 1e9).rounded())
                let time = bytes[4..<8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } &+ UInt32(truncatingIfNeeded: ticks)
                withUnsafeBytes(of: number.bigEndian) { bytes.replaceSubrange(2..<4, with: $0) }
                withUnsafeBytes(of: time.bigEndian) { bytes.replaceSubrange(4..<8, with: $0) }
                let due = start + at
                var wake = timespec(tv_sec: Int(due / 1_000_000_000), tv_nsec: Int(due % 1_000_000_000))
                while clock_nanosleep(CLOCK_MONOTONIC, Int32(TIMER_ABSTIME), &wake, nil) == EINTR {}
                var target = targets[datagram.place].0
                let done = withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(socket, bytes, bytes.count, 0, $0, targets[datagram.place].1) } }
                if done == bytes.count { sent += 1 }
            }
        }
        return sent
    }
}
