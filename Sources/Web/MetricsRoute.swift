import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Recorder
import ServiceLifecycle

/// Figures for whoever watches the server, in Prometheus' text format 0.0.4.
///
/// At the API's port they are the operator's; the port of their own, where there is one, is this machine's only, asks for nothing and tells
/// nothing else: whoever collects figures need not hold a token that can do more.
enum MetricsRoute {
    static func response(_ recorder: any RecorderAPI) async -> Response {
        Response(status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"], body: .init(byteBuffer: ByteBuffer(string: exposition(await recorder.metrics()))))
    }

    /// All samples of a name stand together, behind one line of help and one of type, as the format wants it.
    static func exposition(_ samples: [MetricSample]) -> String {
        var names: [String] = []
        var lines: [String: [String]] = [:]
        for sample in samples {
            if lines[sample.name] == nil {
                names.append(sample.name)
                lines[sample.name] = ["# HELP \(sample.name) \(escaped(sample.help))", "# TYPE \(sample.name) \(sample.kind.rawValue)"]
            }
            let labels = sample.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(escaped($0.value).replacing("\"", with: "\\\""))\"" }.joined(separator: ",")
            lines[sample.name]?.append("\(sample.name)\(labels.isEmpty ? "" : "{\(labels)}") \(number(sample.value))")
        }
        return names.flatMap { lines[$0] ?? [] }.map { $0 + "\n" }.joined()
    }

    private static func escaped(_ text: String) -> String { text.replacing("\\", with: "\\\\").replacing("\n", with: "\\n") }
    private static func number(_ value: Double) -> String { value.isNaN ? "NaN" : value.isInfinite ? (value > 0 ? "+Inf" : "-Inf") : "\(value)" }
}

extension WebServer {
    /// The metrics at a port of their own on this machine, and nothing else there.
    public static func metricsService(_ recorder: any RecorderAPI, port: Int, logger: Logger, onListening: @escaping @Sendable (Int) async -> Void) -> some Service {
        let router = Router(context: WebContext.self)
        router.add(middleware: EdgeMiddleware())
        router.get("/metrics") { _, _ in await MetricsRoute.response(recorder) }
        return Application(router: router, configuration: .init(address: .hostname("127.0.0.1", port: port), serverName: nil),
                           onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) }, logger: logger)
    }
}
