import Catalog
import CLinux
import Foundation
import Glibc
import Media
import PacketLog
import SealedFile
import Synchronization

/// How soon a gate closes: the real server with a thousand running streams, and people who withdraw through its API.
///
/// Each withdrawal is measured from the moment its request begins: to the answer, and to the arrival time (the kernel's) of the last packet
/// of that stream that is found in its packet log afterwards.
struct GateBench {
    let folder: URL
    let streams: Int
    static let streamsPerRecording = 200
    static let rate = 50
    static let withdrawals = 50
    static let limitMs = 500.0

    private struct Stream: Sendable {
        var recording: RecordingID
        var place: Int
        var participant: String
        var port: UInt16
    }

    func run() async throws {
        let data = folder.path + "/gate"
        let server = try Measured.start(URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/mitschnitt",
                                        ["serve", "--data", data, "--port", "0", "--pipelines", "Pipelines", "--log-level", "error"], output: folder.path + "/gate.txt")
        var isOver = false
        defer { if !isOver { kill(server, SIGKILL) } }
        let client = try await ServerClient(data: data, output: folder.path + "/gate.txt")
        let begin = Measured.now()
        let streams = try await prepare(client)
        row("preparation: invitations, recordings, and a yes for each stream", String(format: "%.1f s", Measured.now() - begin))
        // What it costs to vouch for that many open gates, twice a second, while nothing is sent.
        let (idle, since) = (Self.cpuSeconds(server), Measured.now())
        try await Task.sleep(for: .seconds(5))
        row("server, all gates open, no packets", String(format: "%.1f %% of a core", 100 * (Self.cpuSeconds(server) - idle) / (Measured.now() - since)))
        let flood = Flood(ports: streams.map(\.port), rate: Self.rate)
        flood.start()
        // All gates are open and a few seconds of each stream on the disk.
        try await Task.sleep(for: .seconds(5))
        var begun: [(stream: Stream, wall: WallTime, answerMs: Double)] = []
        for number in 0..<min(streams.count, Self.withdrawals) {
            let stream = streams[number * max(1, streams.count / Self.withdrawals)]
            let (wall, start) = (Self.wall(), Measured.now())
            _ = try await client.call("POST", "/v1/recordings/\(stream.recording)/consent", ["decision": "withdrawn", "participant": stream.participant, "erase": false])
            begun.append((stream, wall, (Measured.now() - start) * 1_000))
            try await Task.sleep(for: .milliseconds(100))
        }
        try await Task.sleep(for: .seconds(1))
        let sent = flood.stop()
        kill(server, SIGTERM)
        let cost = try Measured.wait(server, since: Measured.now())
        isOver = true
        let (last, kept) = try await lastArrivals(data, streams)
        let gateMs = begun.map { entry in last[[entry.stream.recording.rawValue, String(entry.stream.place)]].map { max(0, ($0 - entry.wall).seconds * 1_000) } ?? .infinity }
        Self.report("request to answer", begun.map(\.answerMs))
        Self.report("request to the last packet that was kept", gateMs)
        row("packets sent, and kept (those of who withdrew are fewer)", "\(sent), \(kept)", String(format: "server: %.1f CPU s", cost.cpu))
    }

