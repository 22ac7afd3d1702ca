import Foundation
import Media
@testable import Renditions
import Testing

@Suite("Pipeline files")
struct PipelineTests {
    /// The pipelines that ship, found from this file so that the tests run from any folder.
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Pipelines")

    static var shipped: [URL] {
        let all = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []  // none: the next test fails
        return all.filter { $0.pathExtension == "yaml" }.sorted { $0.path < $1.path }
    }

    static let tracks = [PlannedTrack(id: TrackID(rawValue: "a-audio")!, kind: .audio), PlannedTrack(id: TrackID(rawValue: "a-video")!, kind: .video)]

    @Test("there are pipelines to test")
    func shippedExist() { #expect(Self.shipped.map(\.lastPathComponent).contains("meeting.yaml")) }

    @Test("every shipped pipeline plans for sound and picture, for sound alone, and for nothing", arguments: shipped)
    func plans(file: URL) throws {
        let pipeline = try Pipeline(parsing: String(contentsOf: file, encoding: .utf8))
        #expect(pipeline.name == file.deletingPathExtension().lastPathComponent)
        for tracks in [Self.tracks, Array(Self.tracks.prefix(1)), []] {
            let plan = Plan(pipeline, tracks: tracks)
            var seen: Set<String> = []
            for job in plan.jobs {
                #expect(seen.isSuperset(of: job.dependencies), "\(job.name) comes before what it reads")
                #expect(seen.insert(job.name).inserted, "\(job.name) twice")
            }
            #expect(plan.jobs.isEmpty == tracks.isEmpty)
        }
    }

    @Test("a meeting becomes a job per track, then the mix, the composite, the waveform and the still picture")
    func meeting() throws {
        let pipeline = try Pipeline(parsing: String(contentsOf: Self.folder.appending(path: "meeting.yaml"), encoding: .utf8))
        let plan = Plan(pipeline, tracks: Self.tracks)
        #expect(plan.skipped.isEmpty)
        #expect(plan.jobs.map(\.name) == ["tracks/a-audio", "tracks/a-video", "mix", "composite", "waveform", "thumbnail"])
        #expect(plan.jobs.map(\.dependencies) == [[], [], ["tracks/a-audio", "tracks/a-video"], ["tracks/a-audio", "tracks/a-video", "mix"], ["mix"], ["composite"]])
    }

    @Test("without a picture there is no composite, and the plan says why")
    func audioOnly() throws {
        let pipeline = try Pipeline(parsing: String(contentsOf: Self.folder.appending(path: "meeting.yaml"), encoding: .utf8))
        let plan = Plan(pipeline, tracks: Array(Self.tracks.prefix(1)))
        #expect(plan.jobs.map(\.name) == ["tracks/a-audio", "mix", "waveform"])
        #expect(plan.skipped == [.init(stage: "composite", reason: "no picture was recorded"), .init(stage: "thumbnail", reason: "there is nothing for it to read")])
    }

    @Test("a run after an erasure leaves the tracks of the others alone and makes again what mixes people")
    func again() throws {
        let pipeline = try Pipeline(parsing: String(contentsOf: Self.folder.appending(path: "meeting.yaml"), encoding: .utf8))
        let done = Self.tracks.map { PlannedTrack(id: $0.id, kind: $0.kind, isDepacketized: true) }
        let plan = Plan(pipeline, tracks: done)
        #expect(plan.jobs.map(\.name) == ["mix", "composite", "waveform", "thumbnail"])
        #expect(plan.jobs.map(\.dependencies) == [[], ["mix"], ["mix"], ["composite"]])
    }

    @Test("a stage runs only where its condition holds, and the plan says why not")
    func conditions() throws {
        let pipeline = try Pipeline(parsing: """
            name: x
            stages:
              tracks: {stage: depacketize}
              screens: {stage: compose, when: {has: screen}, inputs: [tracks.screen, tracks.video], outputs: {picture: mp4}}
              either: {stage: compose, when: {has: [screen, video]}, inputs: [tracks.video], outputs: {picture: {container: mp4, retention: short}}}
              minutes: {stage: mix, when: {purpose: minutes, has: audio}, inputs: [tracks.audio], outputs: {sound: ogg}}
            """)
        let (audio, video) = (Self.tracks[0].id, Self.tracks[1].id)
        #expect(pipeline.retentionClasses == ["short"] && pipeline.purposes == [.shareWithParticipants, .minutes])
        #expect(pipeline.purpose(of: "minutes") == .minutes && pipeline.purpose(of: "either") == .shareWithParticipants)
        let all = Plan(pipeline, tracks: Self.tracks)
        #expect(all.jobs.map(\.stageName) == ["tracks", "tracks", "either", "minutes"])
        #expect(all.skipped == [.init(stage: "screens", reason: "when: there is no screen")])
        let kept = Plan(pipeline, tracks: [PlannedTrack(id: audio, kind: .audio, purposes: [.shareWithParticipants]), PlannedTrack(id: video, kind: .video, purposes: [.minutes])])
        #expect(kept.jobs.map(\.stageName) == ["tracks", "tracks"])
        #expect(kept.skipped == [.init(stage: "screens", reason: "when: there is no screen"), .init(stage: "either", reason: "when: nobody's video or screen is allowed for share-with-participants"),
                                     .init(stage: "minutes", reason: "when: nobody's audio is allowed for minutes")])
    }

    @Test("a long picture is made in parts, that depend on the tracks alone, and put together with the mix; every tick is in one part", arguments: [(0.0, 0), (119, 0), (120, 4), (150, 5), (599.9, 12), (600, 12), (1e9, 240)])
    func parts(seconds: Double, count: Int) throws {
        let text = try String(contentsOf: Self.folder.appending(path: "meeting.yaml"), encoding: .utf8)
        let plan = Plan(try Pipeline(parsing: text), tracks: Self.tracks, seconds: seconds)
        let parts = plan.jobs.filter { $0.kind == .composePart }
        let whole = try #require(plan.jobs.first { $0.kind == .compose })
        #expect(parts.count == count)
        guard count > 0 else { return #expect(whole.dependencies == ["tracks/a-audio", "tracks/a-video", "mix"] && !whole.isInParts) }
        #expect(parts.map(\.name) == (1...count).map { "composite/part-\($0)" } && parts.map(\.part) == (0..<count).map { StagePart(index: $0, count: count) })
        #expect(parts.allSatisfy { $0.dependencies == ["tracks/a-audio", "tracks/a-video"] && $0.inputs == [.tracks(stage: "tracks", kind: .video), .tracks(stage: "tracks", kind: .screen)] })
        #expect(whole.inputs == [.parts(stage: "composite", output: "picture", kinds: [.video, .screen], count: count), .output(stage: "mix", name: "sound")])
        #expect(whole.dependencies == ["tracks/a-audio", "tracks/a-video", "mix"] + parts.map(\.name))
        for all in [0, 1, count - 1, count, 12_345] {
            #expect((0..<count).flatMap { StagePart(index: $0, count: count).ticks(of: all) } == Array(0..<all))
        }
    }

    @Test("the last four parts are a half and a quarter as long as the others, of which none is shorter than was asked for", arguments: [120, 149, 150, 311, 599, 600, 601, 3_600, 14_000])
    func lengths(seconds: Int) {
        let (count, all) = (StagePart.count(seconds: Double(seconds), length: 60), seconds * 25)
        let ticks = (0..<count).map { StagePart(index: $0, count: count).ticks(of: all).count }
        guard count > 4 else { return #expect(ticks.max()! - ticks.min()! <= 1) }
        let whole = ticks[0]
        #expect(whole >= 60 * 25 - 1 && ticks.dropLast(4).allSatisfy { abs($0 - whole) <= 1 })
        for (tick, share) in zip(ticks.suffix(4), [2, 2, 4, 4]) { #expect(abs(tick - whole / share) <= 1) }
    }

    @Test("two workers, or three, that take parts as they come end within one of the shortest of each other, whatever number there is", arguments: 2...3, Array(5...40) + [StagePart.countMax])
    func balance(workers: Int, count: Int) {
        let all = 100_000
        let ticks = (0..<count).map { StagePart(index: $0, count: count).ticks(of: all).count }
        var ends = [Int](repeating: 0, count: workers)
        for tick in ticks { ends[ends.firstIndex(of: ends.min()!)!] += tick }
        #expect(ends.max()! - ends.min()! <= ticks.min()! + 2)
    }

    @Test("the digest is that of the file's bytes: a comment changes it")
    func digest() throws {
        let text = "name: x\nstages:\n  t: {stage: depacketize}\n"
        #expect(try Pipeline(parsing: text).digest == Pipeline(parsing: text).digest)
        #expect(try Pipeline(parsing: text).digest != Pipeline(parsing: text + "# more").digest)
        #expect(try Pipeline(parsing: text).digest.count == 64)
    }

    static let faults: [(text: String, line: Int, column: Int, says: String)] = [
        ("", 1, 1, "empty"),
        ("name: x\nstages: [", 3, 1, "not YAML"),
        ("name: x\nstages:\n  a: {stage: transmogrify}", 3, 14, "unknown stage 'transmogrify'"),
        ("name: x\nstage: {}", 2, 1, "unknown key 'stage'"),
        ("name: x\nstages:\n  t: {stage: depacketize, inputs: [x.y]}", 3, 35, "takes no inputs"),
        ("name: x\nstages:\n  m: {stage: mix, inputs: [t.audio], outputs: {s: mp4}}", 3, 6, "which is no depacketize stage"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, inputs: [t.audio], outputs: {s: avi}}", 4, 51, "cannot write 'avi'"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, inputs: [t.audio], outputs: {s: mp4}, parameters: {channels: 3}}", 4, 80, "3 is out of range"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, inputs: [t.audio], outputs: {s: mp4}, parameters: {volume: 3}}", 4, 70, "unknown key 'volume'"),
        ("name: x\nstages:\n  w: {stage: waveform, inputs: [w.p], outputs: {p: json}}", 3, 6, "in a circle"),
        ("name: x\npurpose: fun\nstages: {}", 2, 10, "unknown purpose 'fun'"),
        ("name: x\nstages: {}", 2, 9, "0 stages"),
        ("name: x\nstages:\n  t: {stage: depacketize, when: {has: audio}}", 3, 33, "takes no condition"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, when: {has: [audio, smell]}, inputs: [t.audio], outputs: {s: mp4}}", 4, 39, "unknown kind 'smell'"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, when: {purpose: fun}, inputs: [t.audio], outputs: {s: mp4}}", 4, 35, "unknown purpose 'fun'"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, when: {moon: full}, inputs: [t.audio], outputs: {s: mp4}}", 4, 26, "unknown key 'moon'"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, inputs: [t.audio], outputs: {s: {container: mp4, retention: ''}}}", 4, 79, "is no name of a class"),
        ("name: x\nstages:\n  t: {stage: depacketize}\n  m: {stage: mix, when: {purpose: minutes}, inputs: [t.audio], outputs: {s: mp4}}\n  w: {stage: waveform, inputs: [m.s], outputs: {p: json}}", 5, 6, "made for another purpose"),
    ]

    @Test("a fault is named with its line and column", arguments: faults)
    func fault(text: String, line: Int, column: Int, says: String) {
        let error = #expect(throws: PipelineError.self) { try Pipeline(parsing: text) }
        #expect(error?.line == line)
        #expect(error?.column == column)
        #expect(error?.what.contains(says) == true, "\(error?.what ?? "no error")")
    }

    @Test("the explanation shows the line with a caret below the fault")
    func explained() {
        let error = PipelineError(line: 2, column: 3, what: "wrong", hint: "do this")
        #expect(error.explained(file: "p.yaml", text: "a: 1\nb: 2") == "p.yaml:2:3: wrong\n  b: 2\n    ^\n  do this")
    }

    @Test("any mutilation of a pipeline file gives a pipeline or a PipelineError, never a crash", arguments: 0..<300 as Range<UInt64>)
    func mutilated(seed: UInt64) throws {
        var text = Array(try String(contentsOf: Self.folder.appending(path: "meeting.yaml"), encoding: .utf8).utf8)
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        for _ in 0..<(1 + seed % 6) {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            let at = Int(state % UInt64(text.count))
            switch state >> 60 {
            case 0..<5: text[at] = UInt8(truncatingIfNeeded: state >> 8)
            case 5..<10: text.remove(at: at)
            default: text.insert(UInt8(ascii: "{[:,'\"\n-".unicodeScalars.map { $0 }[Int(state >> 8 & 7)]), at: at)
            }
        }
        do { _ = try Pipeline(parsing: String(decoding: text, as: UTF8.self)) } catch { _ = error as PipelineError }
    }
}
