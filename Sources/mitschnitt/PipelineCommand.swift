import ArgumentParser
import Foundation
import Media
import Renditions

/// Looks at pipeline files.
struct PipelineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pipeline", abstract: "Check pipeline files and show what they would do.", subcommands: [Check.self, Plan.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Read pipeline files; explain each fault with its line and column.")

        @Argument(help: "Pipeline files.")
        var files: [String]

        func run() throws {
            var faults = 0
            for file in files {
                do {
                    let pipeline = try PipelineFile.read(file)
                    print("\(file): ok, \(pipeline.stages.count) stages: \(pipeline.stages.map(\.name).joined(separator: ", "))")
                } catch let error as CommandError {
                    faults += 1
                    print(error)
                }
            }
            if faults > 0 { throw ExitCode(1) }
        }
    }

    struct Plan: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show the jobs that a pipeline would run for a meeting, and why stages are left out.")

        @Argument(help: "A pipeline file.")
        var file: String

        @Option(help: "Sound tracks.")
        var audio = 2

        @Option(help: "Camera tracks.")
        var video = 2

        @Option(help: "Screen tracks.")
        var screen = 0

        func validate() throws {
            guard [audio, video, screen].allSatisfy({ (0...200).contains($0) }) else { throw ValidationError("0 to 200 tracks of each kind") }
        }

        func run() throws {
            let pipeline = try PipelineFile.read(file)
            let counts: [(MediaKind, Int)] = [(.audio, audio), (.video, video), (.screen, screen)]
            let tracks = counts.flatMap { kind, count in
                (0..<count).compactMap { TrackID(rawValue: "\(kind.rawValue)-\($0 + 1)").map { PlannedTrack(id: $0, kind: kind) } }
            }
            let plan = Renditions.Plan(pipeline, tracks: tracks)
            for job in plan.jobs {
                print(job.name + (job.dependencies.isEmpty ? "" : "  after \(job.dependencies.joined(separator: ", "))"))
                for output in job.outputs where job.kind != .depacketize { print("  makes \(output.name) (\(output.container.rawValue))") }
            }
            for skipped in plan.skipped { print("\(skipped.stage)  left out: \(skipped.reason)") }
        }
    }
}

/// Reads a pipeline file for a command.
enum PipelineFile {
    static func read(_ path: String) throws -> Pipeline {
        let text: String
        do {
            text = try String(contentsOf: URL(filePath: path), encoding: .utf8)
        } catch {
            throw CommandError(what: "cannot read the pipeline \(path): \(error.localizedDescription)", hint: "pipelines that ship are in Pipelines/")
        }
        do {
            return try Pipeline(parsing: text)
        } catch {
            throw CommandError(what: error.explained(file: path, text: text))
        }
    }
}
