import Foundation
import Logging
import Media
import PacketLog
import Recorder

/// A long import's pictures in parts: one worker against two, the whole run from the packet logs to what can be downloaded.
struct PartsBench {
    let folder: URL
    let minutes: Int
    /// Whether every job is a row.
    var isTimelineTold = false
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
        tell(one.jobs)
        row("two workers, the same bytes", String(format: "%.1f s", two.seconds), String(format: "%.2fx as fast", one.seconds / two.seconds))
        tell(two.jobs)
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

    /// When which job ran, in seconds from the start.
    private struct Timed {
        var name: String
        var kind: String
        var from: Double
        var to: Double
    }

    /// Where the time went: what no second worker can take over, and how long the last part was waited for.
    private func tell(_ jobs: [Timed]) {
        if isTimelineTold { for job in jobs { row("    \(job.name)", String(format: "%6.2f to %6.2f s", job.from, job.to), String(format: "%.2f s", job.to - job.from)) } }
        let parts = jobs.filter { $0.kind == "compose-part" }
        guard let first = parts.map(\.from).min(), let end = parts.map(\.to).max(), let last = jobs.map(\.to).max() else { return }
        let alone = end - (parts.map(\.to).sorted().dropLast().last ?? first)
        row("  before the first part, after the last", String(format: "%.1f s, %.1f s", first, last - end))
        row("  \(parts.count) parts, together; the last of them alone", String(format: "%.1f s, %.1f s", parts.reduce(0) { $0 + $1.to - $1.from }, alone))
    }

    private func make(_ captures: [String], _ pipelines: URL, workers: Int) async throws -> (seconds: Double, bytes: Int, jobs: [Timed]) {
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
        let (start, began) = (Measured.now(), Date().timeIntervalSince1970)
        await StageWorker(recorder: recorder).runUntilEmpty()
        let seconds = Measured.now() - start
        let made = try await recorder.renditions(of: imported.recording, as: imported.moderator)
        let jobs = try await recorder.jobs(states: [], as: Principal(role: .operator, subject: "bench")).jobs.compactMap { job in
            job.startedAt.flatMap { from in job.finishedAt.map { Timed(name: job.name.hasPrefix("tracks/") ? "tracks" : job.name, kind: job.kind, from: from - began, to: $0 - began) } }
        }
        await recorder.shutDown()
        guard let picture = made.first(where: { $0.kind == "composite" }) else { throw BenchFailure(description: "no picture was made") }
        try FileManager.default.removeItem(at: data)
        return (seconds, picture.bytes, jobs.sorted { $0.from < $1.from })
    }
}
