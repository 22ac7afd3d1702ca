import ArgumentParser
import Foundation
import Media
import Recorder
import Renditions

extension PipelineCommand {
    struct Plan: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show as a tree what a pipeline would do: what runs and what it costs, what is used again, what is left out, and why.",
            discussion: "For a recording of a running server, or for a pipeline file and a meeting with so many tracks.")

        @Argument(help: "A recording's id, or a pipeline file.")
        var subject: String

        @OptionGroup var server: JobsCommand.Server

        @Option(help: "With a file: sound tracks.")
        var audio = 2

        @Option(help: "With a file: camera tracks.")
        var video = 2

        @Option(help: "With a file: screen tracks.")
        var screen = 0

        func validate() throws {
            guard [audio, video, screen].allSatisfy({ (0...200).contains($0) }) else { throw ValidationError("0 to 200 tracks of each kind") }
        }

        func run() async throws {
            guard let recording = RecordingID(rawValue: subject), !FileManager.default.fileExists(atPath: subject) else { return try planFile() }
            let view: PlanView = try await server.ask { try await $0.get("/v1/recordings/\(recording)/plan") }
            try server.show(view) {
                print("\(view.pipeline), \(String(view.digest.prefix(12))): \(PlanTree.duration(view.seconds)) of work expected")
                for line in PlanTree.lines(view.stages.map(PlanTree.Stage.init)) { print(line) }
            }
        }

        private func planFile() throws {
            let pipeline = try PipelineFile.read(subject)
            let counts: [(MediaKind, Int)] = [(.audio, audio), (.video, video), (.screen, screen)]
            let tracks = counts.flatMap { kind, count in
                (0..<count).compactMap { TrackID(rawValue: "\(kind.rawValue)-\($0 + 1)").map { PlannedTrack(id: $0, kind: kind) } }
            }
            let plan = Renditions.Plan(pipeline, tracks: tracks)
            print("\(pipeline.name), \(String(pipeline.digest.prefix(12)))")
            let stages = pipeline.stages.map { stage in
                let skipped = plan.skipped.first { $0.stage == stage.name }
                let outputs = stage.kind == .depacketize ? [] : stage.outputs.map { "\($0.name) (\($0.container.rawValue))" }
                let action = skipped.map { "left out: \($0.reason)" } ?? (stage.kind == .depacketize ? "\(tracks.count) tracks" : "runs")
                return PlanTree.Stage(name: stage.name, after: stage.inputs.map(\.stage), outputs: outputs, action: action)
            }
            for line in PlanTree.lines(stages) { print(line) }
        }
    }
}

/// The stages of a plan, each below the last of those that it reads from.
enum PlanTree {
    struct Stage {
        var name: String
        var after: [String]
        var outputs: [String]
        var action: String
    }

    static func lines(_ stages: [Stage]) -> [String] {
        let width = stages.map(\.name.count).max() ?? 0
        let names = Set(stages.map(\.name))
        // Stages come in an order in which each is after what it reads: the last that it names there is the one it waits for longest.
        let order = Dictionary(stages.enumerated().map { ($1.name, $0) }) { first, _ in first }
        func parent(_ stage: Stage) -> String? { stage.after.filter(names.contains).max { order[$0, default: 0] < order[$1, default: 0] } }
        func branch(_ parentName: String?, _ indent: String) -> [String] {
            let children = stages.filter { parent($0) == parentName }
            return children.enumerated().flatMap { number, stage in
                let isLast = number == children.count - 1
                let lead = parentName == nil ? "" : indent + (isLast ? "└─ " : "├─ ")
                let next = parentName == nil ? "" : indent + (isLast ? "   " : "│  ")
                let others = Set(stage.after).subtracting([parentName ?? ""]).sorted()
                var line = (lead + stage.name).padding(toLength: max(width + 12, lead.count + stage.name.count + 2), withPad: " ", startingAt: 0) + stage.action
                if !stage.outputs.isEmpty { line += "; makes " + stage.outputs.joined(separator: ", ") }
                if !others.isEmpty { line += "; reads " + others.joined(separator: ", ") + ", too" }
                return [line] + branch(stage.name, next)
            }
        }
        return branch(nil, "")
    }

    static func duration(_ seconds: Double) -> String { seconds < 90 ? "\(Int(seconds.rounded(.up))) s" : "\(Int((seconds / 60).rounded(.up))) min" }
}

extension PlanTree.Stage {
    init(_ stage: PlanView.Stage) {
        let verb = switch stage.action {
        case .run: "runs, about \(PlanTree.duration(stage.seconds))"
        case .reuse: "is used again"
        case .skip: "left out"
        }
        let outputs = stage.outputs.map { "\($0.name) (\($0.container)\($0.retentionDays.map { ", kept \($0) days" } ?? ""))" }
        self.init(name: stage.name, after: stage.after, outputs: outputs, action: "\(verb): \(stage.reason)")
    }
}
