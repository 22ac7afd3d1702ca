import Hummingbird
import Logging
import NIOCore
import Recorder

/// What is known of a request beside its head: who asks, and from where.
struct WebContext: RequestContext, RemoteAddressRequestContext {
    var coreContext: CoreRequestContextStorage
    private let channel: any Channel
    var principal: Principal?
    /// The session's CSRF token, for requests that came with a cookie.
    var session: Sessions.Session?

    init(source: Source) {
        coreContext = .init(source: source)
        channel = source.channel
    }

    var remoteAddress: SocketAddress? { channel.remoteAddress }

    /// Waits until the connection has seen what was written to it: only then does it say that it has enough. Without this a reader who does not
    /// read is sent whole files into memory while the loop is busy elsewhere, and a withdrawal comes too late for them.
    func settle() async throws {
        guard channel.isActive else { return }
        try await channel.eventLoop.submit {}.get()
    }

    func required() throws -> Principal {
        guard let principal else { throw RecorderError(.unauthenticated, "there is no token with the request", hint: "send Authorization: Bearer TOKEN, or sign in at /") }
        return principal
    }
}
