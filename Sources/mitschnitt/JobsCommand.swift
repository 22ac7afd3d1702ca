import ArgumentParser
import AsyncHTTPClient
import Foundation
import Media
import NIOCore
import NIOHTTP1
import Recorder

/// The running server's queue.
struct JobsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jobs", abstract: "Look at the queue of a running server, and steer it.",
        discussion: """
            A job is blocked (waits for others), available, running, done, failed (the reason in words), quarantined (it took its process down three
            times) or cancelled. Failed and quarantined ones are tried again with `retry`. Pausing stops claiming; what runs goes on to its end.
            """,
        subcommands: [List.self, Show.self, Watch.self, Retry.self, Cancel.self, Pause.self, Resume.self], defaultSubcommand: List.self)

    /// Where the server is, and by what right.
    struct Server: ParsableArguments {
        @Option(help: "Address of the server.") var server = "http://127.0.0.1:8080"
        @Option(help: "The server's data folder, for the operator's token in it.") var data = "data"
        @Flag(help: "As JSON, like the API.") var json = false

        func client() throws -> APIClient {
            let file = URL(filePath: data).appending(path: "operator.token")
            if let token = ProcessInfo.processInfo.environment["MITSCHNITT_TOKEN"] { return APIClient(base: server, token: token) }
            guard let token = try? String(contentsOf: file, encoding: .utf8) else {  // the error below says which file
                throw CommandError(what: "the operator's token cannot be read from \(file.path)", hint: "give the server's data folder with --data, or the token in MITSCHNITT_TOKEN")
            }
            return APIClient(base: server, token: token.trimmingCharacters(in: .whitespacesAndNewlines))
        }

        /// Asks, and explains in words what went wrong.
        func ask<Answer>(_ body: (APIClient) async throws -> Answer) async throws -> Answer {
            let client = try client()
            do {
                return try await body(client)
            } catch let error as APIClient.Failure {
                throw CommandError(what: error.problem?.detail ?? error.problem?.title ?? error.description, hint: error.problem?.hint)
            } catch let error as CommandError {
                throw error
            } catch {
                throw CommandError(what: "\(server) does not answer: \(Self.words(error))", hint: "is the server running there? Give its address with --server")
            }
        }

        private static func words(_ error: any Error) -> String {
            let text = "\(error)"
            return text.contains("ECONNREFUSED") || text.contains("Connection refused") ? "the connection is refused" : text
        }

        func show(_ view: some Encodable, _ text: () -> Void) throws {
            guard json else { return text() }
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
            print(String(decoding: try encoder.encode(view), as: UTF8.self))
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The newest jobs, and how many there are in each state.")
        @OptionGroup var server: Server
        @Option(help: ArgumentHelp("Only those in these states, separated by commas: failed,quarantined.", valueName: "states")) var state: String?

        func run() async throws {
            let query = state.map { "?state=" + ($0.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(.init(charactersIn: ","))) ?? "") } ?? ""
            let view: JobListView = try await server.ask { try await $0.get("/v1/jobs" + query) }
            try server.show(view) {
                for lane in view.lanes { print(JobLines.lane(lane)) }
                if !view.paused.isEmpty { print("paused: " + view.paused.joined(separator: ", ")) }
                for line in JobLines.table(view.jobs) { print(line) }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One job in full.")
        @OptionGroup var server: Server
        @Argument(help: "The job's id, or how it begins.") var id: String

        func run() async throws {
            let job: JobView = try await server.ask { try await $0.get("/v1/jobs/\(try await JobsCommand.find(id, $0))") }
            try server.show(job) { print(JobLines.full(job)) }
        }
    }

    struct Watch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What runs, as it goes on, with an estimate of the end.")
        @OptionGroup var server: Server

        func run() async throws {
            // On a terminal each state takes the place of the one before it; a file gets them one below the other.
            var shown = 0
            try await server.ask { client in
                try await client.events("/v1/jobs/events") { data in
                    let decoder = JSONDecoder()
                    decoder.keyDecodingStrategy = .convertFromSnakeCase
                    let view = try decoder.decode(QueueView.self, from: data)
                    if server.json { return print(String(decoding: data, as: UTF8.self)) }
                    if Terminal.shared.isInteractive, shown > 0 { print("\u{1B}[\(shown)A\u{1B}[0J", terminator: "") }
                    shown = 1 + view.running.count
                    let waiting = view.lanes.reduce(0) { $0 + $1.available + $1.blocked }
                    print("\(Date().formatted(.iso8601.time(includingFractionalSeconds: false)))  \(view.running.count) running, \(waiting) waiting" + (view.paused.isEmpty ? "" : ", paused: " + view.paused.joined(separator: ", ")))
                    for line in JobLines.table(view.running) { print("  " + line) }
                    fflush(nil)
                }
            }
        }
    }

    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Try a failed or quarantined job again.")
        @OptionGroup var server: Server
        @Argument(help: "The job's id, or how it begins.") var id: String
        func run() async throws { try await JobsCommand.command("retry", id, server) }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "End a job and those that wait for it; one that runs is killed.")
        @OptionGroup var server: Server
        @Argument(help: "The job's id, or how it begins.") var id: String
        func run() async throws { try await JobsCommand.command("cancel", id, server) }
    }

    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Claim nothing more: all, lane:light, lane:heavy, or kind: and a stage's kind.")
        @OptionGroup var server: Server
        @Flag(help: "Wait until nothing of the scope runs any more.") var drain = false
        @Argument(help: "What to pause.") var scope = "all"

        func run() async throws {
            var view: QueueView = try await server.ask { try await $0.post("/v1/jobs/pause", PauseRequest(scope: scope)) }
            func isOf(_ job: JobView) -> Bool { scope == "all" || scope == "lane:\(job.lane)" || scope == "kind:\(job.kind)" }
            while drain, view.running.contains(where: isOf) {
                try await Task.sleep(for: .milliseconds(500))
                view = try await server.ask { try await $0.post("/v1/jobs/pause", PauseRequest(scope: scope)) }
            }
            try server.show(view) { print("paused: " + view.paused.joined(separator: ", ") + "; " + (view.running.contains(where: isOf) ? "\(view.running.filter(isOf).count) still running" : "nothing of it runs")) }
        }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Claim again what was paused: everything, or lane:light, lane:heavy, kind: and a stage's kind.")
        @OptionGroup var server: Server
        @Argument(help: "What to resume.") var scope = "all"

        func run() async throws {
            let view: QueueView = try await server.ask { try await $0.post("/v1/jobs/resume", PauseRequest(scope: scope)) }
            try server.show(view) { print(view.paused.isEmpty ? "nothing is paused" : "still paused: " + view.paused.joined(separator: ", ")) }
        }
    }

    private static func command(_ name: String, _ id: String, _ server: Server) async throws {
        let job: JobView = try await server.ask { try await $0.post("/v1/jobs/\(try await find(id, $0))/\(name)") }
        try server.show(job) { for line in JobLines.table([job]) { print(line) } }
    }

    /// The job whose id begins so, among the newest and those that are dead.
    fileprivate static func find(_ id: String, _ client: APIClient) async throws -> String {
        try await ShortID.find(id, of: "job", hint: "mitschnitt jobs list") {
            let newest: JobListView = try await client.get("/v1/jobs"), dead: JobListView = try await client.get("/v1/jobs?state=failed,quarantined")
            return (newest.jobs + dead.jobs).map(\.id.rawValue)
        }
    }
}

