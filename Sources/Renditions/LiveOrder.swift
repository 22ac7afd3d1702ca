import Depacketize
import Media
import PacketLog
import SealedFile

/// What one `mitschnitt-stage --live` process is told to do: make tracks, mix and composite of a recording that still runs.
///
/// Sent as JSON over the control socket (``StageChannel``) with the outputs' descriptors; what is recorded follows as ``LiveFeed``. It carries
/// the keys of these tracks and outputs and no other.
public struct LiveOrder: Codable, Sendable {
    public struct Track: Codable, Sendable {
        /// The planned job that this is the result of.
        public var job: String
        public var identity: TrackLogIdentity
        public var format: TrackFormat
        public var key: DataKey
        /// Drawn into the picture.
        public var label: String?
        public var output: StageOutput

        public init(job: String, identity: TrackLogIdentity, format: TrackFormat, key: DataKey, label: String?, output: StageOutput) {
            (self.job, self.identity, self.format, self.key, self.label, self.output) = (job, identity, format, key, label, output)
        }
    }

    public struct Rendition: Codable, Sendable {
        public var job: String
        public var parameters: StageParameters
        public var outputs: [StageOutput]

        public init(job: String, parameters: StageParameters, outputs: [StageOutput]) {
            (self.job, self.parameters, self.outputs) = (job, parameters, outputs)
        }
    }

    /// Tracks of one recording, at most.
    public static let tracksMax = 64

    public var tracks: [Track]
    public var mix: Rendition?
    public var composite: Rendition?
    /// Place among the mix's outputs of the one whose sound goes beside the pictures; nil for pictures alone.
    public var soundOfComposite: Int?
    /// The peaks of the mix.
    public var waveform: Rendition?
    /// Presentation time 0 of the pictures that an earlier rendering set aside (``LiveFeed/kept(_:)``); nil where there are none.
    public var origin: WallTime?

    public init(tracks: [Track], mix: Rendition?, composite: Rendition?, soundOfComposite: Int?) {
        (self.tracks, self.mix, self.composite, self.soundOfComposite) = (tracks, mix, composite, soundOfComposite)
    }
}

/// Pictures of a composite, set aside in a sealed MP4 of its own: where somebody is taken out of the recording, what they are not in is not
/// made again.
public struct LiveChunk: Codable, Hashable, Sendable {
    /// So many of one recording are set aside at most.
    public static let most = 512

    /// Its place in the composite, counted in pictures. The first is a key picture, and none knows of another chunk.
    public var ticks: Range<Int>
    /// Whose cells are in it.
    public var tracks: Set<TrackID>

    public init(ticks: Range<Int>, tracks: Set<TrackID>) { (self.ticks, self.tracks) = (ticks, tracks) }
}

/// A chunk that an earlier rendering of the recording made, and how it is opened.
public struct KeptChunk: Codable, Sendable {
    public var chunk: LiveChunk
    public var key: DataKey
    public var context: SealedContext

    public init(chunk: LiveChunk, key: DataKey, context: SealedContext) { (self.chunk, self.key, self.context) = (chunk, key, context) }
}

/// What goes to a live stage after its order.
public enum LiveFeed: Codable, Sendable {
    /// A chunk that need not be made again, with its descriptor; they come in their order, before any segment.
    case kept(KeptChunk)
    /// An empty file, with its descriptor, for the next chunk that is set aside.
    case room(StageOutput)
    /// The next closed segment of a track's packet log, in their order, with its descriptor. A track that may not be used for the pipeline's
    /// purpose (`isShared` false) is only depacketized.
    case segment(track: Int, number: Int, isShared: Bool)
    /// Everything of the track that arrived before this moment was handed over.
    case advanced(track: Int, to: WallTime)
    /// The recording is over, and everything was handed over.
    case finish
}

/// What comes back.
public enum LiveMessage: Codable, Sendable {
    /// A job's outputs are whole and synced, made of these tracks.
    case made(job: String, StageResult, tracks: [TrackID])
    /// What a job will be is made from its first moment to this one; told about once for each second of it.
    case reached(job: String, from: WallTime, to: WallTime)
    /// The room that was handed over first of those that are left holds this chunk, whole and synced; time 0 of the pictures is `origin`.
    case chunk(LiveChunk, origin: WallTime)
    /// So many pictures were copied and not made.
    case copied(pictures: Int)
    /// The recording must be rendered after its end, for the reason in words.
    case trouble(String)
}
