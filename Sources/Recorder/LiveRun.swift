import Glibc
import Media
import Renditions
import SealedFile
import Synchronization

/// The live rendering of one recording, as its jobs and the others who ask about it see it.
///
/// | event | while it runs | after |
/// |---|---|---|
/// | a job's outputs are whole | kept for the job | |
/// | the recording ends | the rest is handed over, the child has ``endSecondsMax`` for it | |
/// | the child has filled a room | its chunk is kept for a later run (``LiveChunks``) | |
/// | the child ends | outputs that are not whole go, with their keys | |
/// | ``drop()`` | the child is killed, everything goes that no job has taken | what no job has taken goes |
final class LiveRun: Sendable {
    /// One job's result, and where it lies.
    struct Made: Sendable {
        var result: StageResult
        var outputs: [StagePreparation.Output]
        /// The tracks that are in it, and the name that each had.
        var tracks: Set<TrackID>
    }

    /// The span of a rendition that is there already.
    struct Reached: Hashable, Sendable { var from, to: WallTime }

    /// What is not published is never said to be whole.
    static let shareMax = 0.99

    /// How long the child may take after the recording's end, before its jobs do without it.
    static let endSecondsMax = 120.0

    private struct State {
        var outputs: [String: [StagePreparation.Output]] = [:]
        /// Nil until it is known what goes in.
        var labels: [TrackID: String]?
        var made: [String: Made] = [:]
        var taken: Set<String> = []
        var reached: [String: Reached] = [:]
        /// Files that the child may set chunks aside in, in the order in which it got them.
        var rooms: [(output: StagePreparation.Output, context: SealedContext)] = []
        var roomsGiven = 0
        /// Chunks that others took the place of.
        var replaced: [StagePreparation.Output] = []
        var segmentsBehind: Int?
        var endedAt: WallTime?
        var isDropped = false
        var isOver = false
        var isClosed = false
        var waiters: [Int: (job: String?, progress: @Sendable (Double) -> Void, continuation: CheckedContinuation<Made?, Never>)] = [:]
        var nextWaiter = 0

        func share(of job: String) -> Double {
            guard let reached = reached[job], let endedAt, endedAt > reached.from else { return 0 }
            return min(max((reached.to - reached.from).seconds / (endedAt - reached.from).seconds, 0), LiveRun.shareMax)
        }

        mutating func takeWaiters(_ isWanted: (String?) -> Bool) -> [CheckedContinuation<Made?, Never>] {
            waiters.filter { isWanted($0.value.job) }.keys.compactMap { waiters.removeValue(forKey: $0)?.continuation }
        }
    }

    /// A run that has not been given more segments of a track than this when the recording ends is given up: its jobs divide the work among
    /// them, and are done sooner.
    static let segmentsBehindMax = 12

    /// So many empty files for chunks the child has.
    static let roomsOpen = 2

    let recording: RecordingID
    /// Begun in the middle of the recording, and reading it from its beginning.
    let isAgain: Bool
    private let state = Mutex(State())
    let stopped: AsyncStream<Void>
    private let stop: AsyncStream<Void>.Continuation

    init(_ recording: RecordingID, isAgain: Bool = false) {
        (self.recording, self.isAgain) = (recording, isAgain)
        (stopped, stop) = AsyncStream.makeStream(of: Void.self)
    }

    /// Nothing more comes of it, and nothing is left of it.
    var isSpent: Bool { state.withLock { $0.isOver && $0.made.isEmpty } }
    var isDropped: Bool { state.withLock { $0.isDropped } }
    var isEnded: Bool { state.withLock { $0.endedAt != nil } }
    /// Whether the rendition with this key was made by this run and entered.
    func hasMade(_ keyID: String) -> Bool { state.withLock { state in state.outputs.contains { state.taken.contains($0.key) && $0.value.contains { $0.keyID == keyID } } } }
    func label(of track: TrackID) -> String? { state.withLock { $0.labels?[track] } }
    /// Whether one of these tracks may be in what is made.
    func holds(_ tracks: [TrackID]) -> Bool { state.withLock { state in state.labels.map { labels in tracks.contains { labels[$0] != nil } } ?? true } }

    /// How many closed segments of a track the child was not given yet; of the track of which that is most.
    func note(segmentsBehind: Int) { state.withLock { $0.segmentsBehind = segmentsBehind } }

    /// Whether so much is left to do that it is not worth waiting for.
    var isBehind: Bool { state.withLock { $0.segmentsBehind ?? (isAgain ? .max : 0) > Self.segmentsBehindMax } }

    /// The recording has ended at this moment: its logs are closed.
    func end(at time: WallTime) { state.withLock { $0.endedAt = time } }

    /// What the child makes, by the job that it is the result of, and how far each is: nil before its first second. Nothing once it is over.
    var making: [String: Reached?] {
        state.withLock { state in state.isOver || state.isDropped ? [:] : Dictionary(uniqueKeysWithValues: state.outputs.keys.map { ($0, state.reached[$0]) }) }
    }

    /// How much of a job's result is there when the recording has ended, 0...``shareMax``; 0 where nothing comes of it.
    func share(of job: String) -> Double {
        state.withLock { state in
            guard state.made[job] == nil else { return Self.shareMax }
            return state.isOver || state.isDropped ? 0 : state.share(of: job)
        }
    }

