import Catalog
import Depacketize
import Media
import Renditions
import Tap

/// How well one stream came in and what was made of it: what a moderator is told before they release a recording.
public struct VerdictView: Codable, Sendable {
    /// `complete`, `defects`, `empty`, `unsupported`.
    public var summary: String
    public var packets: Int
    /// Media packets that did not come in time, neither themselves nor again.
    public var lost: Int
    public var duplicates: Int
    /// What came back, by the way it did: sent again, in the next packets, in the next packet's own redundancy.
    public var recoveredByRetransmission: Int?
    public var recoveredByRedundancy: Int?
    public var recoveredByFec: Int?
    /// Sound that was made up, and sound that is silence instead, in milliseconds.
    public var concealedMs: Double?
    public var silencedMs: Double?
    /// Stretches of wall time in which the picture stood still because of losses.
    public var freezes: [[Double]]?
    public var startWall: Double?
    public var endWall: Double?
    /// How RTP time was related to wall time: `sender-reports`, `arrival` or `file`.
    public var clock: String?
    public var driftPpm: Double?
    public var longestKeyFrameGapMs: Double?
    /// Sound and picture of the same person; on the sound's verdict.
    public var lipSync: LipSyncView?
    public var resolutions: [ResolutionView]?
    /// Stretches of wall time in which the person spoke, by the levels that their device sent.
    public var speech: [[Double]]?
    /// Keys pressed on a telephone.
    public var tones: [ToneView]?
    /// What is wrong, in words; empty where nothing is.
    public var details: [String]
}

/// How sound and picture of one person were brought together.
public struct LipSyncView: Codable, Sendable {
    /// `sender-reports`: by the sender's own clock; `arrival`: by the fastest packets; `mixed`: one of each.
    public var by: String
    /// How far apart the two ways are, in milliseconds (+ = the sound would be later by arrival); nil without reports.
    public var disagreementMs: Double?
}

public struct ResolutionView: Codable, Sendable {
    public var at: Double
    public var width: Int
    public var height: Int
}

public struct ToneView: Codable, Sendable {
    public var at: Double
    public var digit: String
    public var durationMs: Double
}

extension Recorder {
    static func verdict(_ stream: StreamRecord, _ participants: [String], _ counts: StreamStatistics, _ all: [(stream: StreamRecord, participants: [String])]) -> VerdictView? {
        guard let word = stream.verdict else { return nil }
        let summary: TrackSummary? = decoded(stream.summary)
        guard let summary else {
            let unread = unsupported(stream).map { "the codec \($0) cannot be read" }
            return VerdictView(summary: word, packets: counts.packets, lost: 0, duplicates: 0, details: counts.defects + unread + (stream.problem.map { [$0] } ?? []))
        }
        let found = summary.verdict
        let isSound = summary.kind == .audio
        return VerdictView(
            summary: word, packets: found.packets, lost: found.lost, duplicates: found.duplicates, recoveredByRetransmission: found.recoveredByRetransmission,
            recoveredByRedundancy: isSound ? found.recoveredByRedundancy : nil, recoveredByFec: isSound ? found.recoveredByFEC : nil,
            concealedMs: isSound ? found.concealedMs : nil, silencedMs: isSound ? found.silencedMs : nil, freezes: isSound ? nil : found.freezes.map(Self.pair),
            startWall: summary.startWall.seconds, endWall: summary.endWall.seconds, clock: found.clock, driftPpm: found.driftPPM,
            longestKeyFrameGapMs: isSound ? nil : found.longestKeyFrameGapMs, lipSync: isSound ? lipSync(found, participants, all) : nil,
            resolutions: isSound ? nil : found.resolutions.map { ResolutionView(at: $0.at.seconds, width: $0.width, height: $0.height) },
            speech: isSound ? found.speech.map(Self.pair) : nil,
            tones: found.tones.isEmpty ? nil : found.tones.map { ToneView(at: $0.at.seconds, digit: $0.digit, durationMs: $0.durationMs) },
            details: found.defects(counts))
    }

    private static func pair(_ span: TrackVerdict.Span) -> [Double] { [span.start.seconds, span.end.seconds] }

    /// The same people's camera beside their sound.
    private static func lipSync(_ sound: TrackVerdict, _ participants: [String], _ all: [(stream: StreamRecord, participants: [String])]) -> LipSyncView? {
        let camera = all.first { $0.stream.kind == MediaKind.video.rawValue && Set($0.participants) == Set(participants) && $0.stream.summary != nil }
        guard let picture = camera.flatMap({ decoded($0.stream.summary) as TrackSummary? })?.verdict else { return nil }
        let disagreement = sound.reportsLessArrivalMs.flatMap { a in picture.reportsLessArrivalMs.map { $0 - a } }
        return LipSyncView(by: sound.clock == picture.clock ? sound.clock : "mixed", disagreementMs: disagreement)
    }
}

extension TrackVerdict {
    /// What is wrong with a track, in words; empty where it is whole.
    func defects(_ counts: StreamStatistics) -> [String] {
        var list: [String] = []
        if lost > 0 { list.append("\(lost) packets lost on the way") }
        let recovered = recoveredByRetransmission + recoveredByRedundancy + recoveredByFEC
        if recovered > 0 { list.append("\(recovered) packets lost and recovered") }
        if concealedMs > 0 { list.append("\(Int(concealedMs.rounded())) ms of sound made up") }
        if silencedMs > 0 { list.append("\(Int(silencedMs.rounded())) ms of sound missing") }
        let frozen = freezes.reduce(0) { $0 + ($1.end - $1.start).seconds }
        if !freezes.isEmpty { list.append("the picture stood still \(freezes.count) times, \((frozen * 10).rounded() / 10) s in all") }
        if droppedUnits > 0 { list.append("\(droppedUnits) \(resolutions.isEmpty ? "sound packets" : "pictures") left out") }
        list += counts.defects
        if outliers > 0 { list.append("\(outliers) packets with time stamps that fit nowhere") }
        if epochs > 1 { list.append("the sender began anew \(epochs - 1) times") }
        if let unsupported { list.append("packets of \(unsupported), which cannot be read") }
        return list
    }
}