/// Jobs as lines for a person.
private enum JobLines {
    static func lane(_ lane: LaneView) -> String {
        let counts = [("blocked", lane.blocked), ("available", lane.available), ("running", lane.running), ("done", lane.done), ("failed", lane.failed), ("quarantined", lane.quarantined), ("cancelled", lane.cancelled)]
        let told = counts.filter { $0.1 > 0 }.map { "\($0.1) \($0.0)" }
        return "\(lane.lane): " + (told.isEmpty ? "nothing" : told.joined(separator: ", "))
    }

    /// In columns: the id's beginning, state, kind, recording, and how far it is or what is wrong.
    static func table(_ jobs: [JobView]) -> [String] {
        let rows = jobs.map { [ShortID.of($0.id.rawValue), $0.state, $0.kind, "recording " + ShortID.of($0.recording)] }
        let widths = (0..<4).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return zip(jobs, rows).map { job, row in
            var line = zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined(separator: "  ")
            if job.state == "running" { line += "  \(Int(job.progress * 100)) %" + (job.secondsLeft.map { ", about \(duration($0)) left" } ?? "") }
            if let reason = job.reason, job.state != "done" { line += "  \(reason.prefix { $0 != "\n" })" }
            return line
        }
    }

    static func full(_ job: JobView) -> String {
        func time(_ seconds: Double) -> String { Date(timeIntervalSince1970: seconds).formatted(.iso8601) }
        var lines = ["job        \(job.id)", "kind       \(job.kind), lane \(job.lane), priority \(job.priority)", "recording  \(job.recording), run \(job.run)",
                     "state      \(job.state)" + (job.waitsFor > 0 ? ", waits for \(job.waitsFor)" : ""), "attempts   \(job.attempts): \(job.errors) errors, \(job.crashes) crashes, \(job.losses) deaths of its worker, \(job.releases) given back"]
        if job.state == "running" { lines.append("progress   \(Int(job.progress * 100)) %" + (job.secondsLeft.map { ", about \(duration($0)) left" } ?? "")) }
        if job.state == "available" { lines.append("not before \(time(job.runAfter))") }
        if let reason = job.reason {
            // Behind the first line: what the stage itself said last.
            let told = reason.split(separator: "\n")
            lines.append("reason     \(told.first ?? "")")
            lines += told.dropFirst().map { "  it said  \($0)" }
        }
        if let digest = job.pipelineDigest { lines.append("pipeline   \(digest.prefix(12))") }
        lines.append("enqueued   \(time(job.createdAt))")
        if let started = job.startedAt { lines.append("started    \(time(started))") }
        if let finished = job.finishedAt { lines.append("finished   \(time(finished))") }
        return lines.joined(separator: "\n")
    }

