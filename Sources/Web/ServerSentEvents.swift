import HTTPTypes
import Hummingbird
import NIOCore
import ServiceLifecycle

/// Views as a stream of server-sent events (HTML Living Standard section 9.2).
enum ServerSentEvents {
    /// Each event is the whole view as JSON, so that one that was missed needs no repair. Ends with the views, the server or the connection.
    static func response<View: Encodable & Sendable>(_ name: String, _ views: AsyncThrowingStream<View, any Error>) -> Response {
        Response(status: .ok, headers: [.contentType: "text/event-stream; charset=utf-8", .cacheControl: "private, no-store"], body: ResponseBody { writer in
            for try await view in views.cancelOnGracefulShutdown() {
                var event = ByteBuffer(string: "event: \(name)\ndata: ")
                event.writeImmutableBuffer(JSONBody.buffer(view))
                event.writeString("\n\n")
                try await writer.write(event)
            }
            try await writer.finish(nil)
        })
    }
}
