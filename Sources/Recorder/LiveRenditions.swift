import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import Logging
import Media
import PacketLog
import Renditions
import SealedFile
import Synchronization
import Tap

/// Renders recordings while they run, so that little is left to do at their end; the jobs enter what was made, or make it themselves.
///
/// A live rendering is an optimisation and nothing else: whatever goes wrong with it, or changes while it runs, the jobs do the work after
/// the end from what was captured (decision 27).
final class LiveRenditions: Sendable {
    private let runs = Mutex<[RecordingID: LiveRun]>([:])
    /// How often a recording was begun with again.
    private let again = Mutex<[RecordingID: Int]>([:])
    /// Somebody may change their mind; whatever ends more runs than this is left to the jobs.
    static let againMax = 8
    /// What of them need not be made again.
    let chunks = LiveChunks()
    private let server = Mutex<AsyncStream<LiveRun>.Continuation?>(nil)

    /// Carries out what is begun, until the task is cancelled; nothing is where the configuration is not live.
    func serve(_ recorder: Recorder) async {
        let (begun, continuation) = AsyncStream.makeStream(of: LiveRun.self)
        // Kept until the stream is left, for without it there would be nothing to wait for.
        defer { continuation.finish() }
        if recorder.configuration.isLive { server.withLock { $0 = continuation } }
        // Recordings that went on after a restart: what was made of them before is gone, and they are begun anew.
        for recording in recorder.capturing { begin(recording, isAgain: true) }
        await withDiscardingTaskGroup { group in
            for await run in begun { group.addTask { await recorder.carryOut(run) } }
            server.withLock { $0 = nil }
            group.cancelAll()
        }
        // Those that nobody came to.
        for run in runs.withLock({ Array($0.values) }) { run.endUnserved() }
    }

    /// Begins with a recording whose capture has begun, from its first segment; nothing happens where nobody serves, or it is begun already.
    func begin(_ recording: RecordingID, isAgain: Bool = false) {
        guard let server = server.withLock({ $0 }) else { return }
        let run = LiveRun(recording, isAgain: isAgain)
        let isFirst = runs.withLock { runs in
            runs = runs.filter { !$0.value.isSpent }
            guard runs[recording] == nil else { return false }
            runs[recording] = run
            return true
        }
        guard isFirst else { return }
        if case .terminated = server.yield(run) { run.endUnserved() }
    }

    /// Begins anew with a recording that still runs, where what was made is not what it has to be any more, or the child died. False where it
    /// has been begun too often.
    @discardableResult
    func beginAgain(_ recording: RecordingID) -> Bool {
        let isWorth = again.withLock { again in
            again[recording, default: 0] += 1
            return again[recording, default: 0] <= Self.againMax
        }
        if isWorth { begin(recording, isAgain: true) }
        return isWorth
    }

    var recordings: Set<RecordingID> { Set(runs.withLock { Array($0.keys) } + chunks.recordings) }
    func run(of recording: RecordingID) -> LiveRun? { runs.withLock { $0[recording] } }

    /// The recording's logs are closed.
    func end(_ recording: RecordingID, at time: WallTime) {
        again.withLock { $0[recording] = nil }
        run(of: recording)?.end(at: time)
    }

    /// Nothing of it is to be used any more.
    func forget(_ recording: RecordingID) -> LiveRun? { runs.withLock { $0.removeValue(forKey: recording) } }
}

extension Recorder {
    /// Ends a recording's live rendering, if there is one: its child is killed, and what it made is removed, keys first. Its jobs make it anew.
    func dropLive(_ recording: RecordingID) async {
        await dropRun(recording)
        await discardChunks(of: recording)
    }

    private func dropRun(_ recording: RecordingID) async {
        guard let run = liveRenditions.forget(recording) else { return }
        await run.drop()
        await discard(run.over())
    }

    /// From the start of a capture to the end of its child.
    func carryOut(_ run: LiveRun) async {
        var hasDied = false
        do {
            try await withThrowingTaskGroup { group in
                group.addTask { try await self.render(run) }
                group.addTask {
                    for await _ in run.stopped {}
                    throw CancellationError()
                }
                group.addTask {
                    while !run.isEnded { try await Task.sleep(for: .seconds(1)) }
                    try await Task.sleep(for: .seconds(LiveRun.endSecondsMax))
                    throw StageRunError.died("nothing came of it within \(Int(LiveRun.endSecondsMax)) s")
                }
                _ = try await group.next()
                group.cancelAll()
            }
        } catch {
            if case StageRunError.died = error { hasDied = true }
            logger.warning("a recording's rendering was broken off: it is begun anew while it runs, or made after its end", metadata: ["recording": "\(run.recording)", "reason": "\(error)"])
        }
        // The task may be cancelled already, and in such a one nothing can be written.
        await Task.detached { [self] in await discard(run.over()) }.value
        run.close()
        // It was given up for a consent that changed, or it crashed: while the recording goes on there is time to make it anew.
        if hasDied, !run.isEnded, session(of: run.recording) != nil, liveRenditions.beginAgain(run.recording) { return }
        // Whoever drops it says what stays of the pictures.
        if !run.isDropped { await discardChunks(of: run.recording) }
    }

    /// The same, where one of these tracks may be in what is made. What was made before they came stays while the recording runs.
    func dropLive(_ recording: RecordingID, holding tracks: [TrackID]) async {
        if liveRenditions.run(of: recording)?.holds(tracks) ?? false { await dropRun(recording) }
        let isOver = session(of: recording) == nil
        await discardChunks(of: recording) { !isOver && $0.made.tracks.isDisjoint(with: tracks) }
    }

    /// Keys first: what is left of somebody who withdrew cannot be read from then on.
    func discard(_ outputs: [StagePreparation.Output]) async {
        do { _ = try await keys.destroy(outputs.compactMap(\.keyID)) } catch { logger.error("the keys of a live rendering are still there", metadata: ["error": "\(error)"]) }
        for output in outputs { unlink(output.temporary.path) }
    }
}
