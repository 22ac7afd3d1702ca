import JobQueue
import Media
import Renditions

/// How far one rendition of a recording is on its way to be downloaded.
public struct RenditionProgressView: Codable, Hashable, Sendable {
    public enum State: String, Codable, Sendable, CaseIterable {
        /// Made while the recording runs.
        case live
        case waiting
        case running
        /// There, and downloadable once the recording is released.
        case ready
        /// Not tried again by itself.
        case failed
        /// There was nothing to make it of.
        case empty
    }

    public enum Wait: String, Codable, Sendable, CaseIterable {
        /// For what it is made of.
        case inputs
        /// For its turn: others are being made.
        case turn
        /// The operator has paused the queue.
        case pause
        /// An attempt failed, and the next is not due yet.
        case retry
    }

    public enum Fault: String, Codable, Sendable, CaseIterable {
        /// Every attempt ended with an error.
        case error
        /// It took its process down again and again.
        case crash
        case cancelled
        /// Something that it is made of failed.
        case input
    }

    /// The stage's name in the pipeline.
    public var stage: String
    /// `mix`, `composite`, `waveform`, `thumbnail`.
    public var kind: String
    public var state: State
    /// 0...1; 1 only when it is ready, and within one run of the pipeline it never falls.
    public var progress: Double
    /// Seconds until it is ready, estimated from what stages of its kinds took in this installation; nil where nothing can be said.
    public var secondsLeft: Double?
    /// Seconds of the recording that are in it so far; of what is made live.
    public var madeSeconds: Double?
    public var waitsFor: Wait?
    public var fault: Fault?
    /// Why the last attempt failed, in words.
    public var reason: String?
    /// The job that failed, for whoever is to try it again.
    public var job: JobID?
    /// A version can be downloaded, once the recording is released: this one, or while this one is made the one before it.
    public var isThere: Bool
}

/// What the renditions of one recording have come to, worked out from its present run.
struct RenditionProgress {
    /// A job with what its plan says of it.
    struct Item {
        var job: Job
        var plan: PlannedJob
    }

    /// The parts are nearly all of a picture's work; joining them only copies.
    static let shareOfParts = 0.97
    /// Below this the pace of an attempt says nothing yet.
    static let paceFrom = 0.1

    var items: [Item]
    /// The stages of which a version can be downloaded, with their renditions' kinds.
    var there: [String: String]
    /// What is made while the recording runs.
    var live: [String: LiveRun.Reached?] = [:]
    /// The queue's pauses.
    var pauses: Set<PauseScope> = []
    /// Length of the recording; 0: not known.
    var seconds = 0.0
    var costs: StageCosts
    /// Jobs of a lane that run side by side.
    var slots: [Lane: Int] = [:]
    var now: WallTime

    /// One for each stage that makes renditions, in the pipeline's order; then what is there of stages that the run has not.
    func views() -> [RenditionProgressView] {
        let wholes = items.filter { $0.plan.kind != .depacketize && $0.plan.part == nil }
        let others = there.filter { stage, _ in !wholes.contains { $0.plan.stageName == stage } }.sorted { $0.key < $1.key }
        let byName = Dictionary(items.map { ($0.job.name, $0) }) { first, _ in first }, finishes = seconds > 0 ? finishes(byName) : [:]
        return wholes.map { view($0, byName, finishes) } + others.map { stage, kind in RenditionProgressView(stage: stage, kind: kind, state: .ready, progress: 1, isThere: true) }
    }

    private func parts(of whole: Item) -> [Item] { items.filter { $0.plan.stageName == whole.plan.stageName && $0.plan.part != nil } }

