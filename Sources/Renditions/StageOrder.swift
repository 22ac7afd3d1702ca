import Depacketize
import Media
import PacketLog
import SealedFile

/// What one `mitschnitt-stage` process is told to do: one stage, its inputs and outputs by descriptor, and only the keys of these.
///
/// Sent as JSON over the control socket (``StageChannel``). It carries no path, no URL and no root key.
public struct StageOrder: Codable, Sendable {
    public var stage: StageKind
    /// Parameters as the pipeline file gives them, completed with their defaults and checked by the planner.
    public var parameters: StageParameters
    public var inputs: [StageInput]
    public var outputs: [StageOutput]
    /// The stretch of wall time that a rendition covers; presentation time 0 is `start`. Nil for `depacketize`.
    public var span: WallSpan?
    /// composePart: which stretch of the span.
    public var part: StagePart?

    public init(stage: StageKind, parameters: StageParameters, inputs: [StageInput], outputs: [StageOutput], span: WallSpan?, part: StagePart? = nil) {
        self.stage = stage
        self.parameters = parameters
        self.inputs = inputs
        self.outputs = outputs
        self.span = span
        self.part = part
    }
}

/// One of several parts of a picture that are made side by side.
///
/// All are equally long but the last four, of which two have a half and two a quarter: equal parts on two workers leave one of them idle for
/// a whole part where their number is odd, or where one is dearer than another. The lengths follow from the number of parts alone.
public struct StagePart: Hashable, Codable, Sendable {
    /// Most parts of one picture.
    public static let countMax = 240
    /// In quarters of a whole part, those at the end.
    private static let lastQuarters = [2, 2, 1, 1]
    /// From 0.
    public var index: Int
    public var count: Int

    public init(index: Int, count: Int) {
        self.index = index
        self.count = count
    }

    /// In how many parts a picture of `seconds` is made, none of whose whole ones is shorter than `length`; 1 for a picture of less than two.
    public static func count(seconds: Double, length: Int) -> Int {
        guard length > 0, seconds.isFinite, seconds >= Double(2 * length) else { return 1 }
        // The last four take the place of one and a half.
        return min(countMax, Int(min(seconds, 86_400) / Double(length) + 2.5))
    }

    /// How much of the whole it is, but for the rounding to ticks.
    public var share: Double {
        guard count > Self.lastQuarters.count else { return 1 / Double(max(1, count)) }
        return Double(quarters(before: index + 1) - quarters(before: index)) / Double(quarters(before: count))
    }

    private func quarters(before parts: Int) -> Int {
        let last = Self.lastQuarters
        return 4 * min(parts, count - last.count) + last.prefix(max(0, parts - count + last.count)).reduce(0, +)
    }

    /// Its ticks of `all`, of which every one is in exactly one part. Few parts, or few ticks, are divided equally: they differ by one at most.
    public func ticks(of all: Int) -> Range<Int> {
        guard count > 0, (0..<count).contains(index), all >= 0 else { return 0..<0 }
        guard count > Self.lastQuarters.count, all >= 4 * count else { return all * index / count..<all * (index + 1) / count }
        let whole = quarters(before: count)
        return all * quarters(before: index) / whole..<all * quarters(before: index + 1) / whole
    }
}

/// The stages there are; the raw value is the name in a pipeline file.
public enum StageKind: String, Codable, Sendable, CaseIterable {
    /// A track's packet log to one Matroska file, without transcoding.
    case depacketize
    /// All sound tracks to one loudness-normalised mix.
    case mix
    /// All picture tracks to one grid with name labels, joined with the mix; of a long recording only the joining.
    case compose
    /// One part of a long recording's grid, without sound. Planned from a compose stage, never written in a pipeline file.
    case composePart = "compose-part"
    /// A mix to the peaks that a player draws (JSON, audiowaveform's version 2 layout).
    case waveform
    /// A composite to one still picture (JPEG).
    case thumbnail

    /// What people call the result: the `kind` of a rendition in the API and in `result.json`.
    public var renditionKind: String {
        switch self {
        case .compose: "composite"
        case .composePart: Self.partKind
        default: rawValue
        }
    }

    /// The kind of what is no result: a part that waits for the others.
    public static let partKind = "part"

    /// Those that a pipeline file may name.
    public static let inPipelines = allCases.filter { $0 != .composePart }
}

