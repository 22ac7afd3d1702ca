import Catalog
import Foundation
import Glibc
import GRDB
import JobQueue
import Media
@testable import Recorder
import Renditions
import TestSupport
import Testing

/// Stages that go wrong in the real queue, beside others that do not.
@Suite("Poison", .serialized)
struct PoisonTests {
    /// A recorder whose stages are the real ones, but for the one that does `what` in the pipeline "poison".
    private func rights(_ what: String) throws -> Rights {
        try Rights { configuration in
            let folder = configuration.data.deletingLastPathComponent()
            let (pipelines, program) = (folder.appending(path: "pipelines"), folder.appending(path: what))
            let text = try? String(contentsOf: Checkout.pipelines.appending(path: "audio-only.yaml"), encoding: .utf8)  // missing, it fails below
            do {
                try FileManager.default.createDirectory(at: pipelines, withIntermediateDirectories: true)
                try text?.write(to: pipelines.appending(path: "audio-only.yaml"), atomically: true, encoding: .utf8)
                try text.map { $0.replacing("name: audio-only", with: "name: poison") + "    parameters: {peaks_per_second: 7}\n" }?
                    .write(to: pipelines.appending(path: "poison.yaml"), atomically: true, encoding: .utf8)
                try FileManager.default.createSymbolicLink(atPath: program.path, withDestinationPath: Checkout.program("mitschnitt-badstage"))
            } catch {
                Issue.record(error)
            }
            configuration.pipelines = pipelines
            configuration.stageExecutable = program.path
            configuration.jobs.retries.firstDelay = .milliseconds(50)
        }
    }

    private func kinds(_ rights: Rights, _ id: RecordingID) async throws -> [String] {
        try await rights.recorder.catalog.read { try String.fetchAll($0, sql: "SELECT kind FROM rendition WHERE recording = ? AND state = 'ready'", arguments: [id.rawValue]) }
    }

    private func metric(_ rights: Rights, _ outcome: String) async -> Double? {
        await rights.recorder.metrics().first { $0.name == "mitschnitt_stage_attempts_total" && $0.labels == ["stage": "waveform", "outcome": outcome] }?.value
    }

    @Test("input that kills its stage is quarantined after three crashes with the reason in words; its neighbours come through",
          arguments: [("segfault", "memory that is not there"), ("socket", "asked the system for what a stage may not")])
    func quarantine(what: String, reason: String) async throws {
        let rights = try rights(what + "@waveform")
        let consent = ["A": [Modality.audio], "B": [Modality.audio], "C": [Modality.audio]]
        let poison = try await rights.imported(consent, pipeline: "poison", isMade: false)
        let sound = try await rights.imported(consent, isMade: false)
        await StageWorker(recorder: rights.recorder).runUntilEmpty()

        let good = try await rights.recorder.recording(sound.id, as: rights.moderator)
        #expect(good.state == .ready && good.problems.isEmpty)
        let bad = try await rights.recorder.recording(poison.id, as: rights.moderator)
        #expect(bad.state == .failed && bad.problems.count == 1)
        #expect(bad.problems.first?.hasPrefix("waveform: ") == true && bad.problems.first?.contains(reason) == true && bad.problems.first?.contains("\n") == false, "\(bad.problems)")
        #expect(try await kinds(rights, poison.id) == ["mix"])
        let jobs = try await rights.recorder.catalog.read { [jobs = rights.recorder.jobs] in try jobs.currentJobs(owner: poison.id.rawValue, in: $0) }
        let dead = try #require(jobs.first { $0.kind == "waveform" })
        #expect([dead.standing.crashes, dead.standing.errors] == [3, 0] && dead.state == .quarantined)
        #expect(jobs.filter { $0.kind != "waveform" }.allSatisfy { $0.state == .done && $0.standing.crashes == 0 })
        #expect(await metric(rights, "crashed") == 3)
        #expect(await metric(rights, "done") == 1)
        await rights.recorder.shutDown()
    }

    @Test("a withdrawal in the middle of a stage kills its child, and nothing with the person in it is published")
    func withdrawal() async throws {
        let rights = try rights("hang@waveform")
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio], "B": [.audio]], pipeline: "poison", isMade: false)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await StageWorker(recorder: recorder).run() }
            defer { group.cancelAll() }
            let child = try await hanging(rights, made.id)
            _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: made.principal("A"))
            for _ in 0..<1_000 where kill(child, 0) == 0 { try await Task.sleep(for: .milliseconds(10)) }
            #expect(kill(child, 0) != 0, "the child lives")
            // It is made again without them, and hangs again.
            #expect(try await hanging(rights, made.id) != child)
            let renditions = try await recorder.renditions(of: made.id, as: rights.moderator)
            #expect(renditions.map(\.contains) == [[made.people["B"]!]] && renditions.map(\.kind) == ["mix"])
        }
        await recorder.shutDown()
    }

    /// The child of the waveform's stage, once it is there.
    private func hanging(_ rights: Rights, _ id: RecordingID) async throws -> pid_t {
        let program = rights.recorder.configuration.stageExecutable
        for _ in 0..<2_000 {
            let jobs = try await rights.recorder.catalog.read { [jobs = rights.recorder.jobs] in try jobs.currentJobs(owner: id.rawValue, in: $0) }
            if jobs.contains(where: { $0.kind == "waveform" && $0.state == .running }) {
                let processes = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }
                // Another process may be gone before it is looked at.
                if let child = processes.first(where: { (try? String(contentsOfFile: "/proc/\($0)/cmdline", encoding: .utf8))?.hasPrefix(program) == true }) { return child }
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw KilledServer.Broken(description: "no waveform is made")
    }

    @Test("what its stage did not read back is not published")
    func unread() async throws {
        let rights = try rights("unread@waveform")
        let made = try await rights.imported(["A": [.audio], "B": [.audio], "C": [.audio]], pipeline: "poison")
        let view = try await rights.recorder.recording(made.id, as: rights.moderator)
        #expect(view.state == .failed && view.problems == ["waveform: the stage did not read back what it wrote"])
        #expect(try await kinds(rights, made.id) == ["mix"])
        await rights.recorder.shutDown()
    }

    @Test("the metrics tell how fast stages are, and what waits since when")
    func figures() async throws {
        let rights = try Rights()
        _ = try await rights.imported(["A": [.audio], "B": [.audio], "C": [.audio]], isMade: false)
        func figure(_ name: String, _ labels: [String: String]) async -> Double? {
            await rights.recorder.metrics().first { $0.name == "mitschnitt_\(name)" && $0.labels == labels }?.value
        }
        try rights.recorder.clock.advance(by: .seconds(60))
        #expect(await figure("job_queue_depth", ["lane": "light"]) == 3)
        #expect(await figure("job_queue_age_seconds", ["lane": "light"]) ?? 0 >= 60)
        #expect(await figure("job_queue_age_seconds", ["lane": "heavy"]) == 0)
        await StageWorker(recorder: rights.recorder).runUntilEmpty()
        #expect(await figure("job_queue_depth", ["lane": "light"]) == 0)
        #expect(await figure("stage_attempts_total", ["stage": "mix", "outcome": "done"]) == 1)
        let (seconds, media, factor) = (await figure("stage_seconds_total", ["stage": "mix"]), await figure("stage_media_seconds_total", ["stage": "mix"]), await figure("stage_realtime_factor", ["stage": "mix"]))
        #expect(media ?? 0 > 5 && seconds ?? 0 > 0)
        #expect(abs((factor ?? 0) - (media ?? 0) / (seconds ?? 1)) < 1e-6)
        await rights.recorder.shutDown()
    }
}
