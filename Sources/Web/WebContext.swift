import Hummingbird
import Logging
import NIOCore
import Recorder

/// What is known of a request beside its head: who asks, and from where.
struct WebContext: RequestContext, RemoteAddressRequestContext {
    var coreContext: CoreRequestContextStorage
    let remoteAddress: SocketAddress?
    var principal: Principal?
    /// The session's CSRF token, for requests that came with a cookie.
    var session: Sessions.Session?

    init(source: Source) {
        coreContext = .init(source: source)
        remoteAddress = source.channel.remoteAddress
    }

    func required() throws -> Principal {
        guard let principal else { throw RecorderError(.unauthenticated, "there is no token with the request", hint: "send Authorization: Bearer TOKEN, or sign in at /") }
        return principal
    }
}
