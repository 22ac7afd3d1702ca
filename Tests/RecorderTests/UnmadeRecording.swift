import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import Media
@testable import Recorder
import SealedFile
import Synchronization
import TestSupport

/// A data folder with a recording that is imported and whose jobs all wait, copied for each run; and what must hold of it once it is made,
/// whatever happened on the way.
final class UnmadeRecording: Sendable {
    typealias Broken = KilledServer.Broken

    /// What `syscall-kill` does to the server, or to its children, at one of their calls on files of the data folder.
    struct Fault: CustomStringConvertible {
        var children = false
        /// `EIO`, `ENOSPC`; nil: killed.
        var errno: String?
        /// It lasts until ``UnmadeRecording/relieve()``.
        var lasts = false
        /// 0: the calls are only counted.
        var at: Int

        var kind: String { "\(errno ?? "kill -9") \(lasts ? "from a call on" : "at a call") of \(children ? "the stages" : "the server")" }
        var description: String { "\(errno ?? "kill -9") \(lasts ? "from" : "at") call \(at) of \(children ? "the stages" : "the server")" }
    }

    let folder: TemporaryFolder
    let id: RecordingID
    /// One that runs beside it.
    let live: (recording: RecordingID, track: TrackID)
    /// What was decoded of a file, by the digest of its bytes.
    private let decodings = Mutex<[String: String]>([:])

    static let token = "moderator-token-of-the-unmade-recording"
    /// A's.
    static let participantToken = "token-of-anna-in-the-unmade-recording"

    private var base: URL { folder.url.appending(path: "base") }
    private var pipelines: URL { folder.url.appending(path: "pipelines") }
    private var report: String { folder.path + "/report" }
    private var relief: String { folder.path + "/relief" }
    var data: URL { folder.url.appending(path: "data") }

    /// `stages`: the pipeline's; `seconds` of the capture, of the people that consent.
    init(_ stages: String, seconds: Double, _ people: [String: [Modality]] = ["A": [.audio, .video]]) async throws {
        let folder = try TemporaryFolder()
        let pipelines = folder.url.appending(path: "pipelines")
        try FileManager.default.createDirectory(at: pipelines, withIntermediateDirectories: true)
        try ("name: small\nstages:\n" + stages).write(to: pipelines.appending(path: "small.yaml"), atomically: true, encoding: .utf8)
        let rights = try Rights { $0.pipelines = pipelines }
        let imported = try await rights.imported(people, pipeline: "small", isMade: false, seconds: seconds)
        id = imported.id
        live = try await Self.beginCapture(rights)
        let now = rights.recorder.clock.now
        try await rights.recorder.catalog.write { db in
            try AccessTokenRecord(hash: AccessToken.hash(Self.token), role: "moderator", subject: "moderator", createdAt: now.nanoseconds, expiresAt: (now + .seconds(9_000_000)).nanoseconds).insert(db)
            let anna = imported.people["A"]?.rawValue
            try AccessTokenRecord(hash: AccessToken.hash(Self.participantToken), role: "participant", subject: anna ?? "", participant: anna, meeting: imported.meeting.rawValue,
                                  createdAt: now.nanoseconds, expiresAt: (now + .seconds(9_000_000)).nanoseconds).insert(db)
        }
        _ = try await rights.recorder.provideOperatorToken()
        await rights.recorder.shutDown()
        self.folder = folder
        try FileManager.default.moveItem(at: rights.data, to: folder.url.appending(path: "base"))
    }

    func renew() throws {
        for path in [data.path, relief] where FileManager.default.fileExists(atPath: path) { try FileManager.default.removeItem(atPath: path) }
        try FileManager.default.copyItem(at: base, to: data)
    }

    // MARK: Running

    func server(_ fault: Fault? = nil) throws -> KilledServer.Server {
        let words = fault.map { fault in
            (fault.children ? ["--children"] : []) + (fault.errno.map { ["--errno=\($0)"] } ?? []) + (fault.lasts ? ["--until=\(relief)"] : []) + [data.path, "\(fault.at)", "-", report]
        }
        return try KilledServer.Server(data, under: words, pipelines: pipelines, ["--workers", "1", "--no-live"])
    }

    /// Ends a fault that lasts.
    func relieve() { _ = FileManager.default.createFile(atPath: relief, contents: nil) }

    /// The calls that the last server under a fault made, or its children: number, name, path.
    func calls() throws -> [String] { try String(contentsOfFile: report, encoding: .utf8).split(separator: "\n").map(String.init) }

    /// Whether it is ready, or failed for good; nil where there was no answer, or it is still being made.
    func end(_ server: KilledServer.Server) throws -> (isReady: Bool, problems: [String])? {
        guard let view = try view(server, id), let state = view["state"] as? String, state == "ready" || state == "failed" else { return nil }
        return (state == "ready", view["problems"] as? [String] ?? [])
    }

    /// A recording as its moderator sees it; nil where there was no answer.
    func view(_ server: KilledServer.Server, _ id: RecordingID) throws -> [String: Any]? {
        guard let answer = try server.call("GET", "/v1/recordings/\(id)", Self.token), answer.status == 200 else { return nil }
        return try JSONSerialization.jsonObject(with: answer.body) as? [String: Any]
    }

