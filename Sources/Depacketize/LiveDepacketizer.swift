import Media

/// Gives a track's events while the track still grows: records in, in the order of arrival; events out as soon as they are settled.
///
/// The survey runs ahead of the ``Depacketizer`` by ``lag``; what it finds out is taken over every ``step``. An epoch's clock is believed
/// once it has been looked at for ``settling`` (sender reports come every few seconds); what is learned later bends it (``LiveClock``).
/// What cannot be mended in what was given out is a ``trouble``: then nothing more comes, and the track is read anew after its end.
/// Memory: what arrived within the last ``settling`` or less, at most ``waitingBytesMax``.
public struct LiveDepacketizer: Sendable {
    /// Why a track cannot be given out while it grows; the raw value says it in words.
    public enum Trouble: String, Hashable, Sendable {
        case unsupported = "a codec that is not supported"
        case epochChanged = "the sender's clock turned out to have jumped before"
        case clockMoved = "the sender's clock turned out to be another one"
        case layersAppeared = "several layers began after the track"
        case tooMuch = "more packets than can be kept waiting"
    }

    public static let lag = Nanoseconds.seconds(3)
    public static let step = Nanoseconds.seconds(2)
    public static let settling = Nanoseconds.seconds(20)
    public static let waitingBytesMax = 64 << 20

    private let format: TrackFormat
    private var survey: TrackSurvey
    private var depacketizer: Depacketizer
    /// The clocks of the epochs that are settled.
    private var clocks: [LiveClock] = []
    private var adopted: [TrackTimeline.Epoch] = []
    private var waiting: [TrackRecord] = []
    private var waitingBytes = 0
    /// RTP records that were handed to the depacketizer.
    private var pushed = 0
    private var newest: WallTime?
    private var steppedAt: WallTime?
    /// Arrival up to which everything was handed to the depacketizer: units that come later were captured hardly a second before it.
    public private(set) var givenUpTo: WallTime?
    public private(set) var trouble: Trouble?

    public init(format: TrackFormat) {
        self.format = format
        survey = TrackSurvey(format: format)
        depacketizer = Depacketizer(format: format, timeline: TrackTimeline(epochs: []))
        if depacketizer.verdict.unsupported != nil { trouble = .unsupported }
    }

    /// Complete after ``finish(emit:)``.
    public var verdict: TrackVerdict { depacketizer.verdict }

    public mutating func push(lent record: LentRecord, emit: (TrackEvent) throws -> Void) rethrows {
        guard trouble == nil else { return }
        survey.observe(lent: record)
        let kept = TrackRecord(record)
        waiting.append(kept)
        waitingBytes += Self.bytes(of: kept)
        guard waitingBytes <= Self.waitingBytesMax else { return fail(.tooMuch) }
        try advance(to: kept.time, emit: emit)
    }

    /// All records that arrived before `time` were pushed: a track that is silent goes on as well.
    public mutating func advance(to time: WallTime, emit: (TrackEvent) throws -> Void) rethrows {
        guard trouble == nil else { return }
        let now = max(newest ?? time, time)
        newest = now
        guard let last = steppedAt else { return steppedAt = now }
        guard now - last >= Self.step else { return }
        steppedAt = now
        let found = survey.soFar()
        let settled = found.epochs.prefix { now - $0.first >= Self.settling }.count
        guard adopt(found, count: settled) else { return }
        let before = settled < found.epochs.count ? found.epochs[settled].firstRecord : Int.max
        try give(upTo: now - Self.lag, before: before, emit)
    }

    /// Nothing more comes: gives out the rest.
    public mutating func finish(emit: (TrackEvent) throws -> Void) rethrows {
        guard trouble == nil else { return }
        let found = survey.finish()
        guard adopt(found, count: found.epochs.count) else { return }
        try give(upTo: WallTime(nanoseconds: .max), before: .max, emit)
        try depacketizer.finish(emit: emit)
    }

    /// Hands over what arrived up to `limit`, but for records from number `bound` on.
    private mutating func give(upTo limit: WallTime, before bound: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        var count = 0
        for record in waiting {
            guard record.time <= limit else { break }
            if case .rtp = record {
                guard pushed < bound else { break }
                pushed += 1
            }
            try depacketizer.push(record, emit: emit)
            waitingBytes -= Self.bytes(of: record)
            givenUpTo = max(givenUpTo ?? record.time, record.time)
            count += 1
        }
        waiting.removeFirst(count)
        guard pushed < bound, limit.nanoseconds < .max else { return }
        try depacketizer.pass(to: limit, emit: emit)
        givenUpTo = max(givenUpTo ?? limit, limit)
    }

    /// Takes over the first `count` epochs of `found`; false where what was given out contradicts them.
    private mutating func adopt(_ found: TrackTimeline, count: Int) -> Bool {
        guard found.epochs.count >= adopted.count,
              zip(adopted, found.epochs).allSatisfy({ ($0.firstRecord, $0.ssrc, $0.origin) == ($1.firstRecord, $1.ssrc, $1.origin) }),
              found.epochs[adopted.count...].allSatisfy({ $0.firstRecord >= pushed }) else { return troubled(.epochChanged) }
        var epochs = Array(found.epochs.prefix(max(count, adopted.count)))
        guard !epochs.isEmpty else { return true }
        for place in adopted.indices {
            guard let givenUpTo, epochs[place].clock != adopted[place].clock else { continue }
            guard clocks[place].follow(epochs[place].clock, from: min(givenUpTo, epochs[place].last)) else { return troubled(.clockMoved) }
        }
        for place in adopted.count..<epochs.count { clocks.append(LiveClock(epochs[place].clock)) }
        let wasEmpty = adopted.isEmpty
        adopted = epochs
        for place in epochs.indices { epochs[place].clock = clocks[place].clock }
        let timeline = TrackTimeline(epochs: epochs)
        if !wasEmpty, format.kind != .audio, !depacketizer.isLayered, Depacketizer.isLayered(timeline) { return troubled(.layersAppeared) }
        depacketizer.extend(timeline)
        return true
    }

    private mutating func troubled(_ reason: Trouble) -> Bool {
        fail(reason)
        return false
    }

    private mutating func fail(_ reason: Trouble) {
        trouble = trouble ?? reason
        (waiting, waitingBytes) = ([], 0)
    }

    private static func bytes(of record: TrackRecord) -> Int {
        switch record {
        case .rtp(_, let bytes), .rtcp(_, let bytes): bytes.count
        case .mark: 1
        }
    }
}
