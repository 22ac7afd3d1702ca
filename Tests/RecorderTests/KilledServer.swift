import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import JobQueue
import Media
@testable import Recorder
import SealedFile
import TestSupport

/// A data folder with two released recordings of A, B and C, copied for each kill; and what must hold of it whatever was killed when.
///
/// `first` is the one that something happens to, `second` the one that nothing may happen to.
final class KilledServer: Sendable {
    struct Broken: Error, CustomStringConvertible { var description: String }

    let folder: TemporaryFolder
    let first, second: RecordingID
    let people: [String: ParticipantID]
    let firstTracks: [String]
    /// Wrapped keys as they were, by id.
    let wrapped: [String: Data]
    /// SHA-256 of every sealed file as it was, by path.
    let sealed: [String: String]

    static let tokens = ["moderator": "moderator-token-of-the-kill-tests", "A": "token-of-anna-in-the-kill-tests", "B": "token-of-bert-in-the-kill-tests"]

    var base: URL { folder.url.appending(path: "base") }
    var data: URL { folder.url.appending(path: "data") }
    var restored: URL { folder.url.appending(path: "restored") }
    var report: String { folder.path + "/report" }
    private var arm: String { folder.path + "/armed" }

    init() async throws {
        let rights = try Rights()
        let first = try await rights.imported(["A": [.audio], "B": [.audio], "C": [.audio]])
        let second = try await rights.imported(["A": [.audio], "B": [.audio]])
        let recorder = rights.recorder
        for made in [first, second] { _ = try await recorder.control(made.id, .release, as: rights.moderator) }
        let now = recorder.clock.now
        try await recorder.catalog.write { db in
            try db.execute(sql: "UPDATE recording SET expires_at = ? WHERE id = ?", arguments: [(now + .seconds(86_400)).nanoseconds, first.id.rawValue])
            for (name, token) in Self.tokens {
                let person = first.people[name]
                try AccessTokenRecord(hash: AccessToken.hash(token), role: person == nil ? "moderator" : "participant", subject: person?.rawValue ?? "moderator", participant: person?.rawValue,
                                      meeting: person == nil ? nil : first.meeting.rawValue, createdAt: now.nanoseconds, expiresAt: (now + .seconds(9_000_000)).nanoseconds).insert(db)
            }
        }
        _ = try await recorder.provideOperatorToken()
        firstTracks = try await recorder.catalog.read { try $0.streams(of: first.id.rawValue).filter { $0.stream.kind == "audio" }.map(\.stream.track) }
        await recorder.shutDown()
        folder = try TemporaryFolder()
        (self.first, self.second, people) = (first.id, second.id, first.people)
        let base = folder.url.appending(path: "base")
        try FileManager.default.moveItem(at: rights.data, to: base)
        wrapped = try Self.wrapped(base)
        sealed = try Self.sealed(base)
    }

    // MARK: What is there

    static func wrapped(_ data: URL) throws -> [String: Data] {
        try DatabaseQueue(path: data.appending(path: "keys.sqlite").path).read { db in
            Dictionary(uniqueKeysWithValues: try Row.fetchAll(db, sql: "SELECT id, wrapped FROM wrapped_key").map { ($0["id"], $0["wrapped"]) })
        }
    }

