import Foundation
import JobQueue
import Media
@testable import Recorder
import TestSupport
import Testing

/// What moderators see while stages really run.
@Suite("Seen while it is made", .serialized, .timeLimit(.minutes(5)))
struct ProgressTests {
    /// The ordinary meeting in a small picture, in parts of ten seconds.
    private static func pipelines() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        let yaml = try String(contentsOf: Checkout.pipelines.appending(path: "meeting.yaml"), encoding: .utf8)
        try yaml.replacing("width: 1280, height: 720", with: "width: 320, height: 180").replacing("part_seconds: 60", with: "part_seconds: 10")
            .write(to: folder.url.appending(path: "meeting.yaml"), atomically: true, encoding: .utf8)
        return folder
    }

    @Test("the sound is there, can be released and downloaded while the picture waits; the picture follows without another release")
    func soundFirst() async throws {
        let pipelines = try Self.pipelines()
        let rights = try Rights { $0.pipelines = pipelines.url }
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio, .video], "B": [.audio]], pipeline: "meeting", isMade: false)
        #expect(await Rights.code { try await recorder.control(made.id, .release, as: rights.moderator) } == .conflict, "nothing is there")
        _ = try await recorder.pauseJobs(true, scope: "lane:heavy", as: rights.operatorPrincipal)
        await StageWorker(recorder: recorder).runDue()
        let view = try await recorder.recording(made.id, as: rights.moderator)
        #expect(view.state == .processing)
        #expect(view.making.map(\.stage) == ["mix", "composite", "waveform", "thumbnail"])
        #expect(view.making.map(\.state) == [.ready, .waiting, .ready, .waiting] && view.making.map(\.waitsFor) == [nil, .pause, nil, .inputs] && view.making.map(\.progress) == [1, 0, 1, 0])
        #expect(view.making[1].secondsLeft ?? 0 > 0 && view.making.map(\.isThere) == [true, false, true, false])
        _ = try await recorder.control(made.id, .release, as: rights.moderator)
        let mix = try #require(try await recorder.renditions(of: made.id, as: made.principal("A")).first { $0.kind == "mix" && $0.container == "mp4" })
        #expect(mix.downloadable)
        var bytes = 0
        let download = try await recorder.download(mix.id, as: made.principal("A"))
        for try await chunk in download.body(0..<download.length) { bytes += chunk.count }
        #expect(bytes == mix.bytes)
        _ = try await recorder.pauseJobs(false, scope: "lane:heavy", as: rights.operatorPrincipal)
        await StageWorker(recorder: recorder).runUntilEmpty()
        let all = try await recorder.renditions(of: made.id, as: made.principal("A"))
        #expect(all.contains { $0.kind == "composite" } && all.allSatisfy(\.downloadable))
        #expect(try await recorder.recording(made.id, as: rights.moderator).making.map(\.progress) == [1, 1, 1, 1])
        await recorder.shutDown()
    }

    @Test("who watches sees each rendition's share grow, never fall, and be whole exactly when it can be downloaded")
    func watched() async throws {
        let pipelines = try Self.pipelines()
        let rights = try Rights { $0.pipelines = pipelines.url }
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio, .video], "B": [.audio]], pipeline: "meeting", isMade: false)
        #expect(await Rights.code { try await recorder.watchProgress(as: made.principal("A")) } == .forbidden)
        let views = try await recorder.watchProgress(as: rights.moderator)
        let working = Task { await StageWorker(recorder: recorder).runUntilEmpty() }
        var shares: [String: [Double]] = [:]
        var order: [String] = []
        for try await view in views {
            let recording = try #require(view.recordings.first)
            #expect(view.recordings.map(\.recording) == [made.id])
            for item in recording.making {
                #expect((item.progress == 1) == (item.state == .ready) && item.isThere == (item.state == .ready), "\(item)")
                #expect(item.progress >= shares[item.stage]?.last ?? 0, "\(item.stage): \(shares[item.stage] ?? []) \(item.progress)")
                shares[item.stage, default: []].append(item.progress)
                if item.state == .ready, !order.contains(item.stage) { order.append(item.stage) }
            }
            if recording.state != .processing { break }
        }
        await working.value
        #expect(shares.values.allSatisfy { $0.last == 1 } && shares.count == 4)
        #expect(order.firstIndex(of: "mix")! < order.firstIndex(of: "composite")!, "\(order)")
        #expect(Set(shares["composite"] ?? []).count > 3, "\(shares)")
        await recorder.shutDown()
    }
}
