import ArgumentParser
import Foundation
import Media
import Renditions

/// Looks at pipeline files.
struct PipelineCommand: AsyncParsableCommand {
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
}

/// Reads a pipeline file for a command.
enum PipelineFile {
    static func read(_ path: String) throws -> Pipeline {
        guard FileManager.default.fileExists(atPath: path) else { throw CommandError(what: "there is no file \(path)", hint: "pipelines that ship are in Pipelines/") }
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