    private static func duration(_ seconds: Double) -> String { seconds < 90 ? "\(Int(seconds.rounded(.up))) s" : "\(Int((seconds / 60).rounded(.up))) min" }
}

extension APIClient {
    /// Most bytes of one event.
    private static let eventBytesMax = 4 << 20

    /// Reads server-sent events until the server ends them; `body` gets each one's data.
    fileprivate func events(_ path: String, _ body: (Data) throws -> Void) async throws {
        var request = HTTPClientRequest(url: base + path)
        if let token { request.headers.add(name: "Authorization", value: "Bearer \(token)") }
        let response = try await Self.http.execute(request, deadline: .distantFuture)
        guard response.status == .ok else {
            throw Failure(path, Int(response.status.code), Data(try await response.body.collect(upTo: 1 << 16).readableBytesView))
        }
        var pending: [UInt8] = []
        for try await chunk in response.body {
            pending += chunk.readableBytesView
            guard pending.count <= Self.eventBytesMax else { throw Failure(description: "\(path) sent an event longer than \(Self.eventBytesMax) bytes") }
            while let end = pending.firstRange(of: Array("\n\n".utf8)) {
                for line in pending[..<end.lowerBound].split(separator: UInt8(ascii: "\n")) where line.starts(with: Array("data: ".utf8)) { try body(Data(line.dropFirst(6))) }
                pending.removeSubrange(..<end.upperBound)
            }
        }
    }
}
