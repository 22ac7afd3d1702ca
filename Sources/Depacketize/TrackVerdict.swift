import Media

/// What was received and what was made of it: the catalog's verdict about one track.
public struct TrackVerdict: Hashable, Codable, Sendable {
    public struct Span: Hashable, Codable, Sendable {
        public var start: WallTime
        public var end: WallTime
        public init(start: WallTime, end: WallTime) {
            self.start = start
            self.end = end
        }
    }

    public struct Resolution: Hashable, Codable, Sendable {
        public var at: WallTime
        public var width: Int
        public var height: Int
        public init(at: WallTime, width: Int, height: Int) {
            self.at = at
            self.width = width
            self.height = height
        }
    }

    /// The picture is to be turned clockwise by `degrees` (0, 90, 180, 270) from `at` on (3GPP TS 26.114 section 7.4.5, CVO).
    public struct Rotation: Hashable, Codable, Sendable {
        public var at: WallTime
        public var degrees: Int
        public init(at: WallTime, degrees: Int) {
            self.at = at
            self.degrees = degrees
        }
    }

    /// A key pressed on a telephone (RFC 4733).
    public struct Tone: Hashable, Codable, Sendable {
        public var at: WallTime
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        public var digit: String
        public var durationMs: Double
    }

    /// From `at` on the track's units are of `codec`.
    public struct CodecChange: Hashable, Codable, Sendable {
        public var at: WallTime
        public var codec: String
    }

    /// From `at` on the pictures are those of another simulcast layer.
    public struct LayerSwitch: Hashable, Codable, Sendable {
        public var at: WallTime
        public var width: Int
        public var height: Int
    }

    /// RTP packets that passed the gate, retransmissions included.
    public var packets = 0
    /// Media packets that never came, neither themselves nor again.
    public var lost = 0
    public var duplicates = 0
    /// Came after they had been given up.
    public var late = 0
    /// No RTP, an unknown payload type, or a payload that its format forbids.
    public var malformed = 0
    /// RTP time stamps that fitted nowhere.
    public var outliers = 0
    /// Lost packets that came again (RFC 4588), that the next packets carried (RFC 2198), or whose sound the next packet's own
    /// redundancy holds (RFC 6716 section 2.1.7).
    public var recoveredByRetransmission = 0
    public var recoveredByRedundancy = 0
    public var recoveredByFEC = 0
    /// Sound that is made up, in milliseconds: lost and not recovered, but short enough to be concealed.
    public var concealedMs = 0.0
    /// Lost and too long to be concealed: silence of the same length.
    public var silencedMs = 0.0
    public var accessUnits = 0
    /// Whole or partial frames not given out: they could not be decoded without what was lost.
    public var droppedUnits = 0
    public var keyFrames = 0
    public var longestKeyFrameGapMs = 0.0
    public var first: WallTime?
    public var last: WallTime?
    /// Stretches of more than a second without anything.
    public var gaps: [Span] = []
    /// Stretches in which the picture stood still because of losses.
    public var freezes: [Span] = []
    /// How RTP time was related to wall time: `arrival` (fastest arrival) or `sender-reports`.
    public var clock = "arrival"
    /// By how much the two disagree: wall time by sender reports less wall time by arrival, in milliseconds; nil without reports.
    public var reportsLessArrivalMs: Double?
    public var driftPPM: Double?
    /// Times the sender's time line broke off and a new one began.
    public var epochs = 0
    public var resolutions: [Resolution] = []
    public var rotations: [Rotation] = []
    public var codecs: [CodecChange] = []
    public var layers: [LayerSwitch] = []
    public var tones: [Tone] = []
    /// When the person spoke, by audio level.
    public var speech: [Span] = []
    /// Stretches of at least half a second that need no decoding: silence by level (127 in each packet) or discontinuous transmission.
    public var silences: [Span] = []
    /// A codec that cannot be read, by its name.
    public var unsupported: String?

    /// Lists in a verdict are cut at this length.
    public static let listMax = 10_000

    public init() {}

    /// Whether nothing of what was sent is missing, made up or out of place: only then a recording is published without a word.
    public var isWhole: Bool {
        lost == 0 && droppedUnits == 0 && outliers == 0 && freezes.isEmpty && concealedMs == 0 && silencedMs == 0 && unsupported == nil
    }
}

extension TrackVerdict {
    /// What an earlier version did not know of stays at its default, so that its verdicts are still read.
    public init(from decoder: any Decoder) throws {
        self.init()
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        func take<Value: Decodable>(_ key: CodingKeys, _ place: WritableKeyPath<Self, Value>, _ verdict: inout Self) throws {
            if let value = try fields.decodeIfPresent(Value.self, forKey: key) { verdict[keyPath: place] = value }
        }
        try take(.packets, \.packets, &self)
        try take(.lost, \.lost, &self)
        try take(.duplicates, \.duplicates, &self)
        try take(.late, \.late, &self)
        try take(.malformed, \.malformed, &self)
        try take(.outliers, \.outliers, &self)
        try take(.recoveredByRetransmission, \.recoveredByRetransmission, &self)
        try take(.recoveredByRedundancy, \.recoveredByRedundancy, &self)
        try take(.recoveredByFEC, \.recoveredByFEC, &self)
        try take(.concealedMs, \.concealedMs, &self)
        try take(.silencedMs, \.silencedMs, &self)
        try take(.accessUnits, \.accessUnits, &self)
        try take(.droppedUnits, \.droppedUnits, &self)
        try take(.keyFrames, \.keyFrames, &self)
        try take(.longestKeyFrameGapMs, \.longestKeyFrameGapMs, &self)
        try take(.gaps, \.gaps, &self)
        try take(.freezes, \.freezes, &self)
        try take(.clock, \.clock, &self)
        try take(.epochs, \.epochs, &self)
        try take(.resolutions, \.resolutions, &self)
        try take(.rotations, \.rotations, &self)
        try take(.codecs, \.codecs, &self)
        try take(.layers, \.layers, &self)
        try take(.tones, \.tones, &self)
        try take(.speech, \.speech, &self)
        try take(.silences, \.silences, &self)
        first = try fields.decodeIfPresent(WallTime.self, forKey: .first)
        last = try fields.decodeIfPresent(WallTime.self, forKey: .last)
        reportsLessArrivalMs = try fields.decodeIfPresent(Double.self, forKey: .reportsLessArrivalMs)
        driftPPM = try fields.decodeIfPresent(Double.self, forKey: .driftPPM)
        unsupported = try fields.decodeIfPresent(String.self, forKey: .unsupported)
    }
}