    private static func report(_ name: String, _ values: [Double]) {
        let sorted = values.sorted()
        let at = { (share: Double) in sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))] }
        row(name, String(format: "p50 %.1f, p99 %.1f, max %.1f ms", at(0.5), at(0.99), sorted.last ?? .infinity), (sorted.last ?? .infinity) <= limitMs ? "pass" : "FAIL")
    }

    /// CPU time of a process so far, user and system, after proc(5): the fields behind the name in brackets.
    private static func cpuSeconds(_ process: Int32) -> Double {
        guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8), let end = text.lastIndex(of: ")") else { return .nan }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else { return .nan }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    private static func wall() -> WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    // MARK: The server and its people

    /// Everybody has a stream of their own and has said yes.
    private func prepare(_ client: ServerClient) async throws -> [Stream] {
        var streams: [Stream] = []
        for _ in 0..<max(1, self.streams / Self.streamsPerRecording) {
            guard let meeting = try await client.call("POST", "/v1/meetings", [:])["id"] as? String else { throw BenchFailure(description: "no meeting") }
            var people: [String] = []
            for number in 0..<min(self.streams, Self.streamsPerRecording) {
                let person = try await client.call("POST", "/v1/meetings/\(meeting)/participants", ["name": "Person \(number)"])["participant"] as? [String: Any]
                people.append(person?["id"] as? String ?? "")
            }
            let made = try await client.call("POST", "/v1/meetings/\(meeting)/recordings", ["pipeline": "audio-only", "streams": people.map { person in
                ["participants": [person], "kind": "audio", "sdp": "v=0\nm=audio 0 RTP/AVP 111\na=rtpmap:111 opus/48000/2\na=rtcp-mux\n"] as [String: Any]
            }])
            guard let id = (made["id"] as? String).flatMap(RecordingID.init) else { throw BenchFailure(description: "no recording") }
            let notice = try await client.call("GET", "/v1/recordings/\(id)/notice?language=en", [:])["hash"] as? String ?? ""
            for (place, stream) in (made["streams"] as? [[String: Any]] ?? []).enumerated() {
                let port = (stream["endpoint"] as? [String: Any])?["rtp_port"] as? Int ?? 0
                streams.append(Stream(recording: id, place: place, participant: people[place], port: UInt16(port)))
                _ = try await client.call("POST", "/v1/recordings/\(id)/consent", ["decision": "given", "method": "platform", "participant": people[place], "notice": notice])
            }
        }
        return streams
    }

    // MARK: What was kept

    private func lastArrivals(_ data: String, _ streams: [Stream]) async throws -> (last: [[String]: WallTime], kept: Int) {
        let catalog = try Catalog(path: data + "/catalog.sqlite")
        let keys = try KeyStore(path: data + "/keys.sqlite", root: RootKey.load(path: data + "/root.key"))
        var (last, kept): ([[String]: WallTime], Int) = ([:], 0)
        for recording in Set(streams.map(\.recording)) {
            for (stream, _) in try await catalog.read({ try $0.streams(of: recording.rawValue) }) {
                guard let track = TrackID(rawValue: stream.track) else { continue }
                let directory = "\(data)/recordings/\(recording)/tracks/\(stream.track)"
                let segments = try TrackLogFolder.segments(directory).map { TrackLogReader.Segment(number: $0, descriptor: open("\(directory)/\(TrackLogFiles.segment($0))", O_RDONLY)) }
                defer { for segment in segments { close(segment.descriptor) } }
                let reader = TrackLogReader(segments: segments, identity: TrackLogIdentity(recording: recording, track: track, kind: .audio), key: try await keys.key(KeyStore.track(track)))
                while let record = try reader.next() {
                    guard case .rtp(let arrival, _) = record else { continue }
                    last[[recording.rawValue, String(stream.position)]] = arrival
                    kept += 1
                }
            }
        }
        return (last, kept)
    }
}

/// Packets to many ports at an even pace, from a thread of its own.
private final class Flood: Sendable {
    private let ports: [UInt16]
    private let rate: Int
    private let sent = Atomic(0)
    private let isStopping = Atomic(false)
    private let ended = DispatchSemaphore(value: 0)

    init(ports: [UInt16], rate: Int) { (self.ports, self.rate) = (ports, rate) }

    func start() {
        let thread = Thread { self.run() }
        thread.name = "flood"
        thread.start()
    }

    func stop() -> Int {
        isStopping.store(true, ordering: .releasing)
        ended.wait()
        return sent.load(ordering: .acquiring)
    }

    private func run() {
        defer { ended.signal() }
        let targets = ports.map { port in
            var target = sockaddr_storage()
            let length = clinux_socket_address("127.0.0.1", port, &target)
            return (target, length)
        }
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(socket) }
        var packet: [UInt8] = [0x80, 111] + [UInt8](repeating: 0, count: 6) + [0, 0, 0, 7] + (0..<80).map { UInt8($0) }
        let start = Measured.now()
        var number = 0
        while !isStopping.load(ordering: .acquiring) {
            // A millisecond's worth, then a rest.
            for _ in 0..<max(1, ports.count * rate / 1_000) {
                let turn = number / ports.count
                (packet[2], packet[3]) = (UInt8(turn >> 8 & 255), UInt8(turn & 255))
                let time = UInt32(truncatingIfNeeded: turn * 48_000 / rate)
                (packet[4], packet[5], packet[6], packet[7]) = (UInt8(time >> 24), UInt8(time >> 16 & 255), UInt8(time >> 8 & 255), UInt8(time & 255))
                var target = targets[number % ports.count].0
                let done = withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(socket, packet, packet.count, 0, $0, targets[number % ports.count].1) } }
                if done > 0 { sent.wrappingAdd(1, ordering: .relaxed) }
                number += 1
            }
            let wait = start + Double(number) / Double(ports.count * rate) - Measured.now()
            if wait > 0 { usleep(UInt32(wait * 1e6)) }
        }
    }
}
