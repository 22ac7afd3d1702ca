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

    public init(tracks: [Track], mix: Rendition?, composite: Rendition?, soundOfComposite: Int?) {
        (self.tracks, self.mix, self.composite, self.soundOfComposite) = (tracks, mix, composite, soundOfComposite)
    }
}

/// What goes to a live stage after its order.
public enum LiveFeed: Codable, Sendable {
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
    /// The recording must be rendered after its end, for the reason in words.
    case trouble(String)
}
