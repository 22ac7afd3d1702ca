import ArgumentParser
import AsyncHTTPClient
import Foundation
import Media
import NIOHTTP1
import Recorder
import Renditions
import Truth

/// The main job, end to end, on captured traffic of a real conference.
struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Perform the main job on Fixtures and measure every promise.",
        discussion: """
            Starts a server of its own on free loopback ports, plans two meetings through its HTTP API, lets A and B consent and C
            refuse, replays captured packets of a real conference into it at their original timing, renders, downloads as A, proves
            with figures that C is nowhere, and moves the clock past the first recording's expiry. About two minutes.

            What stays is under --output: the second meeting's recording as a playable file, and a picture of its timeline.
            """)

    @Option(help: "Folder for the results; its contents are replaced.")
    var output = ".build/demo"

    @Option(help: "Folder with the captures.")
    var fixtures = "Fixtures"

    @Option(help: "Folder with the pipelines.")
    var pipelines = "Pipelines"

    func run() async throws {
        let demo = try await Demo(output: URL(filePath: output), fixtures: URL(filePath: fixtures), pipelines: URL(filePath: pipelines))
        let kept: Bool
        do {
            kept = try await demo.run()
        } catch {
            demo.server.stop(SIGKILL)
            throw error
        }
        demo.server.stop()
        guard kept else {
            Terminal.shared.line("\n" + Terminal.shared.red("A promise was not kept: see the ✗ above; the server's log is \(demo.log.path)"))
            throw ExitCode(1)
        }
    }
}

/// One run of the demo.
final class Demo {
    let output: URL
    let data: URL
    let log: URL
    let fixtures: URL
    let server: Child
    let `operator`: APIClient
    private let terminal = Terminal.shared
    private var kept = true

