import AsyncHTTPClient
import Foundation
import NIOCore
import NIOFoundationCompat
import NIOHTTP1
import Recorder

/// A small client of the HTTP API, as a conference platform would write one.
struct APIClient: Sendable {
    /// `http://127.0.0.1:PORT`
    let base: String
    /// A bearer token, or none.
    var token: String?

    struct Response: Sendable {
        var status: Int
        var headers: HTTPHeaders
        var body: Data
    }

    /// An answer that was not the expected one, with the server's own words.
    struct Failure: Error, CustomStringConvertible {
        var description: String
        /// What is wrong in the server's own words, and what to do, where it said so (RFC 9457).
        var problem: Problem?

        struct Problem: Decodable, Sendable {
            var title: String?
            var detail: String?
            var hint: String?
        }

        init(description: String) { self.description = description }

        init(_ path: String, _ status: Int, _ body: Data) {
            description = "\(path) answered \(status): \(String(decoding: body.prefix(500), as: UTF8.self))"
            problem = try? JSONDecoder().decode(Problem.self, from: body)  // whatever else answers there says it as it does
        }
    }

    /// Most bytes of one answer that are read: a rendition of some hours.
    static let answerBytesMax = 2 << 30

    func acting(with token: String) -> APIClient { APIClient(base: base, token: token) }

    func raw(_ method: HTTPMethod, _ path: String, headers: [(String, String)] = [], body: Data? = nil) async throws -> Response {
        var request = HTTPClientRequest(url: base + path)
        request.method = method
        if let token { request.headers.add(name: "Authorization", value: "Bearer \(token)") }
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let body {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(data: body))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
        let bytes = method == .HEAD ? ByteBuffer() : try await response.body.collect(upTo: Self.answerBytesMax)
        return Response(status: Int(response.status.code), headers: response.headers, body: Data(buffer: bytes))
    }

    func get<Answer: Decodable>(_ path: String) async throws -> Answer { try await decoded(raw(.GET, path), path) }

    func post<Answer: Decodable>(_ path: String, _ body: some Encodable) async throws -> Answer {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return try await decoded(raw(.POST, path, body: encoder.encode(body)), path)
    }

    func post<Answer: Decodable>(_ path: String) async throws -> Answer { try await decoded(raw(.POST, path), path) }

    private func decoded<Answer: Decodable>(_ response: Response, _ path: String) throws -> Answer {
        guard (200..<300).contains(response.status) else {
            throw Failure(path, response.status, response.body)
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Answer.self, from: response.body)
    }
}