    func reached(_ job: String, from: WallTime, to: WallTime) {
        let (waiting, share) = state.withLock { state in
            state.reached[job] = Reached(from: from, to: to)
            return (state.waiters.values.filter { $0.job == job }.map(\.progress), state.share(of: job))
        }
        for progress in waiting { progress(share) }
    }

    /// Whether the child is to have another empty file.
    var wantsRoom: Bool {
        state.withLock { state in
            state.labels != nil && state.rooms.count < Self.roomsOpen && state.roomsGiven < LiveChunk.most && !state.isDropped && !state.isOver && state.endedAt == nil
        }
    }

    /// An empty file for a chunk. False where the run is over or dropped: the file is the caller's to remove.
    func add(room: StagePreparation.Output, _ context: SealedContext) -> Bool {
        state.withLock { state in
            guard !state.isDropped, !state.isOver else { return false }
            state.rooms.append((room, context))
            state.roomsGiven += 1
            return true
        }
    }

    /// The child has set a chunk aside; nil where nothing of it is to be used any more.
    func fill(_ chunk: LiveChunk, _ origin: WallTime, _ parameters: StageParameters) -> LiveChunks.Chunk? {
        state.withLock { state in
            guard !state.isDropped, !state.isOver, let labels = state.labels, !state.rooms.isEmpty else { return nil }
            let room = state.rooms.removeFirst()
            return LiveChunks.Chunk(made: chunk, origin: origin, labels: labels, parameters: parameters, output: room.output, context: room.context)
        }
    }

    /// Has chunks removed with what else is left of the run.
    func leave(_ chunks: [StagePreparation.Output]) { state.withLock { $0.replaced += chunks } }

    /// What the child will make. False where the run was dropped meanwhile: the outputs are the caller's to remove.
    func expect(_ outputs: [String: [StagePreparation.Output]], labels: [TrackID: String]) -> Bool {
        state.withLock { state in
            guard !state.isDropped else { return false }
            (state.outputs, state.labels) = (outputs, labels)
            return true
        }
    }

    func made(_ job: String, _ result: StageResult, _ tracks: [TrackID]) {
        let waiting: ([CheckedContinuation<Made?, Never>], Made)? = state.withLock { state in
            guard !state.isDropped, !state.isOver, !state.taken.contains(job), let outputs = state.outputs[job], outputs.count == result.outputs.count else { return nil }
            let made = Made(result: result, outputs: outputs, tracks: Set(tracks))
            let ids = state.waiters.filter { $0.value.job == job }.keys
            guard !ids.isEmpty else {
                state.made[job] = made
                return nil
            }
            state.taken.insert(job)
            return (ids.compactMap { state.waiters.removeValue(forKey: $0)?.continuation }, made)
        }
        guard let (continuations, made) = waiting else { return }
        // A job has one attempt at a time; were there two, the second does without.
        for (place, continuation) in continuations.enumerated() { continuation.resume(returning: place == 0 ? made : nil) }
    }

    /// What was made of a job, which is the caller's from then on; waits for it while the child runs, and tells the share that is there
    /// meanwhile. Nil where there is nothing.
    func take(_ job: String, progress: @escaping @Sendable (Double) -> Void = { _ in }) async -> Made? {
        progress(share(of: job))
        return await wait(job, progress)
    }

    /// Kills the child; returns when it is gone, and what it made with it.
    func drop() async {
        state.withLock { $0.isDropped = true }
        stop.finish()
        _ = await wait(nil)
    }

    private func wait(_ job: String?, _ progress: @escaping @Sendable (Double) -> Void = { _ in }) async -> Made? {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (isNow, made): (Bool, Made?) = state.withLock { state in
                    if let job, let made = state.made.removeValue(forKey: job) {
                        state.taken.insert(job)
                        return (true, made)
                    }
                    let isInVain = job == nil ? state.isClosed : state.isOver || state.isDropped || Task.isCancelled
                    if isInVain { return (true, nil) }
                    state.waiters[id] = (job, progress, continuation)
                    return (false, nil)
                }
                if isNow { continuation.resume(returning: made) }
            }
        } onCancel: {
            // Whoever waits for the child to be gone waits on.
            let waiter = state.withLock { $0.waiters[id]?.job == nil ? nil : $0.waiters.removeValue(forKey: id) }
            waiter?.continuation.resume(returning: nil)
        }
    }

    /// The child is gone: what it did not finish, or all that nobody has taken where it was dropped, is the caller's to remove.
    func over() -> [StagePreparation.Output] {
        let (waiters, left) = state.withLock { state in
            state.isOver = true
            if state.isDropped { state.made = [:] }
            let left = state.outputs.filter { !state.taken.contains($0.key) && state.made[$0.key] == nil }.flatMap(\.value) + state.rooms.map(\.output) + state.replaced
            (state.rooms, state.replaced) = ([], [])
            state.outputs = state.outputs.filter { state.made[$0.key] != nil || state.taken.contains($0.key) }
            return (state.takeWaiters { $0 != nil }, left)
        }
        for waiter in waiters { waiter.resume(returning: nil) }
        return left
    }

    /// Nobody carries it out, or nobody does any more.
    func endUnserved() {
        _ = over()
        close()
    }

    /// What was left is removed.
    func close() {
        let waiters = state.withLock { state in
            state.isClosed = true
            return state.takeWaiters { $0 == nil }
        }
        for waiter in waiters { waiter.resume(returning: nil) }
    }
}