    init(output: URL, fixtures: URL, pipelines: URL) async throws {
        (self.output, self.fixtures) = (output, fixtures)
        data = output.appending(path: "data")
        log = output.appending(path: "server.log")
        try? FileManager.default.removeItem(at: output)  // nothing there on the first run
        try FileManager.default.createDirectory(at: output, withIntermediateDirectories: true)
        terminal.step(1, "A server with embedded defaults: SQLite, a local folder, a new root key")
        server = try Child(Companion.executable,
                           ["serve", "--data", data.path, "--port", "0", "--pipelines", pipelines.path, "--movable-clock"], log: log)
        guard let ready = server.readLine(), let base = ready.split(separator: " ").last, ready.hasPrefix("listening on http") else {
            let why = (try? String(contentsOf: log, encoding: .utf8)) ?? ""  // the log may not exist yet
            throw APIClient.Failure(description: "the server did not start: \(why)")
        }
        let token = try String(contentsOf: data.appending(path: "operator.token"), encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        `operator` = APIClient(base: String(base), token: token)
        let mode = try FileManager.default.attributesOfItem(atPath: data.appending(path: "root.key").path)[.posixPermissions] as? Int
        terminal.line("   \(base), process \(server.processIdentifier), data in \(data.path)")
        check(mode == 0o600, "the root key is readable by its owner only", String(mode ?? 0, radix: 8))
    }

    private func check(_ holds: Bool, _ what: String, _ figure: String) {
        kept = kept && holds
        terminal.check(holds, what, figure)
    }

    func run() async throws -> Bool {
        terminal.step(2, "A moderator plans two meetings, invites A, B and C, and asks for recordings of six streams each")
        let issued: IssuedToken = try await `operator`.post("/v1/tokens", TokenRequest(role: .moderator, days: 30))
        let moderator = `operator`.acting(with: issued.token)
        let names = ["A": "Anna", "B": "Björn", "C": "Chris"]
        let first = try await DemoConference(title: "Tuesday group", capture: fixtures.appending(path: "vp8.pcap"), names: names,
                                             retentionDays: 1, moderator: moderator)
        let second = try await DemoConference(title: "Thursday group", capture: fixtures.appending(path: "vp8-lipsync.pcap"), names: names,
                                              retentionDays: nil, moderator: moderator)
        for conference in [first, second] {
            for (stream, view) in zip(conference.truth.streams, conference.recording.streams) {
                guard let endpoint = view.endpoint else { continue }
                terminal.line(terminal.dim("   \(stream.participant) \(view.kind.rawValue) \(view.codec): RTP to port \(endpoint.rtpPort), RTCP \(endpoint.rtcpPort)"))
            }
        }

        terminal.step(3, "A and B read the notice and consent; C refuses")
        for conference in [first, second] {
            try await conference.decide("A", .given)
            try await conference.decide("B", .given)
            try await conference.decide("C", .refused)
        }
        let states: RecordingView = try await moderator.get("/v1/recordings/\(first.recording.id)")
        let open = states.streams.filter(\.recording).count
        check(open == 4, "gates open for A and B only", "\(open) of \(states.streams.count) streams")

        terminal.step(4, "Another process sends the captured packets of both meetings, at their original timing")
        let shifts = try await replay([first, second])

        terminal.step(5, "Stop; the queue runs the pipeline")
        for conference in [first, second] {
            let _: RecordingView = try await moderator.post("/v1/recordings/\(conference.recording.id)/stop")
        }
        let (done, doneSecond) = (try await rendered(first), try await rendered(second))

        terminal.step(6, "A downloads through a grant; nobody else can")
        let _: RecordingView = try await moderator.post("/v1/recordings/\(first.recording.id)/release")
        let _: RecordingView = try await moderator.post("/v1/recordings/\(second.recording.id)/release")
        let files = try await download(first, into: output.appending(path: "check"), everyKind: true)

        terminal.step(7, "The promises, measured")
        try await measure(first, done, files, shift: shifts[0])
        try search(first)

        terminal.step(8, "The clock moves past the first recording's expiry")
        try await expire(first, second)

        terminal.step(9, "What stays: the second meeting, expiring \(Date(timeIntervalSince1970: doneSecond.expiresAt).formatted(.iso8601.year().month().day()))")
        try await keep(second)
        try? FileManager.default.removeItem(at: output.appending(path: "check"))  // the first recording has expired here too
        return kept
    }

    /// Replays all captures at once; by how many seconds each capture's wall times were moved.
    private func replay(_ conferences: [DemoConference]) async throws -> [Double] {
        var running: [(conference: DemoConference, child: Child)] = []
        for conference in conferences {
            running.append((conference, try Child(Companion.executable, ["replay", conference.capture.path, "--machine"] + conference.replayMap)))
        }
        let board = ProgressBoard(names: conferences.map(\.title))
        return try await withThrowingTaskGroup(of: (Int, Double).self) { group in
            for (place, (conference, child)) in running.enumerated() {
                group.addTask {
                    try await BlockingWork.onThread(named: "replay-\(place)") {
                        var shift = 0.0
                        while let line = child.readLine() {
                            let words = line.split(separator: " ")
                            if words.first == "shift", words.count == 2 { shift = Double(words[1]) ?? 0 }
                            if words.first == "progress", words.count == 3 { board.set(place, Double(words[1]) ?? 0, "\(words[2]) packets") }
                        }
                        guard child.wait() == 0 else { throw APIClient.Failure(description: "replaying \(conference.capture.lastPathComponent) failed") }
                        return (place, shift)
                    }
                }
            }
            var shifts = [Double](repeating: 0, count: conferences.count)
            for try await (place, shift) in group { shifts[place] = shift }
            terminal.settle()
            return shifts
        }
    }

    /// Waits until a recording's pipeline has run, showing its stages.
    private func rendered(_ conference: DemoConference) async throws -> RecordingView {
        terminal.line("   " + conference.title)
        defer { terminal.settle() }
        while true {
            let view: RecordingView = try await conference.moderator.get("/v1/recordings/\(conference.recording.id)")
            terminal.bars(view.progress.map { ($0.stage, $0.progress, $0.state) })
            switch view.state {
            case .ready: return view
            case .failed: throw APIClient.Failure(description: "the pipeline failed: \(view.problems.joined(separator: "; "))")
            default: try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    /// Downloads A's renditions in ranges; the files by kind and container.
    private func download(_ conference: DemoConference, into folder: URL, everyKind: Bool) async throws -> [(view: RenditionView, file: URL)] {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        guard let anna = conference.people["A"]?.client, let chris = conference.people["C"]?.client else { return [] }
        let grant: GrantView = try await anna.post("/v1/recordings/\(conference.recording.id)/grants", GrantRequest(purpose: nil, hours: 1))
        let holder = anna.acting(with: grant.token)
        let renditions: [RenditionView] = try await holder.get("/v1/recordings/\(conference.recording.id)/renditions")
        var files: [(RenditionView, URL)] = []
        for rendition in renditions where everyKind || rendition.kind == "composite" {
            let path = "/v1/renditions/\(rendition.id)/content"
            let head = try await holder.raw(.HEAD, path)
            let half = rendition.bytes / 2
            let start = try await holder.raw(.GET, path, headers: [("Range", "bytes=0-\(half - 1)")])
            let rest = try await holder.raw(.GET, path, headers: [("Range", "bytes=\(half)-"), ("If-Range", head.headers.first(name: "ETag") ?? "")])
            let whole = start.body + rest.body
            let file = folder.appending(path: "\(rendition.kind)-\(files.count).\(rendition.container)")
            try whole.write(to: file)
            files.append((rendition, file))
            check(head.status == 200 && start.status == 206 && rest.status == 206 && whole.count == rendition.bytes,
                  "A downloads the \(rendition.kind) (\(rendition.container)) in two ranges", "\(whole.count) bytes")
        }
        guard everyKind, let one = renditions.first else { return files }
        let path = "/v1/renditions/\(one.id)/content"
        let answers = (nobody: try await APIClient(base: holder.base, token: nil).raw(.GET, path).status,
                       chris: try await chris.raw(.GET, path).status,
                       guessed: try await holder.acting(with: "no-such-token").raw(.GET, path).status,
                       operator: try await `operator`.raw(.GET, path).status,
                       chrisGrant: try await chris.raw(.POST, "/v1/recordings/\(conference.recording.id)/grants", body: Data("{}".utf8)).status)
        check(answers.nobody == 401 && answers.guessed == 401, "without a token, or with a guessed one", "\(answers.nobody), \(answers.guessed)")
        check(answers.chris == 403 && answers.chrisGrant == 403, "C, who shares nothing", "\(answers.chris), a grant \(answers.chrisGrant)")
        check(answers.operator == 403, "the operator", "\(answers.operator)")
        return files
    }

    private func measure(_ conference: DemoConference, _ done: RecordingView, _ files: [(view: RenditionView, file: URL)], shift: Double) async throws {
        guard let composite = files.first(where: { $0.view.kind == "composite" }) else {
            check(false, "there is a composite", "none")
            return
        }
        let judgement = try Judgement(file: composite.file, width: composite.view.width ?? 1280, height: composite.view.height ?? 720, frameRate: 25,
                                      startWall: composite.view.startWall, shift: shift, truth: conference.truth, expected: ["A", "B"], absent: ["C"])
        let contained = Set(composite.view.contains)
        check(contained == Set(["A", "B"].compactMap { conference.people[$0]?.id }), "the catalog says whose media it contains", "A, B")
        for (letter, person) in judgement.people.sorted(by: { $0.key < $1.key }) {
            check(person.seen >= 0.99, "\(letter) is seen while their packets come", String(format: "%.1f %%", person.seen * 100))
            check(person.heard >= 0.99, "\(letter) is heard when they sound", String(format: "%.1f %%", person.heard * 100))
            let p95 = person.lipSyncP95 ?? .infinity
            check(p95 <= 40, "\(letter)'s lip sync against the source's own", String(format: "median %+.1f ms, p95 %.1f ms (limit 40)", person.lipSyncMedian ?? .nan, p95))
        }
        for (letter, count) in judgement.strangersSeen { check(count == 0, "\(letter) is seen nowhere", "\(count) of \(judgement.pictures) pictures") }
        for (letter, level) in judgement.strangersHeardDB { check(level <= -40, "\(letter)'s tone is heard nowhere", String(format: "at most %.0f dB of a normal tone", level)) }
        let sent = conference.truth.people.filter { ["A", "B"].contains($0.key) }.values
        let span = (sent.compactMap(\.frames.last?.wall).max() ?? 0) - (sent.compactMap(\.frames.first?.wall).min() ?? 0)
        check(abs(judgement.seconds - composite.view.duration) < 0.1 && abs(judgement.seconds - span) < 1.5, "duration",
              String(format: "%.2f s, the API says %.2f, A and B were there for %.2f", judgement.seconds, composite.view.duration, span))
    }

    private func search(_ conference: DemoConference) throws {
        var mine: [[UInt8]] = [], others: [[UInt8]] = []
        let ports = Dictionary(uniqueKeysWithValues: conference.truth.streams.map { ($0.rtpPort, $0.participant) })
        try CapturedPayloads.read(conference.capture) { port, payload in
            guard let letter = ports[port] else { return }
            if letter == "C" { mine.append(payload) } else { others.append(payload) }
        }
        let search = PayloadSearch(payloads: mine, others: others)
        let outcome = try search.search(data)
        check(outcome.hits.isEmpty && search.pieces > 1000, "no 16-byte piece of C's payloads anywhere in the data",
              "\(outcome.hits.count) of \(search.pieces) pieces in \(outcome.files) files, \(outcome.bytes) bytes, database and WAL included")
        let open = PayloadSearch(payloads: others, others: [])
        let readable = try open.search(data)
        check(readable.hits.isEmpty, "nor any of A's and B's: everything is sealed", "\(readable.hits.count) of \(open.pieces) pieces")
        let plain = try PlaintextSearch.search(data)
        check(plain.isEmpty, "no plaintext media under the data", plain.isEmpty ? "no mark of Matroska, MP4, Ogg, JPEG or pcap" : plain.joined(separator: ", "))
    }

    private func expire(_ first: DemoConference, _ second: DemoConference) async throws {
        let folder = data.appending(path: "recordings/\(first.recording.id)")
        let before = FileManager.default.subpaths(atPath: folder.path)?.count ?? 0
        let clock: ClockView = try await `operator`.post("/v1/clock", ["advance_seconds": 2 * 86_400.0])
        terminal.line("   it is now \(Date(timeIntervalSince1970: clock.now).formatted(.iso8601)); \(before) files and folders were there")
        var status = 0
        for _ in 0..<100 {
            status = try await first.moderator.raw(.GET, "/v1/recordings/\(first.recording.id)").status
            if status == 410, !FileManager.default.fileExists(atPath: folder.path) { break }
            try await Task.sleep(for: .milliseconds(200))
        }
        check(status == 410, "the recording is gone", "\(status)")
        check(!FileManager.default.fileExists(atPath: folder.path), "its files are gone", folder.lastPathComponent.prefix(12) + "… does not exist")
        let other = try await second.moderator.raw(.GET, "/v1/recordings/\(second.recording.id)").status
        check(other == 200, "the second recording is still there", "\(other)")
        let receipt: ReceiptView = try await first.moderator.get("/v1/recordings/\(first.recording.id)/receipt")
        check(!receipt.objects.isEmpty && receipt.objects.allSatisfy { $0.keyDestroyedAt <= $0.unlinkedAt }, "the receipt: keys first, then files",
              "\(receipt.objects.count) objects, audit entry \(receipt.auditEntry)")
        for object in receipt.objects {
            terminal.line(terminal.dim("     \(object.id.prefix(26))… key \(object.keyFingerprint.prefix(16))… sha256 \(object.ciphertextSha256.prefix(16))…"))
        }
    }

    private func keep(_ conference: DemoConference) async throws {
        let files = try await download(conference, into: output, everyKind: false)
        let timeline: TimelineView = try await conference.moderator.get("/v1/recordings/\(conference.recording.id)/timeline")
        let picture = output.appending(path: "timeline.svg")
        try Data(TimelinePicture(timeline: timeline, unrecorded: ["Chris"]).svg().utf8).write(to: picture)
        for (_, file) in files {
            let playable = output.appending(path: "meeting.mp4")
            try FileManager.default.moveItem(at: file, to: playable)
            terminal.line("   the recording  " + terminal.bold(playable.path))
        }
        terminal.line("   its timeline   " + terminal.bold(picture.path))
    }
}
