import Foundation
import Glibc
import Media
@testable import Recorder
import SealedFile
import TestSupport
import Testing

@Suite("Tampered downloads", .serialized)
struct TamperedDownloadTests {
    /// curl's exit status, the HTTP status and the body; a transfer that ended short has an exit status of its own.
    private func fetch(_ url: String, range: String? = nil) throws -> (exit: Int32, status: Int, body: Data) {
        let folder = try TemporaryFolder()
        let curl = try Spawned("/usr/bin/curl", ["-s", "-m", "30", "-H", "Authorization: Bearer \(KilledServer.tokens["B"]!)", "-o", folder.path + "/body", "-w", "%{http_code}"] + (range.map { ["-r", $0] } ?? []) + [url])
        let status = Int(String(decoding: curl.readAll(), as: UTF8.self)) ?? 0
        return (curl.wait(), status, FileManager.default.contents(atPath: folder.path + "/body") ?? Data())
    }

    @Test("a tampered version is never served to a clean end: not one wrong byte leaves, and the connection is reset")
    func reset() async throws {
        let killed = try await KilledServer()
        try killed.renew()
        let server = try killed.server(killed.data)
        defer { server.stop() }
        let answer = try server.call("GET", "/v1/recordings/\(killed.first)/renditions", KilledServer.tokens["B"]!)
        let list = try JSONSerialization.jsonObject(with: answer?.body ?? Data()) as? [[String: Any]] ?? []
        let mix = try #require(list.max { ($0["bytes"] as? Int ?? 0) < ($1["bytes"] as? Int ?? 0) })
        let id = try #require(mix["id"] as? String), length = try #require(mix["bytes"] as? Int)
        let url = "\(server.base)/v1/renditions/\(id)/content"
        let whole = try fetch(url)
        #expect(whole.exit == 0 && whole.status == 200 && whole.body.count == length && length > 1 << 16)
        let path = killed.data.appending(path: "recordings/\(killed.first)/artifacts/\(id).sealed")
        let sealed = try Data(contentsOf: path)
        var random = Seeded(51)
        func check(_ bytes: Data, _ what: String) throws {
            try bytes.write(to: path)
            for range in [nil, "0-", "0-\(length - 1)"] {
                let found = try fetch(url, range: range)
                let isClean = found.exit == 0 && (200...299).contains(found.status)
                #expect(!isClean, "\(what) was served to the end")
                #expect(found.status >= 400 || whole.body.starts(with: found.body), "\(what): a wrong byte left")
            }
        }
        for region in [0..<80, 80..<65_632, 65_632..<sealed.count] {
            for _ in 0..<3 {
                var bytes = sealed
                bytes[Int.random(in: region, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                try check(bytes, "a flipped bit")
            }
        }
        try check(sealed.prefix(65_632), "a cut file")
        try check(sealed + sealed.suffix(100), "an extended file")
        try check(sealed.prefix(80) + sealed.suffix(from: 65_632), "a file without its first chunk")
        let other = try #require(killed.sealed.keys.first { $0.hasPrefix("\(killed.first)/artifacts/") && !$0.contains(id) })
        try check(Data(contentsOf: killed.base.appending(path: "recordings/\(other)")), "another file")
        try check(Data(), "an empty file")
        try sealed.write(to: path)
        #expect(try fetch(url).body == whole.body)
    }
}
