import ArgumentParser
import Foundation
import Logging
import Media
import Recorder
import Renditions
import SealedFile

/// Captures in, files out, without a server.
struct RenderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render",
        abstract: "Turn captures into files, without a server: the same gate, packet log and stages.",
        discussion: """
            The description is YAML or JSON:

              captures: [meeting.pcap]                # paths relative to the description
              participants:
                - {id: A, name: "Anna", consent: {audio: true, video: true}}
                - {id: C, consent: {audio: false, video: false}}
              streams:
                - {participant: A, kind: audio, sdp: "v=0\\r\\n…"}
                - {participant: A, kind: video, sdp: "v=0\\r\\n…"}

            The m-line's port tells which packets belong to a stream; a=ssrc where several share one; a=crypto
            opens SRTP, and several m-lines are layers of one picture. What nobody consented to is not read
            further than its header. Everything between is sealed under a key that only this process has; plaintext is written in --output
            only. What was made is listed in result.json.
            """)

    @Option(help: "The description.")
    var description: String

    @Option(help: "The pipeline file.")
    var pipeline: String

    @Option(help: "Folder for the results; made if it is missing.")
    var output: String

    @Option(help: "Stages that run at the same time.")
    var workers = 2

    func validate() throws {
        guard (1...64).contains(workers) else { throw ValidationError("--workers is 1 to 64") }
    }

    func run() async throws {
        let file = URL(filePath: description)
        let wanted = try RenderDescription.read(file)
        let plan = try PipelineFile.read(pipeline)
        let folder = URL(filePath: output)
        let work = folder.appending(path: ".work-\(ProcessInfo.processInfo.processIdentifier)")
        do {
            try FileManager.default.createDirectory(at: work, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw CommandError(what: "\(folder.path) cannot be made: \(error.localizedDescription)", hint: "check its rights and the free space")
        }
        defer { try? FileManager.default.removeItem(at: work) }  // sealed under a key that is gone with this process
        do {
            try await render(wanted, plan, file.deletingLastPathComponent(), folder, work)
        } catch let error as RecorderError {
            throw CommandError(what: error.detail, hint: error.hint)
        }
    }

    private func render(_ wanted: RenderDescription, _ plan: Pipeline, _ base: URL, _ folder: URL, _ work: URL) async throws {
        var configuration = RecorderConfiguration(data: work, pipelines: work, stageExecutable: Companion.stage)
        configuration.workers = workers
        var logger = Logger(label: "render")
        logger.logLevel = .error
        let recorder = try Recorder(configuration, root: .random(), pipelines: [plan.name: plan], logger: logger)
        let request = ImportRequest(
            pipeline: plan.name, captures: wanted.captures.map { URL(filePath: $0, relativeTo: base).path },
            people: wanted.participants.map { .init(key: $0.id, name: $0.name, modalities: $0.consent?.modalities ?? []) },
            streams: wanted.streams.map { .init(people: $0.everybody, kind: $0.kind, sdp: $0.sdp) })
        let imported = try await recorder.importCaptures(request) { Terminal.shared.bars([("captures", $0, "")]) }
        Terminal.shared.settle()
        async let working: Void = StageWorker(recorder: recorder).runUntilEmpty()
        let view = try await watch(recorder, imported)
        await working
        let result = try await RenderResult.collect(recorder, imported, wanted, view, plan.name, folder)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        try encoder.encode(result).write(to: folder.appending(path: "result.json"))
        for output in result.outputs { Terminal.shared.line("\(folder.appending(path: output.file).path)  \(output.kind), \(String(format: "%.2f", output.duration)) s") }
        for stream in result.streams where stream.verdict != "complete" {
            Terminal.shared.line("\(stream.participant) \(stream.kind.rawValue): \(stream.verdict)\(stream.details.isEmpty ? "" : " (\(stream.details.joined(separator: "; ")))")")
        }
        await recorder.shutDown()
        guard view.state == .ready, !result.outputs.isEmpty else {
            throw CommandError(what: "nothing was rendered" + (view.problems.isEmpty ? "" : ": \(view.problems.joined(separator: "; "))"),
                               hint: "see streams in \(folder.appending(path: "result.json").path): who consented, and which packets came")
        }
    }

    private func watch(_ recorder: Recorder, _ imported: ImportedRecording) async throws -> RecordingView {
        defer { Terminal.shared.settle() }
        while true {
            let view = try await recorder.recording(imported.recording, as: imported.moderator)
            Terminal.shared.bars(view.progress.map { ($0.stage, $0.progress, $0.state) })
            if view.state == .ready || view.state == .failed { return view }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}

/// `result.json`: what was made, of whom, and how well each stream had come in.
struct RenderResult: Encodable {
    struct Output: Encodable {
        var file: String
        /// `composite`, `mix`, `waveform`, `thumbnail`.
        var kind: String
        var mediaType: String
        var contains: [String]
        /// Wall time of presentation time 0, seconds since 1970.
        var startWall: Double
        /// Seconds.
        var duration: Double
        var bytes: Int
        var width: Int?
        var height: Int?
    }

    struct Stream: Encodable {
        var participant: String
        var kind: MediaKind
        var codec: String?
        /// That passed the gate.
        var packets: Int
        var droppedByGate: Int
        /// `complete`, `defects`, `empty`, `unsupported`, `not-consented`.
        var verdict: String
        var details: [String]
        var lost: Int
        var startWall: Double?
        var endWall: Double?
        var driftPpm: Double?
    }

    var outputs: [Output]
    var streams: [Stream]
    var problems: [String]

    static func collect(_ recorder: Recorder, _ imported: ImportedRecording, _ wanted: RenderDescription, _ view: RecordingView, _ name: String, _ folder: URL) async throws -> RenderResult {
        var outputs: [Output] = []
        for rendition in try await recorder.renditions(of: imported.recording, as: imported.moderator) {
            let suffix = rendition.mediaType == "audio/mp4" ? "m4a" : StageOutput.Container(rawValue: rendition.container)?.fileExtension ?? rendition.container
            let file = rendition.kind == "composite" ? "\(name).\(suffix)" : "\(name)-\(rendition.kind).\(suffix)"
            try await recorder.unseal(rendition.id, to: folder.appending(path: file))
            outputs.append(Output(file: file, kind: rendition.kind, mediaType: rendition.mediaType, contains: rendition.contains.compactMap { imported.keys[$0] }.sorted(),
                                  startWall: rendition.startWall, duration: rendition.duration, bytes: rendition.bytes, width: rendition.width, height: rendition.height))
        }
        let streams = wanted.streams.enumerated().map { place, stream in
            let found = view.streams.first { $0.id == imported.streams[place] }
            let isConsented = found.map { $0.packets > 0 || $0.droppedByGate == 0 } ?? true
            return Stream(participant: stream.everybody.joined(separator: ", "), kind: stream.kind, codec: found?.codec, packets: found?.packets ?? 0,
                          droppedByGate: found?.droppedByGate ?? 0,
                          verdict: imported.refused[place] != nil ? "unsupported" : isConsented ? found?.verdict?.summary ?? "empty" : "not-consented",
                          details: imported.refused[place].map { [$0] } ?? found?.verdict?.details ?? [], lost: found?.verdict?.lost ?? 0,
                          startWall: found?.verdict?.startWall, endWall: found?.verdict?.endWall, driftPpm: found?.verdict?.driftPpm)
        }
        return RenderResult(outputs: outputs, streams: streams, problems: view.problems)
    }
}
