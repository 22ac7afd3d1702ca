import Foundation
import HTTPTypes
import Hummingbird
import Media
import NIOCore
import Recorder

/// Serves renditions: ranges, conditions and HEAD (RFC 9110 sections 13 and 14).
struct DownloadRoutes {
    let recorder: any RecorderAPI

    func answer(_ request: Request, _ context: WebContext) async throws -> Response {
        guard let id = context.parameters.get("id").flatMap({ RenditionID(rawValue: $0) }) else { throw RecorderError(.notFound, "there is nothing with this id, or it is not yours") }
        let download = try await recorder.download(id, as: context.required())
        let tag = "\"\(download.entityTag)\""
        let disposition = request.uri.queryParameters["download"] != nil ? "attachment" : "inline"
        var headers: HTTPFields = [
            .eTag: tag, .acceptRanges: "bytes", .cacheControl: "private, no-store", .contentDisposition: "\(disposition); filename=\"\(download.fileName)\"",
        ]
        if let known = request.headers[.ifNoneMatch], Self.matches(known, tag) { return Response(status: .notModified, headers: headers) }
        // Without If-Range, or with the tag of these very bytes, a range counts.
        let isRangeValid = request.headers[.ifRange].map { $0 == tag } ?? true
        let ranges = request.method == .get && isRangeValid ? ByteRanges(request.headers[.range], length: download.length) : .whole
        headers[.contentType] = download.mediaType
        switch ranges {
        case .unsatisfiable:
            throw ProblemError(problem: Problem(.rangeNotSatisfiable, "range", detail: "the file has \(download.length) bytes"), headers: [.contentRange: "bytes */\(download.length)"])
        case .whole: return send(.ok, headers, download, [0..<download.length], [], request, context)
        case .parts(let parts) where parts.count == 1:
            headers[.contentRange] = "bytes \(parts[0].lowerBound)-\(parts[0].upperBound - 1)/\(download.length)"
            return send(.partialContent, headers, download, parts, [], request, context)
        case .parts(let parts):
            let boundary = "mitschnitt-\(download.entityTag)"
            headers[.contentType] = "multipart/byteranges; boundary=\(boundary)"
            let heads = parts.enumerated().map { place, part in
                "\(place == 0 ? "" : "\r\n")--\(boundary)\r\nContent-Type: \(download.mediaType)\r\nContent-Range: bytes \(part.lowerBound)-\(part.upperBound - 1)/\(download.length)\r\n\r\n"
            } + ["\r\n--\(boundary)--\r\n"]
            return send(.partialContent, headers, download, parts, heads, request, context)
        }
    }

    private static func matches(_ header: String, _ tag: String) -> Bool {
        header.split(separator: ",").contains { part in
            let given = part.trimmingCharacters(in: .whitespaces)
            return given == "*" || given == tag || given == "W/" + tag
        }
    }

    /// `heads` are texts before each part, and one after the last; none for a single part. An error in the body leaves the answer shorter than
    /// announced: the connection is reset, never ended cleanly.
    private func send(_ status: HTTPResponse.Status, _ headers: HTTPFields, _ download: Download, _ parts: [Range<Int>], _ heads: [String], _ request: Request, _ context: WebContext) -> Response {
        let length = parts.reduce(0) { $0 + $1.count } + heads.reduce(0) { $0 + $1.utf8.count }
        let body = ResponseBody(contentLength: length) { writer in
            for (place, part) in parts.enumerated() {
                if place < heads.count { try await writer.write(ByteBuffer(string: heads[place])) }
                if part.isEmpty { continue }
                for try await chunk in download.body(part) {
                    try await writer.write(ByteBuffer(bytes: chunk))
                    try await context.settle()
                }
            }
            if let last = heads.last { try await writer.write(ByteBuffer(string: last)) }
            try await writer.finish(nil)
        }
        let response = Response(status: status, headers: headers, body: body)
        return request.method == .head ? response.createHeadResponse() : response
    }
}