    static func sealed(_ data: URL) throws -> [String: String] {
        var sums: [String: String] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: data.appending(path: "recordings").path) {
            let descriptor = open(data.appending(path: "recordings/\(name)").path, O_RDONLY)
            defer { close(descriptor) }
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
            sums[name] = try DescriptorIO.sha256(descriptor)
        }
        return sums
    }

    func renew() throws {
        for url in [data, restored] where FileManager.default.fileExists(atPath: url.path) { try FileManager.default.removeItem(at: url) }
        if FileManager.default.fileExists(atPath: arm) { try FileManager.default.removeItem(atPath: arm) }
        try FileManager.default.copyItem(at: base, to: data)
    }

    // MARK: Running

    /// Runs the program; killed before its call `at` on a file below `folder` (0: never), counted at once. Gives back status and output.
    func run(_ arguments: [String], killedAt at: Int? = nil, below folder: URL? = nil) throws -> (status: Int32, output: String) {
        let program = Checkout.program("mitschnitt")
        let child = try Spawned(at == nil ? program : Checkout.program("syscall-kill"), (at.map { [(folder ?? data).path, "\($0)", "-", report, program] } ?? []) + arguments, withErrors: true)
        let output = String(decoding: child.readAll(), as: UTF8.self)
        return (child.wait(), output)
    }

    /// How many calls the last run under the eye of `syscall-kill` made, and the last of them.
    func counted() throws -> (count: Int, last: String) {
        let lines = try String(contentsOfFile: report, encoding: .utf8).split(separator: "\n")
        return (lines.count, lines.last.map(String.init) ?? "none")
    }

    /// A server on a data folder.
    final class Server: Sendable {
        let process: Spawned
        let base: String

        /// `under`: what `syscall-kill` is told before the program; nil without it.
        init(_ data: URL, under words: [String]?, pipelines: URL = Checkout.pipelines, _ more: [String] = []) throws {
            let arguments = ["serve", "--data", data.path, "--port", "0", "--pipelines", pipelines.path, "--log-level", "critical", "--movable-clock"] + more
            let program = Checkout.program("mitschnitt")
            process = try Spawned(words == nil ? program : Checkout.program("syscall-kill"), (words.map { $0 + [program] } ?? []) + arguments, withErrors: true)
            let line = process.readLine()
            guard line.hasPrefix("listening on ") else {
                let rest = String(decoding: process.readAll(), as: UTF8.self)
                throw Broken(description: "the server did not start: \(line) \(rest) (\(process.wait()))")
            }
            base = String(line.dropFirst("listening on ".count))
        }

        /// Nil where there was no answer.
        func call(_ method: String, _ path: String, _ token: String, _ body: String? = nil) throws -> (status: Int, body: Data)? {
            let curl = try Spawned("/usr/bin/curl", ["-s", "-m", "30", "-X", method, "-H", "Authorization: Bearer \(token)", "-w", "\n%{http_code}", base + path]
                + (body.map { ["-H", "Content-Type: application/json", "-d", $0] } ?? []))
            let answer = curl.readAll()
            guard curl.wait() == 0, let cut = answer.lastIndex(of: 10), let status = Int(String(decoding: answer[(cut + 1)...], as: UTF8.self)), status > 0 else { return nil }
            return (status, answer[..<cut])
        }

        func stop() {
            if process.isRunning { kill(process.processIdentifier, SIGTERM) }
            process.wait()
        }
    }

    func server(_ data: URL, killedAt at: Int? = nil) throws -> Server { try Server(data, under: at.map { [data.path, "\($0)", arm, report] }) }
    func startCounting() { _ = FileManager.default.createFile(atPath: arm, contents: nil) }

    /// Polls until something holds; false where the server died or a minute went by.
    func wait(_ server: Server, until holds: () throws -> Bool) throws -> Bool {
        let end = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < end {
            if try holds() { return true }
            if !server.process.isRunning { return false }
            usleep(100_000)
        }
        return false
    }

    // MARK: What must hold

    /// Everything that does not depend on what happened: no key, file or temporary that belongs to nothing, a log that verifies, the second
    /// recording as it was, and what was destroyed nowhere.
    func check(_ data: URL, destroyed: [String]) throws {
        func need(_ holds: Bool, _ what: String) throws { if !holds { throw Broken(description: what) } }
        let keys = try Self.wrapped(data), files = try Self.sealed(data)
        let catalog = try DatabaseQueue(path: data.appending(path: "catalog.sqlite").path)
        let (wantedKeys, wantedFiles) = try catalog.read { db -> (Set<String>, Set<String>) in
            let recordings = try String.fetchAll(db, sql: "SELECT id FROM recording WHERE state <> 'erased'")
            let renditions = try Row.fetchAll(db, sql: "SELECT rendition.id, recording FROM rendition WHERE state = 'ready'").map { ($0["id"] as String, $0["recording"] as String) }
            let tracks = try Row.fetchAll(db, sql: "SELECT track, recording FROM stream JOIN recording ON recording.id = recording WHERE recording.state <> 'erased' AND verdict IS NOT 'erased'")
                .map { ($0["track"] as String, $0["recording"] as String) }
            return (Set(recordings.map { "recording:\($0)" } + renditions.map { "rendition:\($0.0)" } + tracks.map { "track:\($0.0)" }),
                    Set((renditions + tracks).map { "\($0.1)/artifacts/\($0.0).sealed" }))
        }
        try need(Set(keys.keys) == wantedKeys, "keys without a row, or rows without a key: \(Set(keys.keys).symmetricDifference(wantedKeys).sorted())")
        let artifacts = Set(files.keys.filter { $0.contains("/artifacts/") })
        try need(artifacts.isSubset(of: wantedFiles), "files without a row: \(artifacts.subtracting(wantedFiles).sorted())")
        for (path, sum) in sealed where path.hasPrefix(second.rawValue) { try need(files[path] == sum, "\(path) of the other recording changed") }
        for id in destroyed {
            try need(keys[id] == nil, "\(id) is still there")
            let object = String(id.split(separator: ":")[1])
            try need(files.keys.allSatisfy { !$0.contains(object) }, "ciphertext of \(id) is still there")
        }
        let searched = destroyed.compactMap { wrapped[$0] }
        for name in try FileManager.default.subpathsOfDirectory(atPath: data.path) {
            let file = URL(filePath: name).lastPathComponent
            try need(!file.hasPrefix(".") && !file.hasSuffix(".new") && !file.hasSuffix("-journal") && file != Restore.unfinished, "\(name) was left")
            try need(!name.hasPrefix("tmp/"), "\(name) was left")
            guard let bytes = FileManager.default.contents(atPath: data.appending(path: name).path) else { continue }
            for key in searched { try need(bytes.range(of: key) == nil, "a destroyed key is in \(name)") }
        }
        let verified = try run(["audit", "verify", data.path])
        try need(verified.status == 0, "the audit log does not verify: \(verified.output)")
        let opens = try run(["keys", "check", "--data", data.path])
        try need(opens.status == 0, "keys do not open: \(opens.output)")
    }

    /// The other tracks of the first recording, bit for bit.
    func checkOthers(_ data: URL, but erased: String) throws {
        let files = try Self.sealed(data)
        for (path, sum) in sealed where path.hasPrefix(first.rawValue) && firstTracks.contains(where: path.contains) && !path.contains(erased) {
            guard files[path] == sum else { throw Broken(description: "\(path) of the others changed") }
        }
    }

    func entries(_ action: String, of recording: RecordingID, in data: URL) throws -> Int {
        try DatabaseQueue(path: data.appending(path: "catalog.sqlite").path).read { db in
            try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM audit_event WHERE action = ? AND object = ?", arguments: [action, recording.rawValue]) ?? 0
        }
    }
}
