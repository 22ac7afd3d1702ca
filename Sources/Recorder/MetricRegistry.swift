import Synchronization

/// Whoever has figures to tell adds a source; the metrics page asks all of them each time it is read.
///
/// No label may name a person, a meeting or a recording: figures are kept elsewhere, for long, and by others.
public final class MetricRegistry: Sendable {
    public typealias Source = @Sendable () async throws -> [MetricSample]
    public static let sourcesMax = 64

    private let sources = Mutex<[(name: String, source: Source)]>([])

    public init() {}

    /// Adds a source under a name of ours, such as `jobs`; one of the same name gives way.
    public func add(_ name: String, _ source: @escaping Source) {
        sources.withLock { sources in
            sources.removeAll { $0.name == name }
            precondition(sources.count < Self.sourcesMax)
            sources.append((name, source))
        }
    }

    /// What all of them tell; one that fails is told of, and the others are as they are.
    public func samples() async -> [MetricSample] {
        var samples: [MetricSample] = []
        for (name, source) in sources.withLock({ $0 }) {
            do { samples += try await source() } catch {
                samples.append(MetricSample(name: "mitschnitt_metric_source_failed", help: "1 where figures could not be read; must be absent.", kind: .gauge, labels: ["source": name], value: 1))
            }
        }
        return samples
    }
}
