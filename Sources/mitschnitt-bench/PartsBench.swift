import Foundation
import Logging
import Media
import PacketLog
import Recorder

/// A long import's pictures in parts: one worker against two, the whole run from the packet logs to what can be downloaded.
struct PartsBench {
    let folder: URL
    let minutes: Int
    static let people = 4
    static let ratioMin = 1.85

    func run() async throws {
        let clip = try VP8Clip(folder: folder, source: "testsrc2=s=640x360:r=25", seconds: 20, rate: 25, bitrate: "600k", keyEvery: 250)
        let captures = try (0..<Self.people).map { try capture(clip, $0) }
        let pipelines = folder.appending(path: "parts-pipelines")
        try FileManager.default.createDirectory(at: pipelines, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: "Pipelines/meeting.yaml", toPath: pipelines.path + "/meeting.yaml")
        let one = try await make(captures, pipelines, workers: 1)
        let two = try await make(captures, pipelines, workers: 2)
        guard one.bytes == two.bytes else { throw BenchFailure(description: "two workers made \(two.bytes) bytes, one \(one.bytes)") }
        row("one worker, \(minutes) min of \(Self.people) pictures", String(format: "%.1f s", one.seconds))
        row("two workers, the same bytes", String(format: "%.1f s", two.seconds), String(format: "%.2fx as fast", one.seconds / two.seconds))
        row("at least", String(format: "%.2fx", Self.ratioMin), one.seconds / two.seconds >= Self.ratioMin ? "pass" : "FAIL")
    }

    private func capture(_ clip: VP8Clip, _ person: Int) throws -> String {
        let path = folder.path + "/person\(person).pcapng"
        guard FileManager.default.createFile(atPath: path, contents: nil), let file = FileHandle(forWritingAtPath: path) else { throw BenchFailure(description: "\(path) cannot be written") }
        defer { try? file.close() }  // what was written is looked at by the import
        var waiting = PcapngWriter.head
        try clip.send(ssrc: UInt32(1_000 + person), while: { $0 < Double(minutes * 60) }) { arrival, packet in
            waiting += PcapngWriter.block(.rtp(arrival: arrival, bytes: packet), port: UInt16(20_000 + 2 * person))
            if waiting.count > 1 << 20 {
                try file.write(contentsOf: waiting)
                waiting.removeAll(keepingCapacity: true)
            }
        }
        try file.write(contentsOf: waiting)
        return path
    }

    private func make(_ captures: [String], _ pipelines: URL, workers: Int) async throws -> (seconds: Double, bytes: Int) {
        let data = folder.appending(path: "parts\(workers)")
        let stage = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().appending(path: "mitschnitt-stage").path
        var configuration = RecorderConfiguration(data: data, pipelines: pipelines, stageExecutable: stage)
        configuration.workers = workers
        var logger = Logger(label: "bench")
        logger.logLevel = .error
        let recorder = try Recorder(configuration, logger: logger)
        let people = captures.indices.map { ImportRequest.Person(key: "\($0)", name: "Person \($0)", modalities: [.video]) }
        let streams = captures.indices.map { place in
            ImportRequest.Stream(people: ["\(place)"], kind: .video, sdp: "v=0\r\nm=video \(20_000 + 2 * place) RTP/AVP 96\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:96 VP8/90000\r\n")
        }
        let imported = try await recorder.importCaptures(ImportRequest(pipeline: "meeting", captures: captures, people: people, streams: streams)) { _ in }
        let start = Measured.now()
        await StageWorker(recorder: recorder).runUntilEmpty()
        let seconds = Measured.now() - start
        let made = try await recorder.renditions(of: imported.recording, as: imported.moderator)
        await recorder.shutDown()
        guard let picture = made.first(where: { $0.kind == "composite" }) else { throw BenchFailure(description: "no picture was made") }
        try FileManager.default.removeItem(at: data)
        return (seconds, picture.bytes)
    }
}
