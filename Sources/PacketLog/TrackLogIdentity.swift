import Media
import SealedFile

/// Which packet log is meant; the contexts of its files follow from it.
public struct TrackLogIdentity: Hashable, Codable, Sendable {
    public var recording: RecordingID
    public var track: TrackID
    public var kind: MediaKind

    public init(recording: RecordingID, track: TrackID, kind: MediaKind) {
        self.recording = recording
        self.track = track
        self.kind = kind
    }

    /// The context of one segment, or of the manifest.
    func context(part: String) -> SealedContext {
        SealedContext(recording: recording, object: "track:\(track)", modality: kind.rawValue, part: part)
    }

    func context(segment: Int) -> SealedContext { context(part: "segment:\(segment)") }
}

/// One line of a track's manifest: a segment that nothing is written to any more.
public struct SegmentEntry: Hashable, Codable, Sendable {
    public var number: Int
    public var packets: Int
    /// Bytes of the file on disk that count; a recovered segment may have more behind them.
    public var sealedBytes: Int
    public var sha256: String
    public var firstArrival: WallTime?
    public var lastArrival: WallTime?
    /// False where a crash cut it: its valid prefix was kept.
    public var isWhole: Bool
}

/// The names of files in a track's folder.
public enum TrackLogFiles {
    public static let manifest = "manifest"
    public static let segmentSuffix = ".seg"

    public static func segment(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 6 - digits.count)) + digits + segmentSuffix
    }

    /// The segment numbers among a folder's file names, in order.
    public static func segments(among names: [String]) -> [Int] {
        names.compactMap { $0.hasSuffix(segmentSuffix) ? Int($0.dropLast(segmentSuffix.count)) : nil }.sorted()
    }
}
