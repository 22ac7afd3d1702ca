import Depacketize
import FFmpeg
import Media
import PacketLog
import Renditions

/// One track of a recording that still runs: its log's segments in, its sealed Matroska and its packets for mix or picture out.
final class LiveTrack {
    /// A unit may come out so much later than the packets around it, and still find its place in the mix.
    static let marginSeconds = Nanoseconds.seconds(3)

    let order: LiveOrder.Track
    private var depacketizer: LiveDepacketizer
    private let sink: SealedSink
    private let writer: TrackFileWriter
    /// Whether a mix or a picture is made of it.
    private let isUsed: Bool
    /// Whether it may be used for the renditions; nil until something of it came.
    private(set) var isShared: Bool?
    /// Set with the first unit of a track that is shared.
    private(set) var packets: GrowingPackets?
    private(set) var first: AccessUnit?
    /// When the latest of its units begins: so far the recording lasts at least.
    private(set) var latest: WallTime?
    private(set) var blanks: [WallTime] = []
    /// Units that came when the mix was past their place.
    private(set) var late = 0
    /// Up to here the mix is written.
    var writtenUpTo: WallTime?
    private var refusal: String?
    private var wasFinished = false

    init(_ order: LiveOrder.Track, _ sink: SealedSink, isUsed: Bool) {
        (self.order, self.sink, self.isUsed) = (order, sink, isUsed)
        depacketizer = LiveDepacketizer(format: order.format)
        writer = TrackFileWriter(sink)
    }

    var id: TrackID { order.identity.track }
    var isSound: Bool { order.identity.kind == .audio }
    var verdict: TrackVerdict { depacketizer.verdict }

    /// Why the recording must be rendered after its end instead; nil while all is well.
    var trouble: String? {
        if let found = depacketizer.trouble { return found.rawValue }
        if let refusal { return refusal }
        // What is late in the mix is lost there; half a second is not worth it.
        return isSound && late > 25 ? "sound that came later than it could be waited for" : nil
    }

    /// Everything captured before this moment has come out; nil while nothing is known.
    var settledUpTo: WallTime? { wasFinished ? WallTime(nanoseconds: .max) : depacketizer.givenUpTo.map { $0 - Self.marginSeconds } }

    func read(_ number: Int, _ descriptor: Int32, isShared: Bool) throws {
        self.isShared = self.isShared ?? isShared
        let reader = TrackLogReader(segments: [.init(number: number, descriptor: descriptor)], identity: order.identity, key: order.key)
        while try reader.nextBlock({ record in try depacketizer.push(lent: record) { try take($0) } }) {}
    }

    func advance(to time: WallTime) throws { try depacketizer.advance(to: time) { try take($0) } }

    private func take(_ event: TrackEvent) throws {
        try writer.take(event)
        switch event {
        case .blank(let time): if blanks.count < TrackVerdict.listMax { blanks.append(time) }
        case .accessUnit(let unit):
            latest = max(latest ?? unit.time, unit.time)
            if first == nil {
                guard let made = GrowingPackets(unit) else { return }  // refused by the file as well, until its key unit comes
                first = unit
                if isShared == true, isUsed { packets = made }
            }
            if let writtenUpTo, unit.time < writtenUpTo { late += 1 }
            guard let packets, !packets.append(unit) else { return }
            refusal = "a codec that changes, or too much at once"
        }
    }

    /// Seals the file; nil where nothing of the track could be decoded.
    func finish() throws -> StageResult? {
        try depacketizer.finish { try take($0) }
        packets?.isOver = true
        wasFinished = true
        guard trouble == nil, let (start, end) = try writer.finish() else { return nil }
        var verdict = depacketizer.verdict
        verdict.droppedUnits += writer.refused
        let report = try StageRun.report(track: sink, start: start, duration: end - start)
        self.end = end
        expectation = .track(packets: writer.written, last: .milliseconds(writer.lastMs))
        return StageResult(outputs: [report], track: TrackSummary(kind: order.identity.kind, codec: writer.codec, startWall: start, endWall: end,
                                                                  blanks: writer.blanks, verdict: verdict))
    }

    /// What its file must turn out to be; known after ``finish()``.
    private(set) var expectation: OutputExpectation?
    /// When the last unit ends; known after ``finish()``.
    private(set) var end: WallTime?
}
