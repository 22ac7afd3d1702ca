import AsyncHTTPClient
import Foundation
import NIOCore
import NIOFoundationCompat
import NIOHTTP1

/// A server that was started with its output in a file, as the platform reaches it.
struct ServerClient: Sendable {
    var base: String
    var token: String

    init(base: String, token: String) { (self.base, self.token) = (base, token) }

    /// Waits until it listens.
    init(data: String, output: String) async throws {
        for _ in 0..<600 {
            // Neither file is there before the server listens.
            if let said = try? String(contentsOfFile: output, encoding: .utf8), said.hasSuffix("\n"), said.hasPrefix("listening on "),
               let token = try? String(contentsOfFile: data + "/operator.token", encoding: .utf8) {
                let first = said.split(separator: "\n")[0].dropFirst(13)
                self.init(base: String(first), token: token.trimmingCharacters(in: .whitespacesAndNewlines))
                self.token = try await call("POST", "/v1/tokens", ["role": "platform"])["token"] as? String ?? ""
                return
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw BenchFailure(description: "the server did not start: build it beside the benchmark")
    }

    func call(_ method: String, _ path: String, _ body: [String: Any]) async throws -> [String: Any] {
        var request = HTTPClientRequest(url: base + path)
        request.method = .init(rawValue: method)
        request.headers.add(name: "Authorization", value: "Bearer \(token)")
        request.headers.add(name: "Content-Type", value: "application/json")
        if method != "GET" { request.body = .bytes(ByteBuffer(data: try JSONSerialization.data(withJSONObject: body))) }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        let text = try await response.body.collect(upTo: 16 << 20)
        guard response.status.code < 300 else { throw BenchFailure(description: "\(method) \(path): \(response.status.code) \(String(buffer: text))") }
        return try JSONSerialization.jsonObject(with: Data(buffer: text)) as? [String: Any] ?? [:]
    }
}
