import Foundation
import HTTPTypes
import Hummingbird
import Recorder

/// Signing in and out with a browser. Opening a link has no effect: the code is redeemed by a POST.
struct SessionRoutes {
    static let cookie = "mitschnitt"
    /// Behind TLS: sent over TLS only, for this host only.
    static let secureCookie = "__Host-mitschnitt"

    let recorder: any RecorderAPI
    let sessions: Sessions
    /// Whether a proxy in front speaks TLS and says so (X-Forwarded-Proto).
    let trustsProxy: Bool

    private struct SignIn: Decodable { var code: String }

    func add(to router: Router<WebContext>) {
        router.post("/session") { request, context in try await signIn(request, context) }
        router.delete("/session") { request, context in
            if let session = context.session { sessions.close(session.id) }
            return Response(status: .noContent, headers: [.setCookie: cookie(request, "", maxAge: 0)])
        }
    }

    private func signIn(_ request: Request, _ context: WebContext) async throws -> Response {
        let (client, now) = (context.remoteAddress?.ipAddress ?? "?", Date().timeIntervalSince1970)
        if let wait = sessions.waits(client, now: now) {
            throw ProblemError(problem: Problem(.tooManyRequests, "too-many", detail: "too many wrong codes", hint: "try again in a minute"), headers: [.retryAfter: String(wait)])
        }
        let body = try await JSONBody.read(request, as: SignIn.self, keys: ["code"])
        let token = body.code.trimmingCharacters(in: .whitespacesAndNewlines)
        let principal: Principal
        do {
            principal = try await recorder.authenticate(token: token)
        } catch {
            sessions.noteFailure(client, now: now)
            throw error
        }
        guard [.participant, .moderator].contains(principal.role) else { throw RecorderError(.forbidden, "there is no page for this code", hint: "use the API") }
        let session = sessions.open(token: token, now: now)
        var response = JSONBody.response(["page": "/\(principal.role.rawValue)"])
        response.headers[.setCookie] = cookie(request, session.id, maxAge: Int(Sessions.idleSeconds))
        return response
    }

    private func cookie(_ request: Request, _ value: String, maxAge: Int) -> String {
        let isSecure = trustsProxy && request.headers[.init("X-Forwarded-Proto")!] == "https"
        return "\(isSecure ? Self.secureCookie : Self.cookie)=\(value); Path=/; HttpOnly; SameSite=Strict; Max-Age=\(maxAge)\(isSecure ? "; Secure" : "")"
    }
}
