import Media

/// Captures and finished files to be recorded after the fact, with who is in them and what each of them allowed.
public struct ImportRequest: Sendable {
    public struct Person: Sendable {
        /// The importer's own name for them.
        public var key: String
        public var name: String?
        public var modalities: [Modality]
        public init(key: String, name: String?, modalities: [Modality]) {
            self.key = key
            self.name = name
            self.modalities = modalities
        }
    }

    public struct Stream: Sendable {
        public var people: [String]
        public var kind: MediaKind
        /// May be left out where `capture` is an .mjr, which says it itself.
        public var sdp: String?
        /// A capture of this stream alone; nil: it is in ``ImportRequest/captures``.
        public var capture: String?
        /// When `capture` began, where the file does not say.
        public var start: WallTime?

        public init(people: [String], kind: MediaKind, sdp: String?, capture: String? = nil, start: WallTime? = nil) {
            self.people = people
            self.kind = kind
            self.sdp = sdp
            self.capture = capture
            self.start = start
        }
    }

    /// A finished file: a mixed source, of which a modality is kept only if everybody in it allowed that modality (CONSENT.md section 1).
    public struct File: Sendable {
        public var path: String
        public var people: [String]
        /// Wall time of the file's beginning.
        public var start: WallTime?
        /// What is taken of it. A screen's picture needs `screen` in place of `video`.
        public var kinds: [MediaKind]

        public init(path: String, people: [String], start: WallTime? = nil, kinds: [MediaKind] = [.audio, .video]) {
            self.path = path
            self.people = people
            self.start = start
            self.kinds = kinds
        }
    }

    public var pipeline: String
    public var captures: [String]
    public var people: [Person]
    public var streams: [Stream]
    public var files: [File]

    public init(pipeline: String, captures: [String], people: [Person], streams: [Stream], files: [File] = []) {
        self.pipeline = pipeline
        self.captures = captures
        self.people = people
        self.streams = streams
        self.files = files
    }
}

/// What an import has become.
public struct ImportedRecording: Sendable {
    public var recording: RecordingID
    /// The importer's names by participant.
    public var keys: [ParticipantID: String]
    /// A principal that may see the recording's state.
    public var moderator: Principal
    /// By place in the request: why a stream was left out.
    public var refused: [Int: String] = [:]
    public var streams: [Int: StreamID] = [:]
    /// By place among the request's files: one stream a kind.
    public var files: [Int: [StreamID]] = [:]
    /// What the captures lacked, in sentences.
    public var notes: [String] = []
}