/// A half-open stretch of wall time.
public struct WallSpan: Hashable, Codable, Sendable {
    public var start: WallTime
    public var end: WallTime
    public init(start: WallTime, end: WallTime) {
        self.start = start
        self.end = end
    }
    public var duration: Nanoseconds { end - start }
}

/// The parameters of all stages; each reads only its own (documented in Pipelines/README or `mitschnitt pipeline --help`).
public struct StageParameters: Hashable, Codable, Sendable {
    /// mix: EBU R128 integrated loudness in LUFS.
    public var loudnessLUFS: Double = -23
    /// mix: highest true peak after normalisation in dBTP.
    public var truePeakDB: Double = -1
    /// mix, compose: output channels, 1 or 2.
    public var channels: Int = 1
    /// mix, compose: bits per second of the sound.
    public var audioBitrate: Int = 96_000
    /// compose: canvas in pixels, both even.
    public var width: Int = 1280
    public var height: Int = 720
    /// compose: pictures per second.
    public var frameRate: Int = 25
    /// compose: x264 preset, constant rate factor and thread count (pinned: another count gives other bytes).
    public var preset: String = "veryfast"
    public var constantRateFactor: Double = 25
    public var threads: Int = 2
    /// compose: seconds of a part at least, where a recording is two of them long: parts are made side by side (``StagePart``). Nil or 0: in one
    /// piece.
    public var partSeconds: Int?
    /// compose: longest time a camera's last picture is held when nothing new comes, in seconds.
    public var holdSeconds: Double = 1
    /// waveform: peaks per second.
    public var peaksPerSecond: Int = 10
    /// thumbnail: where in the composite, as a share of its length; and the picture's width in pixels.
    public var thumbnailAt: Double = 0.25
    public var thumbnailWidth: Int = 480

    public init() {}
}

/// One sealed file, or one packet log of several, that a stage reads.
public struct StageInput: Codable, Sendable {
    /// Places of this input's descriptors among all that were handed over, in order. One for a file, one per segment for a packet log.
    public var descriptors: [Int]
    public var key: DataKey
    public var content: Content
    /// Whose media it is; the label that compose draws. Nil where several people are in it.
    public var participant: ParticipantID?
    public var label: String?

    public enum Content: Codable, Sendable {
        /// A track's packet log; `segments` are the contexts' segment numbers, in the order of the descriptors.
        case packetLog(identity: TrackLogIdentity, format: TrackFormat, segments: [Int])
        /// A finished file as it was brought, not sealed: `depacketize` takes one modality out of it. The key is the track's.
        case file(container: FileContainer, kind: MediaKind, start: WallTime)
        /// A sealed Matroska track made by `depacketize`, with what that stage found out about it.
        case track(context: SealedContext, track: TrackSummary)
        /// A sealed rendition made by another stage.
        case rendition(context: SealedContext, startWall: WallTime)
    }

    /// compose: pictures that are there already, a part or the whole of an earlier version.
    public var isPicture: Bool {
        guard case .rendition(let context, _) = content else { return false }
        return [StageKind.composePart, .compose].map(\.renditionKind).contains(context.modality)
    }

    public init(descriptors: [Int], key: DataKey, content: Content, participant: ParticipantID? = nil, label: String? = nil) {
        self.descriptors = descriptors
        self.key = key
        self.content = content
        self.participant = participant
        self.label = label
    }
}


/// What `depacketize` found out about a track, for the catalog, the API and the stages after it.
public struct TrackSummary: Hashable, Codable, Sendable {
    public var kind: MediaKind
    public var codec: Codec?
    /// Wall time of the Matroska file's timestamp 0.
    public var startWall: WallTime
    /// Wall time of the end of the last access unit.
    public var endWall: WallTime
    /// Moments from which on the placeholder is shown until the next picture: gate closed, paused, ended.
    public var blanks: [WallTime]
    public var verdict: TrackVerdict

    public init(kind: MediaKind, codec: Codec?, startWall: WallTime, endWall: WallTime, blanks: [WallTime], verdict: TrackVerdict) {
        self.kind = kind
        self.codec = codec
        self.startWall = startWall
        self.endWall = endWall
        self.blanks = blanks
        self.verdict = verdict
    }
}