    private func view(_ whole: Item, _ byName: [String: Item], _ finishes: [String: Double]) -> RenditionProgressView {
        let parts = parts(of: whole), own = parts + [whole]
        let isThere = there[whole.plan.stageName] != nil
        var view = RenditionProgressView(stage: whole.plan.stageName, kind: whole.plan.kind.renditionKind, state: .waiting, progress: share(whole, parts), isThere: isThere)
        if whole.job.state == .done {
            (view.state, view.progress) = isThere ? (.ready, 1) : (.empty, 0)
            return view
        }
        if let (dead, isOwn) = firstDead(own, byName) {
            view.state = .failed
            view.fault = !isOwn ? .input : dead.job.state == .cancelled ? .cancelled : dead.job.state == .quarantined ? .crash : .error
            view.reason = dead.job.standing.reason.map { String($0.prefix { $0 != "\n" }) }
            view.job = dead.job.id
            return view
        }
        view.secondsLeft = finishes[whole.job.name]
        if own.contains(where: { $0.job.state == .running }) {
            view.state = .running
            return view
        }
        let next = own.first { $0.job.state == .available } ?? whole
        view.waitsFor = next.job.state == .blocked ? .inputs : isPaused(next.job) ? .pause : next.job.runAfter > now && next.job.standing.reason != nil ? .retry : .turn
        if view.waitsFor == .retry { view.reason = next.job.standing.reason.map { String($0.prefix { $0 != "\n" }) } }
        return view
    }

    private func share(_ whole: Item, _ parts: [Item]) -> Double {
        guard !parts.isEmpty else { return min(whole.job.furthest, LiveRun.shareMax) }
        let done = parts.reduce(0) { $0 + $1.job.furthest * ($1.plan.part?.share ?? 0) }
        return min(done * Self.shareOfParts + whole.job.furthest * (1 - Self.shareOfParts), LiveRun.shareMax)
    }

    private func isPaused(_ job: Job) -> Bool { pauses.contains(.all) || pauses.contains(.lane(job.lane)) || pauses.contains(.kind(job.kind)) }

    /// The first job that ended dead, among these or what they depend on, and whether it is one of these.
    private func firstDead(_ own: [Item], _ byName: [String: Item]) -> (Item, Bool)? {
        func isDead(_ item: Item) -> Bool { item.job.state.isDead || item.job.state == .cancelled }
        // What is cancelled because its input was is no fault of its own.
        if let dead = own.first(where: { $0.job.state.isDead }) { return (dead, true) }
        var names = Set(own.flatMap(\.plan.dependencies)), looked = Set(own.map(\.job.name))
        while let name = names.popFirst() {
            guard looked.insert(name).inserted, let item = byName[name] else { continue }
            if isDead(item) { return (item, false) }
            names.formUnion(item.plan.dependencies)
        }
        return own.first(where: isDead).map { ($0, true) }
    }

    /// Seconds until each job is done, all that it waits for included, by its name; of a picture's parts together. Jobs of other recordings
    /// are not counted. Each job stands after those that it depends on.
    private func finishes(_ byName: [String: Item]) -> [String: Double] {
        let parts = Dictionary(grouping: items.filter { $0.plan.part != nil }, by: \.plan.stageName)
        var finishes: [String: Double] = [:]
        for item in items where item.plan.part == nil {
            let own = parts[item.plan.stageName] ?? []
            func start(_ names: [String]) -> Double {
                let before = names.compactMap { byName[$0] }.filter { $0.plan.part == nil }
                return max(together(before.filter { $0.plan.kind == .depacketize }), before.compactMap { finishes[$0.job.name] }.max() ?? 0)
            }
            finishes[item.job.name] = max(start(item.plan.dependencies), start(own.first?.plan.dependencies ?? []) + together(own)) + left(item)
        }
        return finishes
    }

    /// Jobs without an order among them, as many side by side as their lane allows.
    private func together(_ all: [Item]) -> Double {
        guard let lane = all.first?.job.lane else { return 0 }
        return all.reduce(0) { $0 + left($1) } / Double(max(1, min(slots[lane] ?? 1, all.count)))
    }

    private func left(_ item: Item) -> Double {
        guard item.job.state != .done else { return 0 }
        let length = seconds * (item.plan.part?.share ?? 1)
        let all = item.plan.isInParts ? length * StageCosts.join : costs.seconds(item.plan.kind, length: length)
        guard item.job.state == .running, let startedAt = item.job.startedAt else { return all * (1 - item.job.furthest) }
        let (took, done) = (max(0, (now - startedAt).seconds), item.job.progress)
        // Where an attempt entered with much that was made before it, its own pace is not to be seen.
        let isPaceKnown = done >= Self.paceFrom && item.job.furthest <= done && live[item.job.name] == nil
        return isPaceKnown ? took * (1 - done) / done : all * (1 - max(done, live[item.job.name] == nil ? 0 : item.job.furthest))
    }
}
