import GRDB

// Rows of the catalog, one struct a table. Ids are the text of an `Identifier`, times are nanoseconds since 1970.

public protocol CatalogRecord: Codable, Hashable, Sendable, FetchableRecord, PersistableRecord {}

extension CatalogRecord {
    public static var databaseColumnDecodingStrategy: DatabaseColumnDecodingStrategy { .convertFromSnakeCase }
    public static var databaseColumnEncodingStrategy: DatabaseColumnEncodingStrategy { .convertToSnakeCase }
}

public struct MeetingRecord: CatalogRecord {
    public static let databaseTableName = "meeting"
    public var id: String
    public var title: String?
    public var createdAt: Int64
    /// Pseudonym of whoever planned it; nil where that is not known.
    public var moderator: String?
    public init(id: String, title: String?, createdAt: Int64, moderator: String? = nil) {
        (self.id, self.title, self.createdAt, self.moderator) = (id, title, createdAt, moderator)
    }
}

public struct ParticipantRecord: CatalogRecord {
    public static let databaseTableName = "participant"
    public var id: String
    public var meeting: String
    public var isMinor: Bool
    public var createdAt: Int64
    public init(id: String, meeting: String, isMinor: Bool, createdAt: Int64) {
        (self.id, self.meeting, self.isMinor, self.createdAt) = (id, meeting, isMinor, createdAt)
    }
}

public struct IdentityRecord: CatalogRecord {
    public static let databaseTableName = "identity"
    public var participant: String
    public var name: String
    public init(participant: String, name: String) { (self.participant, self.name) = (participant, name) }
}

public struct AccessTokenRecord: CatalogRecord {
    public static let databaseTableName = "access_token"
    public var hash: String
    public var role: String
    public var subject: String
    public var participant: String?
    public var meeting: String?
    public var recording: String?
    public var purpose: String?
    public var isGuardian: Bool
    public var createdAt: Int64
    public var expiresAt: Int64

    public init(hash: String, role: String, subject: String, participant: String? = nil, meeting: String? = nil, recording: String? = nil,
                purpose: String? = nil, isGuardian: Bool = false, createdAt: Int64, expiresAt: Int64) {
        self.hash = hash
        self.role = role
        self.subject = subject
        self.participant = participant
        self.meeting = meeting
        self.recording = recording
        self.purpose = purpose
        self.isGuardian = isGuardian
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }
}

public struct RecordingRecord: CatalogRecord {
    public static let databaseTableName = "recording"
    public var id: String
    public var meeting: String
    public var pipeline: String
    public var state: String
    public var retentionDays: Int
    public var startedAt: Int64
    public var stoppedAt: Int64?
    public var expiresAt: Int64
    public var releasedAt: Int64?
    /// JSON list of sentences.
    public var problems: String
    /// JSON list of the addresses that may send; empty: any.
    public var sources: String

    public init(id: String, meeting: String, pipeline: String, state: String, retentionDays: Int, startedAt: Int64, expiresAt: Int64, sources: String = "[]") {
        self.id = id
        self.meeting = meeting
        self.pipeline = pipeline
        self.state = state
        self.retentionDays = retentionDays
        self.startedAt = startedAt
        self.expiresAt = expiresAt
        problems = "[]"
        self.sources = sources
    }
}

public struct StreamRecord: CatalogRecord {
    public static let databaseTableName = "stream"
    public var id: String
    public var recording: String
    public var position: Int
    public var track: String
    public var kind: String
    public var sdp: String
    public var codec: String
    /// JSON of `TrackFormat`.
    public var format: String
    public var address: String
    public var rtpPort: Int
    public var rtcpPort: Int
    /// JSON of the capture's counts, once stopped.
    public var statistics: String?
    /// JSON of `TrackSummary`, once depacketized.
    public var summary: String?
    /// In a word: complete, defects, empty, unsupported, not-consented, erased.
    public var verdict: String?
    /// The track's Matroska below the recording's folder.
    public var file: String?
    public var bytes: Int64?
    public var sha256: String?
    /// JSON list of the endpoints of the m-lines after the first.
    public var layers: String
    /// JSON of the finished file that the track is to be made of; nil for packets, and once there is a verdict.
    public var source: String?
    /// Why the track came to nothing, in words.
    public var problem: String?

    /// Made of a finished file: there never was an SDP.
    public var isFile: Bool { sdp.isEmpty }

    public init(id: String, recording: String, position: Int, track: String, kind: String, sdp: String, codec: String, format: String,
                address: String, rtpPort: Int, rtcpPort: Int, layers: String = "[]") {
        self.layers = layers
        self.id = id
        self.address = address
        self.rtpPort = rtpPort
        self.rtcpPort = rtcpPort
        self.recording = recording
        self.position = position
        self.track = track
        self.kind = kind
        self.sdp = sdp
        self.codec = codec
        self.format = format
    }
}

public struct RenditionRecord: CatalogRecord {
    public static let databaseTableName = "rendition"
    public var id: String
    public var recording: String
    public var stage: String
    public var kind: String
    public var output: String
    public var container: String
    public var purpose: String
    public var bytes: Int64
    public var sha256: String
    public var startWall: Int64
    public var duration: Int64
    public var width: Int?
    public var height: Int?
    public var loudness: Double?
    public var state: String
    public var createdAt: Int64
    public var expiresAt: Int64
    /// SHA-256, hexadecimal, of everything that decides its bytes; nil where that is not known.
    public var fingerprint: String?
    /// The same of a composite's pictures without the sound.
    public var pictureFingerprint: String?
    /// How long its stage ran; nil where it only joined parts.
    public var madeSeconds: Double?

    public init(id: String, recording: String, stage: String, kind: String, output: String, container: String, purpose: String, bytes: Int64, sha256: String,
                startWall: Int64, duration: Int64, width: Int?, height: Int?, loudness: Double?, state: String, createdAt: Int64, expiresAt: Int64,
                fingerprint: String? = nil, pictureFingerprint: String? = nil, madeSeconds: Double? = nil) {
        self.id = id
        self.recording = recording
        self.stage = stage
        self.kind = kind
        self.output = output
        self.container = container
        self.purpose = purpose
        self.bytes = bytes
        self.sha256 = sha256
        self.startWall = startWall
        self.duration = duration
        self.width = width
        self.height = height
        self.loudness = loudness
        self.state = state
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.fingerprint = fingerprint
        self.pictureFingerprint = pictureFingerprint
        self.madeSeconds = madeSeconds
    }
}
