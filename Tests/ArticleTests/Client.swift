import AsyncHTTPClient
import Foundation
import Glibc
import NIOCore
import NIOFoundationCompat
import NIOHTTP1

/// A client of the HTTP API with a bearer token, or a browser with a session.
struct Client: Sendable {
    let server: Server
    var token: String?
    /// A signed-in browser's cookie and CSRF token.
    var session: (cookie: String, csrf: String)?

    init(_ server: Server, token: String? = nil) { (self.server, self.token) = (server, token) }

    enum Method: String, Sendable { case GET, HEAD, POST, PUT, DELETE }

    struct Answer: Sendable {
        var status: Int
        fileprivate var headers: HTTPHeaders
        var body: Data
        var text: String { String(decoding: body, as: UTF8.self) }
        func header(_ name: String) -> String { headers.first(name: name) ?? "" }
    }

    struct Unexpected: Error, CustomStringConvertible {
        var description: String
    }

    private var headers: [(String, String)] {
        var headers: [(String, String)] = []
        if let token { headers.append(("Authorization", "Bearer \(token)")) }
        if let session { headers += [("Cookie", session.cookie), ("X-CSRF-Token", session.csrf)] }
        return headers
    }

    func raw(_ method: Method, _ path: String, _ body: (some Encodable)? = nil as String?, headers more: [(String, String)] = []) async throws -> Answer {
        var request = HTTPClientRequest(url: server.base + path)
        request.method = HTTPMethod(rawValue: method.rawValue)
        for (name, value) in headers + more { request.headers.add(name: name, value: value) }
        if let body {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(data: try encoder.encode(body)))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
        let bytes = method == .HEAD ? ByteBuffer() : try await response.body.collect(upTo: 256 << 20)
        return Answer(status: Int(response.status.code), headers: response.headers, body: Data(buffer: bytes))
    }

    func status(_ method: Method, _ path: String, _ body: (some Encodable)? = nil as String?) async throws -> Int { try await raw(method, path, body).status }

    func get<Value: Decodable>(_ path: String) async throws -> Value { try await decoded(.GET, path, nil as String?) }
    func post<Value: Decodable>(_ path: String, _ body: (some Encodable)? = nil as String?) async throws -> Value { try await decoded(.POST, path, body) }
    func put<Value: Decodable>(_ path: String, _ body: some Encodable) async throws -> Value { try await decoded(.PUT, path, body) }

    private func decoded<Value: Decodable>(_ method: Method, _ path: String, _ body: (some Encodable)?) async throws -> Value {
        let answer = try await raw(method, path, body)
        guard (200..<300).contains(answer.status) else { throw Unexpected(description: "\(method) \(path): \(answer.status) \(answer.text.prefix(500))") }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Value.self, from: answer.body)
    }

    /// Signs in with this client's code as a browser does: the code goes in a POST, and from then on there is only a cookie.
    func browser() async throws -> Client {
        var browser = Client(server)
        let answer = try await browser.raw(.POST, "/session", ["code": token ?? ""])
        guard answer.status == 200, let cookie = answer.header("Set-Cookie").split(separator: ";").first else { throw Unexpected(description: "signing in: \(answer.status)") }
        struct Me: Decodable { var csrf: String }
        browser.session = (String(cookie), "")
        let me: Me = try await browser.get("/v1/me")
        browser.session?.csrf = me.csrf
        return browser
    }
}

/// A download that is read by hand, byte for byte, over a socket that takes in little: the server cannot run ahead of its reader.
final class SlowDownload {
    private let socket: Int32
    private var waiting: [UInt8] = []
    /// As the answer announced it.
    let length: Int
    private(set) var received = 0

    init(_ client: Client, _ path: String) throws {
        guard let port = UInt16(client.server.base.split(separator: ":").last ?? "") else { throw Client.Unexpected(description: client.server.base) }
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var (small, segment, patience) = (Int32(4_096), Int32(512), timeval(tv_sec: 30, tv_usec: 0))
        setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &small, socklen_t(MemoryLayout<Int32>.size))
        // Small segments: the sender's buffer grows with theirs.
        setsockopt(socket, Int32(IPPROTO_TCP), TCP_MAXSEG, &segment, socklen_t(MemoryLayout<Int32>.size))
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in(sin_family: sa_family_t(AF_INET), sin_port: port.bigEndian, sin_addr: in_addr(s_addr: inet_addr("127.0.0.1")), sin_zero: (0, 0, 0, 0, 0, 0, 0, 0))
        let descriptor = socket
        let connected = withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) } }
        let request = Array("GET \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nAuthorization: Bearer \(client.token ?? "")\r\nConnection: close\r\n\r\n".utf8)
        guard connected == 0, send(socket, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else { throw Client.Unexpected(description: "no connection to \(port)") }
        var head: [UInt8] = []
        while !head.suffix(4).elementsEqual([13, 10, 13, 10]), head.count < 1 << 14 {
            var byte: UInt8 = 0
            guard recv(socket, &byte, 1, 0) == 1 else { break }
            head.append(byte)
        }
        let lines = String(decoding: head, as: UTF8.self).lowercased().split(separator: "\r\n")
        guard lines.first?.contains(" 200 ") == true, let length = lines.first(where: { $0.hasPrefix("content-length:") }).flatMap({ Int($0.dropFirst(15).trimmingCharacters(in: .whitespaces)) })
        else { throw Client.Unexpected(description: String(decoding: head, as: UTF8.self)) }
        self.length = length
    }

    deinit { close(socket) }

    /// Reads at least so many bytes more, or until it is over; whether the body came to its announced end.
    @discardableResult
    func read(_ count: Int = .max) -> Bool {
        var (buffer, got) = ([UInt8](repeating: 0, count: 1 << 14), 0)
        while got < count, received < length {
            let part = recv(socket, &buffer, buffer.count, 0)
            guard part > 0 else { return false }
            got += part
            received += part
        }
        return received >= length
    }
}
