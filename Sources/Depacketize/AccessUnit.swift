import Media
import RTP

/// One decodable unit: an audio packet's payload or a whole video frame.
public struct AccessUnit: Hashable, Sendable {
    public var payload: [UInt8]
    /// When its first sample or its picture was captured.
    public var time: WallTime
    /// Audio: its length, from the payload itself. Video: nil.
    public var duration: Nanoseconds?
    public var isKey: Bool
    /// Key pictures: size in pixels.
    public var width: Int?
    public var height: Int?

    public init(payload: [UInt8], time: WallTime, duration: Nanoseconds? = nil, isKey: Bool, width: Int? = nil, height: Int? = nil) {
        self.payload = payload
        self.time = time
        self.duration = duration
        self.isKey = isKey
        self.width = width
        self.height = height
    }
}

/// What comes out of a track, in the order of time.
public enum TrackEvent: Hashable, Sendable {
    case accessUnit(AccessUnit)
    /// From here on a player shows the placeholder until the next picture: gate closed, paused, ended.
    case blank(WallTime)
}

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
    }

    public var packets = 0
    public var lost = 0
    public var duplicates = 0
    public var late = 0
    /// No RTP, an unknown payload type, or a payload that its format forbids.
    public var malformed = 0
    /// RTP time stamps that fitted nowhere.
    public var outliers = 0
    public var accessUnits = 0
    /// Whole or partial frames not given out: they could not be decoded without what was lost.
    public var droppedUnits = 0
    public var keyFrames = 0
    public var longestKeyFrameGapMs = 0.0
    public var first: WallTime?
    public var last: WallTime?
    /// Stretches of more than a second without anything.
    public var gaps: [Span] = []
    /// How RTP time was related to wall time: `arrival` (fastest arrival) for now.
    public var clock = "arrival"
    public var driftPPM: Double?
    /// Times the sender's time line broke off and a new one began.
    public var epochs = 0
    public var resolutions: [Resolution] = []
    /// When the person spoke, by audio level.
    public var speech: [Span] = []
    /// A codec that cannot be read, by its name.
    public var unsupported: String?

    /// Lists in a verdict are cut at this length.
    public static let listMax = 10_000

    public init() {}
}
