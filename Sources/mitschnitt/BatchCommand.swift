import ArgumentParser
import Foundation
import Media
import Recorder

/// Many recordings made again by the running server.
struct BatchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "batch", abstract: "Have many recordings made again, when there is time for it.",
        discussion: """
            They are begun a few at a time, in the hours of batch-window and at a load of at most batch-max-load; until its turn each stays as it is.
            Only what a run would change is made: see `mitschnitt pipeline plan RECORDING`.
            """,
        subcommands: [Start.self, List.self, Show.self, Cancel.self], defaultSubcommand: List.self)

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Begin a batch.")
        @OptionGroup var server: JobsCommand.Server
        @Option(help: "What they are made by from then on; otherwise each by its own pipeline.") var pipeline: String?
        @Flag(help: "All that are ready or failed.") var all = false
        @Argument(help: "Ids of recordings.") var recordings: [String] = []

        func validate() throws {
            guard all == recordings.isEmpty else { throw ValidationError("name the recordings, or say --all") }
        }

        func run() async throws {
            let ids = try recordings.map { text in
                guard let id = RecordingID(rawValue: text) else { throw CommandError(what: "'\(text)' is no recording's id") }
                return id
            }
            let view: BatchView = try await server.ask { try await $0.post("/v1/batches", BatchRequest(pipeline: pipeline, recordings: all ? nil : ids)) }
            try server.show(view) { print(BatchLines.short(view)) }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The newest batches, and how far each is.")
        @OptionGroup var server: JobsCommand.Server

        func run() async throws {
            let views: [BatchView] = try await server.ask { try await $0.get("/v1/batches") }
            try server.show(views) { print(views.isEmpty ? "no batches" : views.map(BatchLines.short).joined(separator: "\n")) }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One batch, recording by recording.")
        @OptionGroup var server: JobsCommand.Server
        @Argument(help: "The batch's id, or how it begins.") var id: String

        func run() async throws {
            let view: BatchView = try await server.ask { try await $0.get("/v1/batches/\(try await BatchLines.find(id, $0))") }
            try server.show(view) {
                print(BatchLines.short(view))
                for recording in view.recordings {
                    print("  \(recording.recording)  \(recording.state)" + (recording.state == "begun" ? "  \(Int(recording.progress * 100)) %" : "") + (recording.reason.map { "  \($0)" } ?? ""))
                }
            }
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Begin nothing more of a batch; what is being made is made.")
        @OptionGroup var server: JobsCommand.Server
        @Argument(help: "The batch's id, or how it begins.") var id: String

        func run() async throws {
            let view: BatchView = try await server.ask { try await $0.post("/v1/batches/\(try await BatchLines.find(id, $0))/cancel") }
            try server.show(view) { print(BatchLines.short(view)) }
        }
    }
}

private enum BatchLines {
    /// The batch whose id begins so, among the newest.
    static func find(_ id: String, _ client: APIClient) async throws -> String {
        try await ShortID.find(id, of: "batch", hint: "mitschnitt batch list") {
            let views: [BatchView] = try await client.get("/v1/batches")
            return views.map(\.id)
        }
    }

    static func short(_ batch: BatchView) -> String {
        let counts = [("waiting", batch.waiting), ("being made", batch.begun), ("done", batch.done), ("failed", batch.failed), ("left out", batch.skipped)].filter { $0.1 > 0 }
        return "\(ShortID.of(batch.id))  \(Int(batch.progress * 100)) %  " + counts.map { "\($0.1) \($0.0)" }.joined(separator: ", ") + (batch.pipeline.map { "  by \($0)" } ?? "")
            + (batch.isCancelled ? "  cancelled" : "") + (batch.waitsFor.map { "  waits for \($0)" } ?? "")
    }
}
