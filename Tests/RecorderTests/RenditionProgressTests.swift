@testable import JobQueue
import Media
@testable import Recorder
@testable import Renditions
import Testing

/// What is said of renditions that are being made, from jobs and times alone.
@Suite("How far a rendition is")
struct RenditionProgressTests {
    private static let meeting = """
        name: m
        stages:
          tracks: {stage: depacketize}
          mix: {stage: mix, inputs: [tracks.audio], outputs: {sound: mp4}}
          composite: {stage: compose, inputs: [tracks.video, mix.sound], outputs: {picture: mp4}, parameters: {part_seconds: 60}}
        """
    private let sound = TrackID.random(), picture = TrackID.random()

    /// A run of the pipeline on two tracks; `change` says how far each job is.
    private func progress(seconds: Double, there: [String: String] = [:], _ change: (String, inout Job) -> Void) throws -> RenditionProgress {
        let plan = Plan(try Pipeline(parsing: Self.meeting), tracks: [PlannedTrack(id: sound, kind: .audio), PlannedTrack(id: picture, kind: .video)], seconds: seconds)
        let items = plan.jobs.map { planned in
            var job = Job(id: .random(), owner: "r", run: 1, kind: StageWorker.kind(of: planned.kind), name: planned.name, payload: "", lane: StageWorker.lane(of: planned.kind), priority: 0,
                          standing: JobStanding(dependencies: planned.dependencies.count), runAfter: WallTime(seconds: 0), worker: nil, progress: 0, furthest: 0, declared: .unknown,
                          createdAt: WallTime(seconds: 0), startedAt: nil, finishedAt: nil)
            change(planned.name, &job)
            return RenditionProgress.Item(job: job, plan: planned)
        }
        return RenditionProgress(items: items, there: there, seconds: seconds, costs: StageCosts(shares: [.depacketize: 0, .mix: 0.1, .compose: 0.5, .composePart: 0.5]),
                                 slots: [.light: 2, .heavy: 2], now: WallTime(seconds: 100))
    }

    private static func done(_ job: inout Job) { (job.standing, job.progress, job.furthest) = (JobStanding(state: .done, token: 1), 1, 1) }
    private static func running(_ job: inout Job, _ share: Double, since seconds: Double) {
        (job.standing, job.progress, job.startedAt) = (JobStanding(state: .running, token: 1), share, WallTime(seconds: seconds))
        job.furthest = max(job.furthest, share)
    }

    /// To four places.
    private static func rounded(_ views: [RenditionProgressView]) -> [RenditionProgressView] {
        views.map { view in
            var view = view
            view.progress = (view.progress * 10_000).rounded() / 10_000
            view.secondsLeft = view.secondsLeft.map { ($0 * 10_000).rounded() / 10_000 }
            return view
        }
    }

    @Test("sound is ready before the picture; the picture is the sum over its parts, and takes as long as they do side by side")
    func parts() throws {
        let views = try progress(seconds: 240, there: ["mix": "mix"]) { name, job in
            switch name {
            case "composite/part-1", "composite/part-2": Self.done(&job)
            case "composite/part-3": Self.running(&job, 0.5, since: 90)
            case "composite/part-4", "composite/part-5", "composite/part-6", "composite": break
            default: Self.done(&job)
            }
        }.views()
        // Two whole parts are done. Part 3, a half, goes on for 10 s as it did for 10 s; part 4 is expected to take 17.1 s, the quarters 8.6
        // each: two workers, so 22.1 s, and 2.4 s to join.
        #expect(Self.rounded(views) == [
            RenditionProgressView(stage: "mix", kind: "mix", state: .ready, progress: 1, isThere: true),
            RenditionProgressView(stage: "composite", kind: "composite", state: .running, progress: 0.6236, secondsLeft: 24.5429, isThere: false),
        ])
    }

    @Test("an attempt that begins anew, or goes on where the live rendering was, never shows less than was shown")
    func furthest() throws {
        var job = try progress(seconds: 30) { name, job in
            if name == "mix" { (job.furthest, job.standing) = (0.8, JobStanding(state: .available, token: 1, crashes: 1, reason: "it died\nlast words")) }
            if name == "mix" { job.runAfter = WallTime(seconds: 110) }
            if name.hasPrefix("tracks") { Self.done(&job) }
        }
        #expect(job.views()[0] == RenditionProgressView(stage: "mix", kind: "mix", state: .waiting, progress: 0.8, secondsLeft: 3 * (1 - 0.8), waitsFor: .retry, reason: "it died", isThere: false))
        Self.running(&job.items[2].job, 0.2, since: 99)
        #expect(job.views()[0].progress == 0.8)
        // An attempt that has done everything and is not published is not whole.
        Self.running(&job.items[2].job, 1, since: 99)
        #expect(job.views()[0].progress == LiveRun.shareMax)
        // Done, and nothing was published: somebody withdrew meanwhile.
        Self.done(&job.items[2].job)
        #expect(job.views()[0] == RenditionProgressView(stage: "mix", kind: "mix", state: .empty, progress: 0, isThere: false))
    }

    @Test("what failed says so with the job, and so does what is made of it; a version that was there stays")
    func failed() throws {
        var failure: JobID?
        let views = try progress(seconds: 30, there: ["composite": "composite"]) { name, job in
            if name.hasPrefix("tracks") { Self.done(&job) }
            guard name == "mix" else { return }
            job.standing = JobStanding(state: .quarantined, token: 3, crashes: 3, reason: "the stage's process died: signal 11\nlast words")
            failure = job.id
        }.views()
        #expect(views == [
            RenditionProgressView(stage: "mix", kind: "mix", state: .failed, progress: 0, fault: .crash, reason: "the stage's process died: signal 11", job: failure, isThere: false),
            RenditionProgressView(stage: "composite", kind: "composite", state: .failed, progress: 0, fault: .input, reason: "the stage's process died: signal 11", job: failure, isThere: true),
        ])
    }

    @Test("who waits says for what: what it is made of, its turn, or the operator", arguments: [nil, .lane(.light), .kind("mix"), .kind("compose")] as [PauseScope?])
    func waiting(pause: PauseScope?) throws {
        var progress = try progress(seconds: 30) { name, job in
            if name == "mix" { job.standing = JobStanding(state: .available) }
            if name.hasPrefix("tracks") { Self.done(&job) }
        }
        progress.pauses = Set(pause.map { [$0] } ?? [])
        #expect(progress.views().map(\.waitsFor) == [[.lane(.light), .kind("mix")].contains(pause) ? .pause : .turn, .inputs])
        #expect(progress.views().map(\.secondsLeft) == [3, 18])
    }
}
