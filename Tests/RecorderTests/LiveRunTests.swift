import Foundation
import Media
@testable import Recorder
import Renditions
import Testing

/// What becomes of the results of a live rendering, and of what it leaves.
@Suite("A live rendering's results")
struct LiveRunTests {
    @Test("recordings are rendered while they run where that is configured, and nowhere else, whoever asks for it", arguments: [true, false])
    func configured(isLive: Bool) async throws {
        let recorder = try Rights { $0.isLive = isLive }.recorder
        let (live, recording) = (recorder.liveRenditions, RecordingID.random())
        let serving = Task { await live.serve(recorder) }
        for _ in 0..<(isLive ? 2_000 : 30) where live.run(of: recording) == nil {
            live.beginAgain(.random())
            live.begin(recording)
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect((live.run(of: recording) != nil) == isLive && live.recordings.isEmpty != isLive)
        serving.cancel()
        await serving.value
        await recorder.shutDown()
    }

    private let run = LiveRun(.random())
    private let track = TrackID.random()
    private let result = StageResult(outputs: [OutputReport(bytes: 1, ciphertextSHA256: "x", startWall: WallTime(nanoseconds: 0), duration: .seconds(1))])

    private func output(_ name: String) -> StagePreparation.Output {
        StagePreparation.Output(id: name, temporary: URL(filePath: "/nowhere/\(name)"), final: URL(filePath: "/nowhere/final/\(name)"), name: name, keyID: "rendition:\(name)")
    }

    private func expect() { #expect(run.expect(["mix": [output("mix")], "composite": [output("composite")]], labels: [track: "Anna"])) }

    @Test("a job gets what was made before it asked, and only once")
    func before() async {
        expect()
        run.made("mix", result, [track])
        let made = await run.take("mix")
        #expect(made?.outputs.map(\.name) == ["mix"])
        #expect(made?.tracks == [track])
        #expect(run.hasMade("rendition:mix") && !run.hasMade("rendition:composite"))
        // A child that says so again is not believed.
        run.made("mix", result, [track])
        #expect(run.over().map(\.name) == ["composite"])
        #expect(await run.take("mix")?.tracks == nil)
        #expect(run.isSpent)
    }

    @Test("a job that asked waits until it is made, or until nothing comes any more")
    func waiting() async {
        expect()
        async let mix = run.take("mix")
        async let composite = run.take("composite")
        run.made("mix", result, [track])
        #expect(await mix?.outputs.map(\.name) == ["mix"])
        #expect(run.over().map(\.name) == ["composite"])
        #expect(await composite?.tracks == nil)
    }

    @Test("a job is told how much is there while it waits, against the recording's end; what is made and not entered is not whole")
    func share() async {
        func time(_ seconds: Double) -> WallTime { WallTime(seconds: seconds) }
        #expect(run.making.isEmpty)
        expect()
        run.reached("composite", from: time(10), to: time(40))
        #expect(run.making == ["mix": nil, "composite": LiveRun.Reached(from: time(10), to: time(40))])
        #expect(run.share(of: "composite") == 0, "nobody knows of how much while it runs")
        run.end(at: time(70))
        #expect(run.share(of: "composite") == 0.5)
        let (shares, told) = AsyncStream.makeStream(of: Double.self)
        let waiting = Task { await run.take("composite") { told.yield($0) } }
        var heard = shares.makeAsyncIterator()
        #expect(await heard.next() == 0.5)
        // The job may not wait yet: it is told again and again.
        var next: Double? = 0.5
        for _ in 0..<1_000 where next == 0.5 {
            run.reached("composite", from: time(10), to: time(55))
            run.reached("composite", from: time(10), to: time(75))
            try? await Task.sleep(for: .milliseconds(5))  // a test that is cancelled need not wait
            told.yield(0.5)
            next = await heard.next()
        }
        #expect(next == 0.75 || next == LiveRun.shareMax)
        run.made("mix", result, [track])
        #expect(run.share(of: "mix") == LiveRun.shareMax)
        _ = run.over()
        #expect(await waiting.value?.tracks == nil && run.share(of: "composite") == 0 && run.share(of: "mix") == LiveRun.shareMax)
    }

    @Test("a job that is cancelled while it waits waits no longer")
    func cancelled() async {
        expect()
        let waiting = Task { await run.take("mix") }
        waiting.cancel()
        #expect(await waiting.value?.tracks == nil)
    }

    @Test("what was made by a run that is dropped, and not taken, is left for removal; nothing made later counts")
    func dropped() async {
        expect()
        run.made("mix", result, [track])
        async let gone: Void = run.drop()
        for await _ in run.stopped {}
        run.made("composite", result, [track])
        #expect(Set(run.over().map(\.name)) == ["mix", "composite"])
        // Whoever drops it waits until all of that is gone.
        run.close()
        await gone
        #expect(await run.take("mix")?.tracks == nil)
        #expect(!run.expect([:], labels: [:]))
    }

    @Test("a result with another number of outputs is none")
    func malformed() async {
        expect()
        run.made("mix", StageResult(outputs: []), [track])
        run.made("nothing", result, [track])
        #expect(Set(run.over().map(\.name)) == ["mix", "composite"])
    }
}