    /// Waits until it is made. Throws where the server ends first, the recording fails, or two minutes go by.
    func wait(_ server: KilledServer.Server) throws {
        for _ in 0..<2_400 {
            if let end = try end(server) {
                guard end.isReady else { throw Broken(description: "it failed: \(end.problems)") }
                return
            }
            guard server.process.isRunning else { throw Broken(description: "the server ended by itself (\(server.process.wait()))") }
            usleep(50_000)
        }
        throw Broken(description: "it was not made in two minutes: \(try jobs(server))")
    }

    /// Starts a server and lets it come to the end.
    func finish() throws {
        let server = try server()
        defer { server.stop() }
        try wait(server)
    }

    var operatorToken: String { get throws { try String(contentsOf: data.appending(path: "operator.token"), encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines) } }

    /// The queue's jobs, as its operator sees them.
    func jobs(_ server: KilledServer.Server, _ query: String = "") throws -> [JobView] {
        guard let answer = try server.call("GET", "/v1/jobs" + query, operatorToken), answer.status == 200 else { return [] }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(JobListView.self, from: answer.body).jobs
    }

    // MARK: What must hold

    /// What is decoded of each rendition, by stage and output: everything is made, once; every file and key has its row, and every row its file
    /// and key; nothing else is left; the audit log verifies. No server runs.
    func made() async throws -> [String: String] {
        let rows = try await aside { [self] in try checked() }
        let keys = try KeyStore(path: data.appending(path: "keys.sqlite").path, root: RootKey.load(path: data.appending(path: "root.key").path))
        var decoded: [String: String] = [:]
        for row in rows {
            let descriptor = open(data.appending(path: "recordings/\(id)/artifacts/\(row.id).sealed").path, O_RDONLY)
            defer { close(descriptor) }
            let key = KeyStore.rendition(RenditionID(rawValue: row.id)!)
            let reader = try SealedReader(descriptor: descriptor, key: try await keys.key(key), context: SealedContext(recording: id, object: key, modality: row.kind, part: row.output))
            let bytes = try reader.read(at: 0, count: reader.length)
            guard decoded.updateValue(try await aside { [self] in try decode(bytes) }, forKey: "\(row.stage).\(row.output)") == nil else { throw Broken(description: "\(row.stage).\(row.output) is there twice") }
        }
        return decoded
    }

    private struct Made: Sendable { var id, stage, output, kind: String }

    private func checked() throws -> [Made] {
        func need(_ holds: Bool, _ what: String) throws { if !holds { throw Broken(description: what) } }
        let (made, tracks, unfinished, workers) = try DatabaseQueue(path: data.appending(path: "catalog.sqlite").path).read { db in
            (try Row.fetchAll(db, sql: "SELECT id, stage, output, kind FROM rendition WHERE state = 'ready'").map { Made(id: $0["id"], stage: $0["stage"], output: $0["output"], kind: $0["kind"]) },
             try Row.fetchAll(db, sql: "SELECT track, file FROM stream").map { (id: $0["track"] as String, isMade: ($0["file"] as String?) != nil) },
             try String.fetchAll(db, sql: "SELECT name || ' is ' || state FROM job WHERE state <> 'done'"), try String.fetchAll(db, sql: "SELECT boot_id FROM worker"))
        }
        try need(unfinished.isEmpty && workers.isEmpty, "left in the queue: \(unfinished), workers \(workers)")
        let keys = Set(try KilledServer.wrapped(data).keys)
        let wantedKeys = Set(["recording:\(id)", "recording:\(live.recording)"] + made.map { "rendition:\($0.id)" } + tracks.map { "track:\($0.id)" })
        try need(keys == wantedKeys, "keys without a row, or rows without a key: \(keys.symmetricDifference(wantedKeys).sorted())")
        let files = Set(try FileManager.default.contentsOfDirectory(atPath: data.appending(path: "recordings/\(id)/artifacts").path))
        let wantedFiles = Set((made.map(\.id) + tracks.filter(\.isMade).map(\.id)).map { "\($0).sealed" })
        try need(files == wantedFiles, "files without a row, or rows without a file: \(files.symmetricDifference(wantedFiles).sorted())")
        for name in try FileManager.default.subpathsOfDirectory(atPath: data.path) {
            let file = URL(filePath: name).lastPathComponent
            try need(!file.hasPrefix(".") && !file.hasSuffix(".new") && !file.hasSuffix("-journal") && !name.hasPrefix("tmp/"), "\(name) was left")
        }
        let audit = try Spawned(Checkout.program("mitschnitt"), ["audit", "verify", data.path], withErrors: true)
        let words = String(decoding: audit.readAll(), as: UTF8.self)
        try need(audit.wait() == 0, "the audit log does not verify: \(words)")
        return made
    }

    /// A digest of every decoded picture and sample with its time, by another program.
    private func decode(_ bytes: [UInt8]) throws -> String {
        let (file, frames) = (folder.path + "/decoded", folder.path + "/frames")
        try Data(bytes).write(to: URL(filePath: file))
        let name = try DescriptorIO.sha256(ofFileAt: file)
        if let known = decodings.withLock({ $0[name] }) { return known }
        let program = try Spawned("/usr/bin/ffmpeg", ["-nostdin", "-v", "error", "-xerror", "-i", file, "-map", "0", "-f", "framehash", "-hash", "sha256", "-y", frames])
        guard program.wait() == 0 else { throw Broken(description: "another program does not decode it") }
        let digest = try DescriptorIO.sha256(ofFileAt: frames)
        decodings.withLock { $0[name] = digest }
        return digest
    }
}
