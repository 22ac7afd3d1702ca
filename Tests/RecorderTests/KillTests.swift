import Foundation
import Glibc
import Media
@testable import Recorder
import SealedFile
import TestSupport
import Testing

/// The real program, killed before each of its state-changing system calls (`syscall-kill`); `MITSCHNITT_KILLS=all` does all of them
/// (`make torture`), otherwise a seeded few. Looking into another process's system calls needs root.
@Suite("Kill -9 before each system call", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct KillTests {
    /// Counts a scenario's calls with `body(0)`, which must hold as well, then kills before each of them, or some.
    private func kills(_ server: KilledServer, _ seed: UInt64, _ body: (Int) async throws -> Void) async throws {
        try server.renew()
        try await body(0)
        let count = try server.counted().count
        #expect(count > 10, "\(count) calls")
        var random = Seeded(seed)
        let isAll = ProcessInfo.processInfo.environment["MITSCHNITT_KILLS"] == "all"
        let places = isAll ? Array(1...max(1, count)) : (0..<3).map { _ in Int.random(in: 1...max(1, count), using: &random) }
        for place in places {
            if isAll, place % 20 == 0 { FileHandle.standardError.write(Data("\(place) of \(count)\n".utf8)) }
            try server.renew()
            do { try await body(place) } catch {
                Issue.record("killed before call \(try server.counted().last) of \(count): \(error)")
            }
        }
        if isAll { print("\(count) calls, killed before each of them") }
    }

    private func need(_ holds: Bool, _ what: String) throws { if !holds { throw KilledServer.Broken(description: what) } }

    @Test("Art. 17: killed at any call of a withdrawal with erasure: key and ciphertext gone, the others' tracks bit-identical, a version without the person made")
    func withdrawal() async throws {
        let killed = try await KilledServer()
        let (path, anna) = ("/v1/recordings/\(killed.first)", KilledServer.tokens["A"]!)
        func isMadeAgain(_ server: KilledServer.Server) throws -> Bool {
            guard let answer = try server.call("GET", path + "/renditions", KilledServer.tokens["B"]!), answer.status == 200,
                  let list = try JSONSerialization.jsonObject(with: answer.body) as? [[String: Any]], let state = try server.call("GET", path, KilledServer.tokens["B"]!),
                  let view = try JSONSerialization.jsonObject(with: state.body) as? [String: Any], view["state"] as? String == "ready" else { return false }
            return list.count == 2 && list.allSatisfy { ($0["contains"] as? [String])?.contains(killed.people["A"]!.rawValue) == false && $0["downloadable"] as? Bool == true }
        }
        func withdraw(_ server: KilledServer.Server) throws { _ = try server.call("POST", path + "/consent", anna, #"{"decision":"withdrawn"}"#) }
        try await kills(killed, 1) { at in
            let server = try killed.server(killed.data, killedAt: at)
            killed.startCounting()
            try withdraw(server)
            _ = try killed.wait(server) { try isMadeAgain(server) }
            server.stop()
            let again = try killed.server(killed.data)
            defer { if again.process.isRunning { again.stop() } }
            let answer = try again.call("GET", path + "/consent", anna)
            // Where the answer never came, and nothing was entered, the person asks once more.
            if !String(decoding: answer?.body ?? Data(), as: UTF8.self).contains("\"withdrawn\"") { try withdraw(again) }
            try need(try killed.wait(again) { try isMadeAgain(again) }, "the version without the person was not made")
            again.stop()
            let gone = "track:\(killed.firstTracks[0])"
            try killed.check(killed.data, destroyed: [gone] + killed.wrapped.keys.filter { id in id.hasPrefix("rendition:") && killed.sealed.keys.contains { $0.hasPrefix(killed.first.rawValue) && $0.contains(id.dropFirst(10)) } })
            try killed.checkOthers(killed.data, but: killed.firstTracks[0])
            try need(try killed.entries("participant.erased", of: killed.first, in: killed.data) == 1, "the erasure is not in the log exactly once")
        }
    }

    @Test("Art. 5(1)(e): killed at any call of an expiry: key absent, ciphertext gone, one receipt that verifies, nothing else touched")
    func expiry() async throws {
        let killed = try await KilledServer()
        let path = "/v1/recordings/\(killed.first)"
        let op = try String(contentsOf: killed.base.appending(path: "operator.token"), encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        func advance(_ server: KilledServer.Server) throws { _ = try server.call("POST", "/v1/clock", op, #"{"advance_seconds":86500}"#) }
        func receipt(_ server: KilledServer.Server) throws -> Data? {
            guard let answer = try server.call("GET", path + "/receipt", KilledServer.tokens["moderator"]!), answer.status == 200 else { return nil }
            return answer.body
        }
        try await kills(killed, 2) { at in
            let server = try killed.server(killed.data, killedAt: at)
            killed.startCounting()
            try advance(server)
            _ = try killed.wait(server) { try receipt(server) != nil }
            server.stop()
            let again = try killed.server(killed.data)
            defer { if again.process.isRunning { again.stop() } }
            try advance(again)
            try need(try killed.wait(again) { try receipt(again) != nil }, "no receipt came")
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let found = try decoder.decode(ReceiptView.self, from: receipt(again) ?? Data())
            try need(found.fault() == nil, "the receipt does not verify: \(found.fault() ?? "")")
            let ids = killed.wrapped.keys.filter { id in id == "recording:\(killed.first)" || killed.sealed.keys.contains { $0.hasPrefix(killed.first.rawValue) && $0.contains(id.split(separator: ":")[1]) } }
            try need(Set(ids).isSubset(of: found.objects.map(\.id)), "the receipt does not name \(Set(ids).subtracting(found.objects.map(\.id)).sorted())")
            try need(found.objects.allSatisfy { $0.keyDestroyedAt > 0 && $0.unlinkedAt >= $0.keyDestroyedAt && $0.keyFingerprint.count == 64 }, "the receipt's times or fingerprints are missing")
            again.stop()
            try killed.check(killed.data, destroyed: ids)
            try need(try killed.entries("recording.erased", of: killed.first, in: killed.data) == 1, "the erasure is not in the log exactly once")
        }
    }

    @Test("killed at any call of a rotation: the next start ends it, one root key opens everything, nothing else is touched")
    func rotation() async throws {
        let killed = try await KilledServer()
        let old = try Data(contentsOf: killed.base.appending(path: "root.key"))
        try await kills(killed, 3) { at in
            let status = try killed.run(["keys", "rotate", "--data", killed.data.path], killedAt: at).status
            try killed.server(killed.data).stop()
            try killed.check(killed.data, destroyed: [])
            let now = try Data(contentsOf: killed.data.appending(path: "root.key"))
            try need(now.count == 32 && (status != 0 || now != old), "the root key was not replaced")
            if now != old {
                for name in try FileManager.default.subpathsOfDirectory(atPath: killed.data.path) {
                    guard let bytes = FileManager.default.contents(atPath: killed.data.appending(path: name).path) else { continue }
                    try need(bytes.range(of: old) == nil, "the old root key is in \(name)")
                    for (id, key) in killed.wrapped where id.hasPrefix("recording:") { try need(bytes.range(of: key) == nil, "what the old root wrapped is in \(name)") }
                }
            }
        }
    }

    @Test("Art. 17: killed at any call of a restore: no server starts on the half, the same restore run again ends it, and what was erased since stays erased")
    func restore() async throws {
        let killed = try await KilledServer()
        // A backup of the base; then A withdraws, and the second recording is restricted.
        let backup = killed.folder.url.appending(path: "backup")
        try killed.renew()
        try killed.check(killed.data, destroyed: [])
        try need(try killed.run(["backup", "--data", killed.data.path, "--keys", backup.path + "-keys", backup.path]).status == 0, "no backup")
        let server = try killed.server(killed.data)
        _ = try server.call("POST", "/v1/recordings/\(killed.first)/consent", KilledServer.tokens["A"]!, #"{"decision":"withdrawn"}"#)
        let until = Date().timeIntervalSince1970 + 500_000
        let held = try server.call("PUT", "/v1/recordings/\(killed.second)/restriction", KilledServer.tokens["moderator"]!, #"{"reason":"legal-claims","until":\#(until)}"#)
        #expect(held?.status == 200)
        server.stop()
        let last = killed.folder.url.appending(path: "last")
        try FileManager.default.moveItem(at: killed.data, to: last)
        let command = ["restore", "--data", killed.restored.path, "--keys", backup.path + "-keys", "--root-key", last.path + "/root.key", "--ledger", last.path + "/erasures.ledger",
                       "--pipelines", Checkout.pipelines.path, backup.path]
        try await kills(killed, 4) { at in
            let first = try killed.run(command, killedAt: at, below: killed.restored)
            if first.status != 0 {
                let isHalf = FileManager.default.fileExists(atPath: killed.restored.appending(path: Restore.unfinished).path)
                if isHalf { try need((try? killed.server(killed.restored)) == nil, "a server started on half a restore") }
                let isBegun = FileManager.default.fileExists(atPath: killed.restored.appending(path: "catalog.sqlite").path)
                if isHalf || !isBegun {
                    let again = try killed.run(command)
                    try need(again.status == 0, "run again it was not finished: \(again.output)")
                }
            }
            let server = try killed.server(killed.restored)
            defer { if server.process.isRunning { server.stop() } }
            let path = "/v1/recordings/\(killed.first)"
            try need(try killed.wait(server) { String(decoding: try server.call("GET", path, KilledServer.tokens["moderator"]!)?.body ?? Data(), as: UTF8.self).contains("\"ready\"") }, "it did not become ready")
            let hold = try server.call("GET", "/v1/recordings/\(killed.second)/restriction", KilledServer.tokens["moderator"]!)
            try need(hold?.status == 200, "the restriction that was placed after the backup is gone")
            server.stop()
            try killed.check(killed.restored, destroyed: ["track:\(killed.firstTracks[0])"])
            try killed.checkOthers(killed.restored, but: killed.firstTracks[0])
            try need(try killed.entries("withdrawal.replayed", of: killed.first, in: killed.restored) == 1, "the withdrawal is not in the log exactly once")
        }
    }
}
