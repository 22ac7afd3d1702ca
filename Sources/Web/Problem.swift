import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Recorder

/// An error as a client sees it (RFC 9457).
struct Problem: Encodable, Sendable {
    var type: String
    var title: String
    var status: Int
    var detail: String?
    /// What the person can do.
    var hint: String?
    /// JSON pointer to the request's field at fault.
    var pointer: String?

    init(_ status: HTTPResponse.Status, _ code: String, detail: String? = nil, hint: String? = nil, pointer: String? = nil) {
        type = "urn:mitschnitt:problem:\(code)"
        title = status.reasonPhrase
        self.status = status.code
        self.detail = detail
        self.hint = hint
        self.pointer = pointer
    }

    init(_ error: RecorderError) {
        self.init(Self.status(error.code), error.code.rawValue, detail: error.detail, hint: error.hint, pointer: error.pointer)
    }

    private static func status(_ code: RecorderError.Code) -> HTTPResponse.Status {
        switch code {
        case .unauthenticated: .unauthorized
        case .forbidden, .notConsented: .forbidden
        case .notFound: .notFound
        case .gone: .gone
        case .invalid: .badRequest
        case .conflict: .conflict
        case .restricted: HTTPResponse.Status(code: 423, reasonPhrase: "Locked")
        case .unsupported: .unprocessableContent
        case .unavailable: .serviceUnavailable
        case .storage: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
        }
    }

    var response: Response {
        var headers: HTTPFields = [.contentType: "application/problem+json"]
        if status == 401 { headers[.wwwAuthenticate] = "Bearer realm=\"mitschnitt\"" }
        return Response(status: HTTPResponse.Status(code: status, reasonPhrase: title), headers: headers, body: ResponseBody(byteBuffer: JSONBody.buffer(self)))
    }
}

/// A problem thrown by the edge itself.
struct ProblemError: Error {
    var problem: Problem
    var headers: HTTPFields = [:]
}

/// JSON in and out: snake_case, and nothing unknown is accepted.
enum JSONBody {
    static let bytesMax = 1 << 20

    static func buffer(_ value: some Encodable) -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(value) else { preconditionFailure("our own answers encode") }
        return ByteBuffer(bytes: data)
    }

    static func response(_ value: some Encodable, status: HTTPResponse.Status = .ok) -> Response {
        Response(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: buffer(value)))
    }

    /// Reads a body whose keys are all among `keys` (snake_case; `streams.kind` for those of a list's elements).
    static func read<Value: Decodable>(_ request: Request, as type: Value.Type, keys: Set<String>) async throws -> Value {
        if let given = request.headers[.contentType], given.split(separator: ";").first?.trimmingCharacters(in: .whitespaces).lowercased() != "application/json" {
            throw ProblemError(problem: Problem(.unsupportedMediaType, "media-type", detail: "the body is \(given.prefix(60))", hint: "send application/json"))
        }
        let buffer: ByteBuffer
        do {
            buffer = try await request.body.collect(upTo: bytesMax)
        } catch is NIOTooManyBytesError {
            throw ProblemError(problem: Problem(.contentTooLarge, "too-large", detail: "the body is longer than \(bytesMax) bytes"))
        }
        let data = buffer.readableBytes == 0 ? Data("{}".utf8) : Data(buffer.readableBytesView)
        guard let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any] else {  // the reason follows from the decoder below where it is JSON at all
            throw ProblemError(problem: Problem(.badRequest, "not-json", detail: "the body is no JSON object"))
        }
        try refuseUnknown(object, keys, "")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return try decoder.decode(type, from: data)
        } catch let error as DecodingError {
            throw ProblemError(problem: fault(error))
        }
    }

    private static func refuseUnknown(_ object: [String: Any], _ keys: Set<String>, _ prefix: String) throws {
        for (key, value) in object {
            guard keys.contains(prefix + key) else {
                let known = keys.filter { $0.hasPrefix(prefix) && !$0.dropFirst(prefix.count).contains(".") }.map { String($0.dropFirst(prefix.count)) }.sorted()
                throw ProblemError(problem: Problem(.badRequest, "unknown-key", detail: "'\(key.prefix(60))' is not known here", hint: "known: " + known.joined(separator: ", "), pointer: "/" + key.prefix(60)))
            }
            for element in value as? [[String: Any]] ?? [] { try refuseUnknown(element, keys, key + ".") }
        }
    }

    private static func fault(_ error: DecodingError) -> Problem {
        func pointer(_ path: [any CodingKey]) -> String { path.map { "/" + ($0.intValue.map(String.init) ?? snake($0.stringValue)) }.joined() }
        switch error {
        case .keyNotFound(let key, let context):
            return Problem(.badRequest, "missing", detail: "'\(snake(key.stringValue))' is missing", pointer: pointer(context.codingPath + [key]))
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
            return Problem(.badRequest, "invalid", detail: context.debugDescription, pointer: pointer(context.codingPath))
        @unknown default: return Problem(.badRequest, "invalid")
        }
    }

    private static func snake(_ name: String) -> String { name.reduce(into: "") { $0 += $1.isUppercase ? "_" + $1.lowercased() : String($1) } }
}
