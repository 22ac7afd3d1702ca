import JobQueue
import Media
import Renditions
import Synchronization

/// What this process's stages and its queue have come to since it started, for the metrics page. No label names a job or a recording.
final class StageFigures: Sendable {
    /// How an attempt at a stage ended.
    enum Outcome: String, CaseIterable {
        case done, failed, crashed
        /// Given back, at a shutdown or to be tried later.
        case released
        /// Its lease was somebody else's: what it made was discarded.
        case lost
    }

    private struct Counts {
        var outcomes: [StageKind: [Outcome: Int]] = [:]
        /// Wall time of attempts that were done, and the length of what they made.
        var seconds: [StageKind: Double] = [:]
        var mediaSeconds: [StageKind: Double] = [:]
        var factor: [StageKind: Double] = [:]
        var leasesLost = 0
        var rescued = 0
    }
    private let counts = Mutex(Counts())

    func ended(_ stage: StageKind, _ outcome: Outcome) { counts.withLock { $0.outcomes[stage, default: [:]][outcome, default: 0] += 1 } }

    /// A stage made media of `duration` within `seconds`; zero for what has no length.
    func made(_ stage: StageKind, _ duration: Nanoseconds, in seconds: Double) {
        counts.withLock { counts in
            counts.seconds[stage, default: 0] += seconds
            guard duration > .zero, seconds > 0 else { return }
            counts.mediaSeconds[stage, default: 0] += duration.seconds
            counts.factor[stage] = duration.seconds / seconds
        }
    }

    func leaseLost() { counts.withLock { $0.leasesLost += 1 } }
    func rescued() { counts.withLock { $0.rescued += 1 } }

    var samples: [MetricSample] {
        let counts = counts.withLock { $0 }
        var samples: [MetricSample] = []
        func add(_ name: String, _ help: String, _ kind: MetricSample.Kind, _ value: Double, _ labels: [String: String] = [:]) {
            samples.append(MetricSample(name: "mitschnitt_\(name)", help: help, kind: kind, labels: labels, value: value))
        }
        for stage in StageKind.allCases {
            for outcome in Outcome.allCases {
                add("stage_attempts_total", "Attempts at stages by how they ended.", .counter, Double(counts.outcomes[stage]?[outcome] ?? 0), ["stage": stage.rawValue, "outcome": outcome.rawValue])
            }
        }
        for stage in StageKind.allCases { add("stage_seconds_total", "Wall time of stages that were done.", .counter, counts.seconds[stage] ?? 0, ["stage": stage.rawValue]) }
        for stage in StageKind.allCases { add("stage_media_seconds_total", "Length of what stages made.", .counter, counts.mediaSeconds[stage] ?? 0, ["stage": stage.rawValue]) }
        for (stage, factor) in counts.factor.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            add("stage_realtime_factor", "Seconds of media that the last stage of its kind made in a second.", .gauge, factor, ["stage": stage.rawValue])
        }
        add("job_leases_lost_total", "Attempts that found their lease taken; what they made was discarded.", .counter, Double(counts.leasesLost))
        add("job_rescues_total", "Jobs that were taken from workers that died or fell silent.", .counter, Double(counts.rescued))
        return samples
    }
}