/// A file that a stage writes: an empty file opened for reading and writing, sealed on the way.
public struct StageOutput: Codable, Sendable {
    public var descriptor: Int
    public var key: DataKey
    public var context: SealedContext
    public var container: Container

    /// The form of an output; the raw value is the name in a pipeline file.
    public enum Container: String, Codable, Sendable, CaseIterable {
        /// Matroska with the source's own codec.
        case matroska
        /// MP4 with the moov in front: AAC, or H.264 with AAC.
        case mp4
        /// Ogg with Opus.
        case ogg
        case json
        case jpeg

        public var fileExtension: String {
            switch self {
            case .matroska: "mkv"
            case .mp4: "mp4"
            case .ogg: "ogg"
            case .json: "json"
            case .jpeg: "jpg"
            }
        }

        public var mediaType: String {
            switch self {
            case .matroska: "video/x-matroska"
            case .mp4: "video/mp4"
            case .ogg: "audio/ogg"
            case .json: "application/json"
            case .jpeg: "image/jpeg"
            }
        }
    }

    public init(descriptor: Int, key: DataKey, context: SealedContext, container: Container) {
        self.descriptor = descriptor
        self.key = key
        self.context = context
        self.container = container
    }
}

/// What came out of a stage: one report per output of the order, in its order.
public struct StageResult: Codable, Sendable {
    public var outputs: [OutputReport]
    /// depacketize only.
    public var track: TrackSummary?

    public init(outputs: [OutputReport], track: TrackSummary? = nil) {
        self.outputs = outputs
        self.track = track
    }
}

/// Facts about one written output, measured while it was written.
public struct OutputReport: Hashable, Codable, Sendable {
    /// Length of the plaintext in bytes.
    public var bytes: Int64
    /// SHA-256 of the file on disk (sealed), hexadecimal; nil for a track, which is hashed when it is erased.
    public var ciphertextSHA256: String?
    /// Wall time of presentation time 0.
    public var startWall: WallTime
    public var duration: Nanoseconds
    public var videoFrames: Int?
    public var width: Int?
    public var height: Int?
    /// Integrated loudness after normalisation in LUFS; nil for silence or no sound.
    public var loudnessLUFS: Double?
    /// What was found when the written file was read again; nil where it was not. Without it nothing is published.
    public var verified: OutputVerification?

    public init(bytes: Int64, ciphertextSHA256: String?, startWall: WallTime, duration: Nanoseconds, videoFrames: Int? = nil,
                width: Int? = nil, height: Int? = nil, loudnessLUFS: Double? = nil, verified: OutputVerification? = nil) {
        self.verified = verified
        self.bytes = bytes
        self.ciphertextSHA256 = ciphertextSHA256
        self.startWall = startWall
        self.duration = duration
        self.videoFrames = videoFrames
        self.width = width
        self.height = height
        self.loudnessLUFS = loudnessLUFS
    }
}

/// What a written file was found to be by a reader of its own, once it was closed and synced: every byte authenticated, every packet read; or, of
/// a file that was written while its recording ran, the index, the beginning and the end.
public struct OutputVerification: Hashable, Codable, Sendable {
    /// Packets, or what a file without any counts instead: peaks, pictures.
    public var packets: Int
    /// Pictures that were decoded, none of them damaged.
    public var pictures: Int?
    /// Samples of a channel that were decoded, at 48 kHz.
    public var samples: Int?

    public init(packets: Int, pictures: Int? = nil, samples: Int? = nil) {
        self.packets = packets
        self.pictures = pictures
        self.samples = samples
    }
}

/// Why a stage gave up, in words for the person who has to do something about it.
public struct StageFailure: Error, Hashable, Codable, Sendable {
    public enum Code: String, Codable, Sendable {
        case unsupportedCodec, damagedInput, nothingToDo, limitExceeded, library, outputFull, notVerified, protocolViolation
    }
    public var code: Code
    public var what: String
    /// What a person can do.
    public var hint: String?

    public init(code: Code, what: String, hint: String? = nil) {
        self.code = code
        self.what = what
        self.hint = hint
    }
}

/// A frame from the child to its parent.
public enum StageMessage: Codable, Sendable {
    /// Share of the work done, 0...1, never falling.
    case progress(Double)
    case result(StageResult)
    case failure(StageFailure)
}
