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

            Captures are pcap, pcapng or rtpdump; `mitschnitt inspect` lists their streams. The m-line's port tells which packets belong to a
            stream; a=ssrc where several share one; a=crypto opens SRTP, and several m-lines are layers of one picture. A recording of one stream (.mjr, rtpdump) is named at its stream, and an .mjr needs no SDP:

                - {participant: B, kind: audio, capture: b-audio.mjr}

            A finished file (MP4, WebM, Matroska, WAV, Ogg) is a mixed source: its sound is used if everybody in it allowed sound, its picture
            if everybody allowed the picture:

              files:
                - {path: talk.mp4, participants: [A, B], start: 2026-11-24T20:00:00Z}

            The wall clock of the sources is the time line; `start` is for files that say no time of day. What nobody consented to is not read
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
            pipeline: plan.name, captures: (wanted.captures ?? []).map { path($0, base) },
            people: wanted.participants.map { .init(key: $0.id, name: $0.name, modalities: $0.consent?.modalities ?? []) },
            streams: (wanted.streams ?? []).map { stream in
                .init(people: stream.everybody, kind: stream.kind, sdp: stream.sdp, capture: stream.capture.map { path($0, base) }, start: stream.start?.time)
            },
            files: (wanted.files ?? []).map { .init(path: path($0.path, base), people: $0.participants, start: $0.start?.time, kinds: $0.kinds ?? [.audio, .video]) })
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
        for note in imported.notes { Terminal.shared.line(note) }
        for stream in result.streams where stream.verdict != "complete" {
            Terminal.shared.line("\(stream.participant) \(stream.kind.rawValue): \(stream.verdict)\(stream.details.isEmpty ? "" : " (\(stream.details.joined(separator: "; ")))")")
        }
        await recorder.shutDown()
        guard view.state == .ready, !result.outputs.isEmpty else {
            throw CommandError(what: "nothing was rendered" + (view.problems.isEmpty ? "" : ": \(view.problems.joined(separator: "; "))"),
                               hint: "see streams in \(folder.appending(path: "result.json").path): who consented, and which packets came")
        }
    }

    private func path(_ path: String, _ base: URL) -> String { URL(filePath: path, relativeTo: base).path }

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
        /// The finished file that it was taken from.
        var file: String?
        /// How well it came in, in figures.
        var quality: VerdictView?
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
        var streams = (wanted.streams ?? []).enumerated().map { place, stream in
            Stream(stream.everybody, stream.kind, view.streams.first { $0.id == imported.streams[place] }, refused: imported.refused[place])
        }
        for (place, file) in (wanted.files ?? []).enumerated() {
            for id in imported.files[place] ?? [] {
                guard let found = view.streams.first(where: { $0.id == id }) else { continue }
                var stream = Stream(file.participants, found.kind, found, refused: nil)
                stream.file = file.path
                stream.packets = found.verdict?.packets ?? 0
                streams.append(stream)
            }
        }
        return RenderResult(outputs: outputs, streams: streams, problems: view.problems + imported.notes)
    }
}

extension RenderResult.Stream {
    init(_ people: [String], _ kind: MediaKind, _ found: StreamView?, refused: String?) {
        let isConsented = found.map { $0.packets > 0 || $0.droppedByGate == 0 } ?? true
        self.init(participant: people.joined(separator: ", "), kind: kind, codec: found?.codec, packets: found?.packets ?? 0, droppedByGate: found?.droppedByGate ?? 0,
                  verdict: refused != nil ? "unsupported" : isConsented ? found?.verdict?.summary ?? "empty" : "not-consented",
                  details: refused.map { [$0] } ?? found?.verdict?.details ?? [], lost: found?.verdict?.lost ?? 0,
                  startWall: found?.verdict?.startWall, endWall: found?.verdict?.endWall, driftPpm: found?.verdict?.driftPpm, quality: found?.verdict)
    }
}
