import Media
import RTP

/// What a kept packet's header says about its stream.
struct PacketFacts: Hashable, Sendable {
    var ssrc: SSRC
    /// Which of the stream's m-lines it came by.
    var layer: Int
    var sequence: UInt16
    var bytes: Int
    var arrival: WallTime
    /// Retransmission or parity.
    var isRepair = false
    /// The number of the packet that is sent again (RFC 4588).
    var repaired: UInt16?
    var beginsKeyFrame = false
}

/// How a stream comes in just now, and when its senders are to be asked for a key frame. Pure; fed with header facts and times.
///
/// Counts what passed the gate only: of who did not consent nothing is measured. Memory: ``sourcesMax`` sources and three seconds of sums.
public struct StreamHealth: Sendable {
    public enum State: String, Hashable, Codable, Sendable, CaseIterable {
        /// The gate is closed, or nothing came since it was opened.
        case waiting
        case good
        /// More than 5 % of the last three seconds did not come, and more than one packet.
        case lossy
        /// Packets came, and then none for three seconds. Sound in discontinuous transmission still sends every 400 ms.
        case silent
        /// A picture's packets come, and for three seconds no key frame that was needed.
        case noKeyFrame = "no-key-frame"
        /// Packets come and none authenticates (SRTP).
        case undecryptable
    }

    public struct Report: Hashable, Sendable {
        public var state: State
        /// Of the packets of the last three seconds.
        public var lossPercent: Double
        /// Of packets with their headers, in bits a second.
        public var bitrate: Int
        public var packetsPerSecond: Double
        /// Since the last key frame began, in seconds; nil where none came.
        public var keyFrameAge: Double?
    }

    private struct Source: Sendable {
        var ssrc: SSRC
        var layer: Int
        var last: WallTime
        var sequences = SequenceWatch()
        var requests = KeyFrameRequests()
        var neededSince: WallTime?
    }

    private struct Sums: Sendable {
        var slice: Int64 = .min
        var received = 0
        var expected = 0
        var packets = 0
        var bytes = 0
    }

    static let sourcesMax = 16
    static let window = Nanoseconds.seconds(3)
    static let slice = Nanoseconds.milliseconds(500)
    static let slices = 6
    static let lossPercentMax = 5.0
    static let failuresMin = 10

    let isVideo: Bool
    private var sources: [Source] = []
    private var sums = Array(repeating: Sums(), count: Self.slices)
    private var isOpen = false
    private var first: WallTime?
    private var last: WallTime?
    private var lastKeyFrame: WallTime?
    private var failures = 0
    private var lastAuthentic: WallTime?

    init(isVideo: Bool) { self.isVideo = isVideo }

    // MARK: What happens

    mutating func opened(at now: WallTime) {
        isOpen = true
        (first, last) = (nil, nil)
        sums = Array(repeating: Sums(), count: Self.slices)
        for place in sources.indices {
            // What the gate dropped is not lost.
            sources[place].sequences = SequenceWatch()
            sources[place].neededSince = isVideo ? now : nil
            sources[place].requests.begin()
        }
    }

    mutating func closed() { isOpen = false }

    /// A key frame is needed from every source: somebody asked, or packets were lost where no number tells.
    mutating func needKeyFrame(at now: WallTime, isLoss: Bool) {
        guard isVideo else { return }
        for place in sources.indices { need(place, now, isLoss) }
    }

    private mutating func need(_ place: Int, _ now: WallTime, _ isLoss: Bool) {
        sources[place].neededSince = sources[place].neededSince ?? now
        if isLoss { sources[place].requests.beginAfterLoss() } else { sources[place].requests.begin() }
    }

    mutating func authenticated(_ isAuthentic: Bool, at now: WallTime) {
        failures = isAuthentic ? 0 : min(failures + 1, Int(UInt16.max))
        if isAuthentic { lastAuthentic = now }
    }

