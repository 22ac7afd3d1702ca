import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Recorder
import ServiceLifecycle

/// How the web server is set up.
public struct WebOptions: Sendable {
    public var address = "127.0.0.1"
    /// 0: any free port.
    public var port = 8080
    /// Whether X-Forwarded-Proto of a proxy in front is believed.
    public var trustsProxy = false
    public init() {}
}

/// The HTTP API, the pages and the metrics.
public enum WebServer {
    /// All routes over a recorder.
    static func router(_ recorder: any RecorderAPI, _ options: WebOptions) -> Router<WebContext> {
        let sessions = Sessions()
        let router = Router(context: WebContext.self)
        router.add(middleware: EdgeMiddleware())
        router.add(middleware: AuthenticationMiddleware(recorder: recorder, sessions: sessions))
        APIRoutes(recorder: recorder).add(to: router)
        SubjectRoutes(recorder: recorder).add(to: router)
        JobRoutes(recorder: recorder).add(to: router)
        BatchRoutes(recorder: recorder).add(to: router)
        NotificationRoutes(recorder: recorder).add(to: router)
        SessionRoutes(recorder: recorder, sessions: sessions, trustsProxy: options.trustsProxy).add(to: router)
        Pages.add(to: router)
        router.get("/metrics") { _, context in
            guard try context.required().role == .operator else { throw RecorderError(.forbidden, "metrics are the operator's") }
            return await MetricsRoute.response(recorder)
        }
        return router
    }

    /// The server as a service; `onListening` gets the port it really has.
    public static func service(_ recorder: any RecorderAPI, options: WebOptions, logger: Logger, onListening: @escaping @Sendable (Int) async -> Void) -> some Service {
        Application(router: router(recorder, options), server: .http1(configuration: .init(additionalChannelHandlers: [SendBuffer()])),
                    configuration: .init(address: .hostname(options.address, port: options.port), serverName: nil),
                    onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) }, logger: logger)
    }
}
