import Media

/// What is made of a recording: a pipeline file, read and checked.
///
/// Stages stand in an order in which each comes after those it reads from, so there are no cycles.
public struct Pipeline: Hashable, Sendable {
    public var name: String
    /// What its renditions may be used for; only tracks with a consent for it are put into them.
    public var purpose: Purpose
    public var stages: [Stage]
    /// SHA-256 of the file's bytes, hexadecimal: which version of it a run was compiled from.
    public var digest: String

    /// At most this many stages in one file.
    public static let stagesMax = 32

    public struct Stage: Hashable, Sendable {
        public var name: String
        public var kind: StageKind
        /// Empty for `depacketize`, which reads the packet log of every track.
        public var inputs: [Input]
        public var outputs: [Output]
        public var parameters: StageParameters
        public var condition = Condition()
    }

    /// Under which circumstances a stage runs: its `when`.
    public struct Condition: Hashable, Sendable {
        /// It runs only where there is a usable track of one of these kinds; empty: of any.
        public var has: Set<MediaKind> = []
        /// It reads only what is consented for this purpose, and what it makes is for it; nil: the pipeline's.
        public var purpose: Purpose?
        public init(has: Set<MediaKind> = [], purpose: Purpose? = nil) {
            self.has = has
            self.purpose = purpose
        }
    }

    /// What a stage's results may be used for.
    public func purpose(of stage: Stage) -> Purpose { stage.condition.purpose ?? purpose }

    /// The same by the stage's name; the pipeline's own for a stage that it does not have.
    public func purpose(of stage: String) -> Purpose { stages.first { $0.name == stage }.map(purpose(of:)) ?? purpose }

    /// Everything that its results may be used for.
    public var purposes: Set<Purpose> { Set(stages.map(purpose(of:))) }

    /// The retention classes that its outputs name.
    public var retentionClasses: Set<String> { Set(stages.flatMap(\.outputs).compactMap(\.retention)) }

    /// What a stage reads.
    public enum Input: Hashable, Codable, Sendable {
        /// `tracks.audio`: all tracks of a kind that the depacketize stage `stage` made.
        case tracks(stage: String, kind: MediaKind)
        /// `mix.sound`: one output of another stage.
        case output(stage: String, name: String)
        /// The parts of a stage's own picture, `count` of them, or an earlier version made of the same `kinds` of tracks. Planned, never written.
        case parts(stage: String, output: String, kinds: [MediaKind], count: Int)

        public var stage: String {
            switch self {
            case .tracks(let stage, _), .output(let stage, _), .parts(let stage, _, _, _): stage
            }
        }
    }

    public struct Output: Hashable, Codable, Sendable {
        public var name: String
        public var container: StageOutput.Container
        /// The configured class that says how long it is kept, within the recording's own date; nil: as long as the recording.
        public var retention: String?
        public init(name: String, container: StageOutput.Container, retention: String? = nil) {
            self.name = name
            self.container = container
            self.retention = retention
        }
    }
}

extension StageKind {
    /// The containers that a stage can write, and the most outputs it can have.
    public var containers: [StageOutput.Container] {
        switch self {
        case .depacketize: [.matroska]
        case .mix: [.mp4, .ogg]
        case .compose, .composePart: [.mp4]
        case .waveform: [.json]
        case .thumbnail: [.jpeg]
        }
    }

    /// The parameters that a stage reads, as a pipeline file spells them.
    public var parameterNames: [String] {
        switch self {
        case .depacketize: []
        case .mix: ["loudness_lufs", "true_peak_db", "channels", "audio_bitrate"]
        case .compose, .composePart: ["width", "height", "frame_rate", "preset", "constant_rate_factor", "threads", "hold_seconds", "part_seconds"]
        case .waveform: ["peaks_per_second"]
        case .thumbnail: ["at", "width"]
        }
    }
}

/// A fault in a pipeline file, with its place.
public struct PipelineError: Error, Hashable, Sendable {
    /// Counted from 1; 0 where the whole file is meant.
    public var line: Int
    public var column: Int
    public var what: String
    public var hint: String?

    public init(line: Int, column: Int, what: String, hint: String? = nil) {
        self.line = line
        self.column = column
        self.what = what
        self.hint = hint
    }

    /// `FILE:LINE:COLUMN: what`, the line with a caret below the column, and the hint.
    public func explained(file: String, text: String) -> String {
        var lines = [line > 0 ? "\(file):\(line):\(column): \(what)" : "\(file): \(what)"]
        let source = text.split(separator: "\n", omittingEmptySubsequences: false)
        if line > 0, line <= source.count {
            lines.append("  " + source[line - 1])
            lines.append("  " + String(repeating: " ", count: max(0, column - 1)) + "^")
        }
        if let hint { lines.append("  " + hint) }
        return lines.joined(separator: "\n")
    }
}
