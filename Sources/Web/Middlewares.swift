import Foundation
import HTTPTypes
import Hummingbird
import Logging
import Recorder

/// The one edge where errors become HTTP, and where every answer gets its headers.
struct EdgeMiddleware: RouterMiddleware {
    typealias Context = WebContext

    static let headers: [(HTTPField.Name, String)] = [
        (.init("Content-Security-Policy")!, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
        (.init("X-Content-Type-Options")!, "nosniff"), (.init("Referrer-Policy")!, "no-referrer"), (.init("Cross-Origin-Resource-Policy")!, "same-origin"),
        (.init("Cross-Origin-Opener-Policy")!, "same-origin"), (.init("X-Frame-Options")!, "DENY"), (.init("Permissions-Policy")!, "camera=(), microphone=(), geolocation=()"),
    ]

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        var response: Response
        do {
            response = try await next(request, context)
        } catch {
            response = answer(error, context)
        }
        for (name, value) in Self.headers { response.headers[name] = value }
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "private, no-store" }
        return response
    }

    private func answer(_ error: any Error, _ context: Context) -> Response {
        switch error {
        case let error as RecorderError: return Problem(error).response
        case let error as ProblemError:
            var response = error.problem.response
            for field in error.headers { response.headers[field.name] = field.value }
            return response
        case let error as HTTPError: return Problem(error.status, "http", detail: error.body).response
        case let error as any HTTPResponseError: return Problem(error.status, "http").response
        default:
            let reference = UUID().uuidString.lowercased()
            // The log says what; the client only gets the reference.
            context.logger.error("a request failed", metadata: ["reference": "\(reference)", "kind": "\(type(of: error))", "error": "\(error)"])
            return Problem(.internalServerError, "internal", detail: "something went wrong on our side", hint: "tell the operator this reference: \(reference)").response
        }
    }
}

/// Finds out who asks: a bearer token, or a session's cookie. A cookie is believed for changes only with its CSRF token and from our own pages.
struct AuthenticationMiddleware: RouterMiddleware {
    typealias Context = WebContext
    let recorder: any RecorderAPI
    let sessions: Sessions
    static let csrfHeader = HTTPField.Name("X-CSRF-Token")!

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        var context = context
        if let header = request.headers[.authorization] {
            let parts = header.split(separator: " ", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "bearer" else { throw RecorderError(.unauthenticated, "the Authorization header is no bearer token") }
            context.principal = try await recorder.authenticate(token: String(parts[1]))
        } else if let id = request.cookies[SessionRoutes.cookie]?.value ?? request.cookies[SessionRoutes.secureCookie]?.value, let session = sessions.find(id, now: Date().timeIntervalSince1970) {
            if ![.get, .head].contains(request.method) { try requireOwnPage(request, session) }
            // A token that has expired meanwhile signs the browser out.
            context.principal = try? await recorder.authenticate(token: session.token)
            context.session = session
        }
        return try await next(request, context)
    }

    private func requireOwnPage(_ request: Request, _ session: Sessions.Session) throws {
        let site = request.headers[.init("Sec-Fetch-Site")!] ?? "same-origin"
        let origin = request.headers[.origin].map { $0.split(separator: "/").last.map(String.init) == request.head.authority } ?? true
        guard site == "same-origin", origin, request.headers[Self.csrfHeader] == session.csrf else {
            throw RecorderError(.forbidden, "the request did not come from our own page", hint: "reload the page and try again")
        }
    }
}
