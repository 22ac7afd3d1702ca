import Catalog
import Consent
import Foundation
import GRDB
import JobQueue
import Media
@testable import Recorder
import Renditions
import TestSupport
import Testing

@Suite("What would come out the same is not made again", .timeLimit(.minutes(5)))
struct ReuseTests {
    /// The ready renditions by stage and output: id, file's digest.
    private static func ready(_ recorder: Recorder, _ id: RecordingID) async throws -> [String: [String]] {
        try await recorder.catalog.read { db in
            let rows = try Row.fetchAll(db, sql: "SELECT stage, output, id, sha256 FROM rendition WHERE recording = ? AND state = 'ready'", arguments: [id.rawValue])
            return Dictionary(uniqueKeysWithValues: rows.map { row in ("\(row["stage"] as String).\(row["output"] as String)", [row["id"] as String, row["sha256"] as String]) })
        }
    }

    @Test("a corrected name redoes the picture that shows it, and leaves sound and waveform as they are, to the file")
    func renamed() async throws {
        let rights = try Rights()
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio, .video], "B": [.audio]], pipeline: "meeting")
        let before = try await Self.ready(recorder, made.id)
        #expect(Set(before.keys) == ["mix.sound", "mix.opus", "composite.picture", "waveform.peaks", "thumbnail.still"])
        _ = try await recorder.rename(made.people["A"]!, NameRequest(name: "Another name"), as: rights.moderator)
        let plan = try await recorder.plan(of: made.id, as: rights.moderator)
        #expect(Dictionary(uniqueKeysWithValues: plan.stages.map { ($0.name, $0.action) })
            == ["tracks": .reuse, "mix": .reuse, "waveform": .reuse, "composite": .run, "thumbnail": .run])
        #expect(plan.seconds > 0 && plan.stages.filter { $0.action != .run }.allSatisfy { $0.seconds == 0 })
        await StageWorker(recorder: recorder).runUntilEmpty()
        let after = try await Self.ready(recorder, made.id)
        for same in ["mix.sound", "mix.opus", "waveform.peaks"] { #expect(after[same] == before[same], "\(same)") }
        for other in ["composite.picture", "thumbnail.still"] { #expect(after[other] != nil && after[other] != before[other], "\(other)") }
        #expect(try await recorder.recording(made.id, as: rights.moderator).state == .ready)
        await recorder.shutDown()
    }

    @Test("made again without any change, nothing runs; with a file missing, or another version of what makes it, it is made")
    func unchanged() async throws {
        let rights = try Rights()
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let before = try await Self.ready(recorder, made.id)
        try await recorder.makeAgain(made.id)
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await Self.ready(recorder, made.id) == before)
        let mix = try #require(before["mix.sound"]?.first)
        try FileManager.default.removeItem(at: recorder.configuration.artifact(made.id.rawValue, mix))
        try await recorder.makeAgain(made.id)
        await StageWorker(recorder: recorder).runUntilEmpty()
        let mended = try await Self.ready(recorder, made.id)
        #expect(mended["mix.sound"]?.first != mix && mended["waveform.peaks"] == before["waveform.peaks"], "the same sound has the same waveform")
        try await recorder.catalog.write { try $0.execute(sql: "UPDATE rendition SET fingerprint = 'of another version' WHERE stage = 'waveform'") }
        try await recorder.makeAgain(made.id)
        await StageWorker(recorder: recorder).runUntilEmpty()
        let last = try await Self.ready(recorder, made.id)
        #expect(last["mix.sound"] == mended["mix.sound"] && last["waveform.peaks"]?.first != before["waveform.peaks"]?.first)
        await recorder.shutDown()
    }

    /// The shipped pipeline, its pictures in parts of five seconds.
    private static func inParts(_ folder: TemporaryFolder) throws {
        let text = try String(contentsOf: Checkout.pipelines.appending(path: "meeting.yaml"), encoding: .utf8)
        let divided = text.replacing(/part_seconds: \d+/, with: "part_seconds: 5").replacing(/preset: \w+/, with: "preset: ultrafast")
        #expect(divided != text)
        try divided.write(to: folder.url.appending(path: "meeting.yaml"), atomically: true, encoding: .utf8)
    }

    @Test("a long picture is made in parts that leave nothing behind; beside another mix its pictures are not encoded again")
    func parts() async throws {
        let folder = try TemporaryFolder()
        try Self.inParts(folder)
        let rights = try Rights { $0.pipelines = folder.url }
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio, .video], "B": [.audio, .video]], pipeline: "meeting")
        func parts() async throws -> [String: String] {
            try await recorder.catalog.read { db in
                Dictionary(uniqueKeysWithValues: try Row.fetchAll(db, sql: "SELECT id, state FROM rendition WHERE recording = ? AND kind = 'part'", arguments: [made.id.rawValue]).map { ($0["id"] as String, $0["state"] as String) })
            }
        }
        let first = try await parts()
        #expect(first.count > 2 && Set(first.values) == ["erased"])
        let begun = try await recorder.catalog.read { try recorder.jobs.jobs(owner: made.id.rawValue, run: 1, in: $0) }.filter { $0.kind == "compose-part" }.compactMap(\.startedAt)
        #expect(begun.count == first.count && begun == begun.sorted(), "the longest parts come first")
        for part in first.keys {
            #expect(!FileManager.default.fileExists(atPath: recorder.configuration.artifact(made.id.rawValue, part).path))
            await #expect(throws: (any Error).self) { try await recorder.keys.key("rendition:\(part)") }
        }
        let before = try await Self.ready(recorder, made.id)
        let view = try #require(try await recorder.renditions(of: made.id, as: rights.moderator).first { $0.kind == "composite" })
        #expect(Set(view.contains) == [made.people["A"]!, made.people["B"]!] && Set(before.keys).contains("thumbnail.still"))
        // As if the sound had been another one.
        try await recorder.catalog.write { try $0.execute(sql: "UPDATE rendition SET fingerprint = 'of another mix' WHERE stage IN ('mix', 'composite')") }
        try await recorder.makeAgain(made.id)
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await recorder.recording(made.id, as: rights.moderator).state == .ready)
        let after = try await Self.ready(recorder, made.id)
        #expect(after["composite.picture"]?.first != before["composite.picture"]?.first)
        #expect(try await parts() == first, "no part was made")
        // Who is seen in every part is in none of what is there after they withdraw.
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: made.principal("B"))
        await StageWorker(recorder: recorder).runUntilEmpty()
        let alone = try #require(try await recorder.renditions(of: made.id, as: rights.moderator).first { $0.kind == "composite" })
        #expect(alone.contains == [made.people["A"]!])
        let rest = try await parts()
        #expect(rest.count == 2 * first.count && Set(rest.values) == ["erased"])
        await recorder.shutDown()
    }

    @Test("an output of a shorter retention class ends before its recording does, and takes its key and file with it")
    func retentionClass() async throws {
        let folder = try TemporaryFolder()
        try """
            name: short
            stages:
              tracks: {stage: depacketize}
              mix: {stage: mix, inputs: [tracks.audio], outputs: {sound: mp4, opus: {container: ogg, retention: short}}}
            """.write(to: folder.url.appending(path: "short.yaml"), atomically: true, encoding: .utf8)
        let rights = try Rights { configuration in
            configuration.pipelines = folder.url
            configuration.retention.outputClasses = ["short": 3]
        }
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio]], pipeline: "short")
        let opus = try #require(try await Self.ready(recorder, made.id)["mix.opus"]?.first)
        let file = recorder.configuration.artifact(made.id.rawValue, opus)
        let record = try #require(try await recorder.catalog.read { try RecordingRecord.fetchOne($0, key: made.id.rawValue) })
        let kept = try #require(try await recorder.catalog.read { try RenditionRecord.fetchOne($0, key: opus) })
        #expect(kept.expiresAt == record.startedAt + 3 * 86_400_000_000_000 && kept.expiresAt < record.expiresAt)
        #expect(FileManager.default.fileExists(atPath: file.path))
        _ = try await recorder.advanceClock(bySeconds: 3 * 86_400 + 10, as: rights.operatorPrincipal)
        try await recorder.sweep()
        #expect(!FileManager.default.fileExists(atPath: file.path))
        #expect(Set(try await Self.ready(recorder, made.id).keys) == ["mix.sound"])
        await #expect(throws: (any Error).self) { try await recorder.keys.key("rendition:\(opus)") }
        await recorder.shutDown()
    }

    @Test("a finished file's first picture is in parts as well, once its tracks tell how long it is; without its picture nothing is planned twice", arguments: [true, false])
    func finishedFile(isSeen: Bool) async throws {
        let folder = try TemporaryFolder()
        try Self.inParts(folder)
        let rights = try Rights { $0.pipelines = folder.url }
        let recorder = rights.recorder
        let file = folder.url.appending(path: "talk.mp4")
        let sources = ["testsrc2=s=128x96:r=25:d=12", "sine=f=440:d=12"].flatMap { ["-f", "lavfi", "-i", $0] }
        let ffmpeg = try Process.run(URL(filePath: "/usr/bin/ffmpeg"), arguments: ["-v", "error"] + sources + ["-c:v", "libx264", "-preset", "ultrafast", "-g", "100", "-c:a", "aac", file.path])
        ffmpeg.waitUntilExit()
        #expect(ffmpeg.terminationStatus == 0)
        let imported = try await recorder.importCaptures(ImportRequest(
            pipeline: "meeting", captures: [], people: [.init(key: "A", name: nil, modalities: isSeen ? [.audio, .video] : [.audio])], streams: [],
            files: [.init(path: file.path, people: ["A"])])) { _ in }
        let id = imported.recording.rawValue
        let first = try await recorder.catalog.read { try recorder.jobs.currentJobs(owner: id, in: $0) }
        #expect(first.map(\.kind.rawValue).filter { $0.hasPrefix("compose") } == (isSeen ? ["compose"] : []))
        await StageWorker(recorder: recorder).runUntilEmpty()
        let last = try await recorder.catalog.read { try recorder.jobs.currentJobs(owner: id, in: $0) }
        #expect(last.map(\.kind.rawValue).filter { $0.hasPrefix("compose") } == (isSeen ? Array(repeating: "compose-part", count: StagePart.count(seconds: 12, length: 5)) + ["compose"] : []))
        #expect(last.allSatisfy { $0.state == .done } && last.first?.run == (isSeen ? 2 : 1))
        let tracks = try await recorder.catalog.read { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM job WHERE kind = 'depacketize'") }
        #expect(tracks == (isSeen ? 2 : 1), "a track is made once")
        #expect(try await recorder.recording(imported.recording, as: imported.moderator).state == .ready)
        let made = try await recorder.renditions(of: imported.recording, as: imported.moderator)
        #expect(Set(made.map(\.kind)) == (isSeen ? ["mix", "composite", "waveform", "thumbnail"] : ["mix", "waveform"]))
        #expect(made.filter { $0.kind == "composite" }.allSatisfy { abs($0.duration - 12) < 0.05 })
        await recorder.shutDown()
    }
}