    /// A packet was kept.
    mutating func take(_ facts: PacketFacts) {
        let now = facts.arrival
        (first, last) = (first ?? now, now)
        let sum = self.sum(at: now)
        sums[sum].packets += 1
        sums[sum].bytes += facts.bytes
        guard !facts.isRepair else {
            if let number = facts.repaired, sources.indices.contains(where: { sources[$0].sequences.take(repairOf: number) }) { sums[sum].received += 1 }
            return
        }
        let place = source(facts)
        sources[place].last = now
        switch sources[place].sequences.take(facts.sequence, at: now) {
        case .next(let skipped):
            sums[sum].expected += skipped + 1
            sums[sum].received += 1
        case .filled: sums[sum].received += 1
        case .known: break
        case .restart:
            sums[sum].expected += 1
            sums[sum].received += 1
            if isVideo { need(place, now, false) }
        }
        guard isVideo, facts.beginsKeyFrame else { return }
        lastKeyFrame = now
        sources[place].neededSince = nil
        sources[place].requests.satisfy()
    }

    /// A new source is a new picture: it needs a key frame.
    private mutating func source(_ facts: PacketFacts) -> Int {
        if let place = sources.firstIndex(where: { $0.ssrc == facts.ssrc }) { return place }
        if sources.count == Self.sourcesMax, let oldest = sources.indices.min(by: { sources[$0].last < sources[$1].last }) { sources.remove(at: oldest) }
        sources.append(Source(ssrc: facts.ssrc, layer: facts.layer, last: facts.arrival))
        if isVideo { need(sources.count - 1, facts.arrival, false) }
        return sources.count - 1
    }

    private mutating func sum(at now: WallTime) -> Int {
        let slice = now.nanoseconds / Self.slice.count
        let place = Int(truncatingIfNeeded: abs(slice % Int64(Self.slices)))
        if sums[place].slice != slice { sums[place] = Sums(slice: slice) }
        return place
    }

    // MARK: What follows

    struct Request: Hashable, Sendable {
        var ssrc: SSRC
        var layer: Int
        var kind: KeyFrameRequests.Kind
    }

    /// The requests to be sent now; they then count as sent. A source that sends nothing is not asked.
    mutating func dueRequests(at now: WallTime) -> [Request] {
        guard isVideo, isOpen else { return [] }
        var due: [Request] = []
        for place in sources.indices {
            if sources[place].sequences.takeLoss(at: now) { need(place, now, true) }
            guard sources[place].requests.isWaiting, isActive(sources[place], now), let kind = sources[place].requests.due(at: now) else { continue }
            due.append(Request(ssrc: sources[place].ssrc, layer: sources[place].layer, kind: kind))
        }
        return due
    }

    private func isActive(_ source: Source, _ now: WallTime) -> Bool { now < source.last || now - source.last < Self.window }

    /// How it is at `now`.
    mutating func report(at now: WallTime) -> Report {
        // A clock that was set back: what came in its future came just now.
        if let last, now < last { (self.first, self.last) = (min(first ?? now, now), now) }
        let current = now.nanoseconds / Self.slice.count
        let recent = sums.filter { $0.slice <= current && $0.slice > current - Int64(Self.slices) }
        let (expected, received) = recent.reduce((0, 0)) { ($0.0 + $1.expected, $0.1 + $1.received) }
        let lost = max(0, expected - received)
        // The sums cover the slices before this one, and what there is of this one; less where less came.
        let covered = Nanoseconds(count: now.nanoseconds - (current - Int64(Self.slices) + 1) * Self.slice.count)
        let seconds = max(0.5, min(covered.seconds, first.map { (now - $0).seconds } ?? covered.seconds))
        var report = Report(state: .good, lossPercent: expected > 0 ? 100 * Double(lost) / Double(expected) : 0,
                            bitrate: Int(Double(recent.reduce(0) { $0 + $1.bytes } * 8) / seconds),
                            packetsPerSecond: Double(recent.reduce(0) { $0 + $1.packets }) / seconds,
                            keyFrameAge: lastKeyFrame.map { max(0, (now - $0).seconds) })
        report.state = state(lost, report.lossPercent, now)
        return report
    }

    private func state(_ lost: Int, _ lossPercent: Double, _ now: WallTime) -> State {
        if failures >= Self.failuresMin, lastAuthentic.map({ now - $0 >= Self.window }) ?? true { return .undecryptable }
        guard isOpen, let last else { return .waiting }
        if now - last >= Self.window { return .silent }
        let active = sources.filter { isActive($0, now) }
        if isVideo, !active.isEmpty, active.allSatisfy({ $0.neededSince.map { now - $0 >= Self.window } ?? false }) { return .noKeyFrame }
        return lost > 1 && lossPercent > Self.lossPercentMax ? .lossy : .good
    }
}
