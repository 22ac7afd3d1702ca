import Foundation
import Glibc
import Recorder
import Synchronization
import TestSupport

/// `mitschnitt serve` as it is shipped, in a process of its own, on a data folder that it keeps over kills and restarts.
///
/// Proof of `@unchecked`: the suite is serialized; nothing else starts, ends or asks a server.
final class Server: @unchecked Sendable {
    let folder: TemporaryFolder
    var data: URL
    private(set) var base = ""
    /// What a restart is to be told beside where its data is.
    var environment: [String: String]
    private let pipelines: URL
    private let isClockMovable: Bool
    private var process: Process?
    /// A restarted server's clock is the machine's again: it is moved as far as before.
    private var moved = 0.0

    struct NotStarted: Error, CustomStringConvertible {
        var description: String
    }

    /// Makes the folder and starts. `data`: a folder that is there already.
    init(data: URL? = nil, pipelines: URL = Pipelines.folder, environment: [String: String] = [:], isClockMovable: Bool = true) async throws {
        folder = try TemporaryFolder()
        self.data = data ?? folder.url.appending(path: "data")
        (self.pipelines, self.environment, self.isClockMovable) = (pipelines, environment, isClockMovable)
        try FileManager.default.createDirectory(at: folder.url.appending(path: "tmp"), withIntermediateDirectories: true)
        Remains.note(folder: folder.path)
        try await start()
    }

    deinit { kill() }

    var log: URL { folder.url.appending(path: "server.log") }

    func start() async throws {
        let process = Process()
        process.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        process.arguments = ["serve", "--data", data.path, "--port", "0", "--pipelines", pipelines.path, "--log-level", "info"] + (isClockMovable ? ["--movable-clock"] : [])
        process.environment = ProcessInfo.processInfo.environment.merging(["TMPDIR": folder.path + "/tmp"]) { $1 }.merging(environment) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        if !FileManager.default.fileExists(atPath: log.path) { _ = FileManager.default.createFile(atPath: log.path, contents: nil) }
        let errors = try FileHandle(forWritingTo: log)
        try errors.seekToEnd()
        process.standardError = errors
        try process.run()
        Remains.note(process: process.processIdentifier)
        var line = ""
        while !line.hasSuffix("\n"), let byte = try pipe.fileHandleForReading.read(upToCount: 1), !byte.isEmpty { line += String(decoding: byte, as: UTF8.self) }
        guard line.hasPrefix("listening on http") else {
            process.waitUntilExit()
            throw NotStarted(description: try String(contentsOf: log, encoding: .utf8))
        }
        base = line.replacing("listening on ", with: "").trimmingCharacters(in: .whitespacesAndNewlines)
        self.process = process
        if moved > 0 { _ = try await raw(advance: moved) }
    }

    /// Pulls the plug.
    func kill() { end(SIGKILL) }

    func stop() { end(SIGTERM) }

    private func end(_ signal: Int32) {
        guard let process, process.isRunning else { return }
        Glibc.kill(process.processIdentifier, signal)
        process.waitUntilExit()
        self.process = nil
    }

    func restart() async throws {
        stop()
        try await start()
    }

    /// With the operator's token, which lies in the data folder.
    func `operator`() throws -> Client {
        Client(self, token: try String(contentsOf: data.appending(path: "operator.token"), encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines))
    }

    func issue(_ role: Principal.Role) async throws -> Client {
        let issued: IssuedToken = try await `operator`().post("/v1/tokens", TokenRequest(role: role, days: 365))
        return Client(self, token: issued.token)
    }

    /// What time it is there.
    func now() async throws -> Double { try await raw(advance: 0).now }

    @discardableResult
    func advance(_ seconds: Double) async throws -> Double {
        moved += seconds
        return try await raw(advance: seconds).now
    }

    /// Moves the clock to a moment that has not come yet.
    func advance(to moment: Double) async throws {
        let now = try await now()
        if moment > now { try await advance(moment - now) }
    }

    private func raw(advance seconds: Double) async throws -> ClockView { try await `operator`().post("/v1/clock", ["advance_seconds": seconds]) }
}

/// Processes and folders that outlive a static value: they go with the test process.
enum Remains {
    private static let all = Mutex((processes: [Int32](), folders: [String](), isRegistered: false))

    static func note(process: Int32) { note { $0.processes.append(process) } }
    static func note(folder: String) { note { $0.folders.append(folder) } }

    private static func note(_ body: (inout (processes: [Int32], folders: [String], isRegistered: Bool)) -> Void) {
        all.withLock { all in
            body(&all)
            guard !all.isRegistered else { return }
            all.isRegistered = true
            atexit { Remains.remove() }
        }
    }

    private static func remove() {
        let (processes, folders, _) = all.withLock { $0 }
        // Only children that were not waited for yet: an id that was given to somebody else is no child of ours.
        for process in processes where waitpid(process, nil, WNOHANG) == 0 { kill(process, SIGKILL) }
        for folder in folders { try? FileManager.default.removeItem(atPath: folder) }  // in the system's temporary folder
    }
}

/// A program run to its end.
@discardableResult
func run(_ program: String, _ arguments: [String], in folder: URL? = nil, environment: [String: String]? = nil) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [program] + arguments
    if let environment { process.environment = environment }
    if let folder { process.currentDirectoryURL = folder }
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, output)
}

@discardableResult
func mitschnitt(_ arguments: [String], in folder: URL? = nil, environment: [String: String]? = nil) throws -> (status: Int32, output: String) {
    try run(Checkout.program("mitschnitt"), arguments, in: folder, environment: environment)
}

/// Asks until it is so; after a minute it is not.
func eventually(_ what: String, _ body: () async throws -> Bool) async throws {
    let begin = ContinuousClock.now
    while try await !body() {
        guard ContinuousClock.now - begin < .seconds(60) else { throw Server.NotStarted(description: "after a minute still not: \(what)") }
        try await Task.sleep(for: .milliseconds(20))
    }
}
