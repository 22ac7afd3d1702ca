import Consent
import Media

// The bodies of requests. JSON keys are the snake_case of the property names; unknown keys are refused at the edge.

public struct TokenRequest: Codable, Sendable {
    public var role: Principal.Role
    /// Days until it expires; 1...365, default 90.
    public var days: Int?

    public init(role: Principal.Role, days: Int? = nil) {
        self.role = role
        self.days = days
    }
}

public struct MeetingRequest: Codable, Sendable {
    /// Kept sealed from logs and file names: a topic is health data. At most 200 characters.
    public var title: String?

    public init(title: String? = nil) {
        self.title = title
    }
}

public struct InvitationRequest: Codable, Sendable {
    /// The label shown in the picture; 1 to 200 characters.
    public var name: String
    /// Declared by the moderator; then a guardian's consent is needed.
    public var minor: Bool?
    /// Where to tell them what they have to know; for a minor, their guardian's. Nothing: on their page only.
    public var email: String?
    /// In which language; default German.
    public var language: Language?

    public init(name: String, minor: Bool? = nil, email: String? = nil, language: Language? = nil) {
        self.name = name
        self.minor = minor
        self.email = email
        self.language = language
    }
}

public struct RecordingRequest: Codable, Sendable {
    /// A pipeline's name under `Pipelines`, without `.yaml`; default `meeting`.
    public var pipeline: String?
    /// IP addresses that may send; nothing or empty: any.
    public var sources: [String]?
    /// At most 200.
    public var streams: [StreamRequest]
    /// Days until the recording expires; never later than the retention class allows.
    public var retentionDays: Int?

    public init(pipeline: String? = nil, sources: [String]? = nil, streams: [StreamRequest], retentionDays: Int? = nil) {
        self.pipeline = pipeline
        self.sources = sources
        self.streams = streams
        self.retentionDays = retentionDays
    }
}

public struct StreamRequest: Codable, Sendable {
    /// Whose media it is. A mixed source names several and needs everybody's consent.
    public var participants: [ParticipantID]
    public var kind: MediaKind
    /// One m-line (RFC 8866), or for a picture several of the same type: simulcast layers of it, each at a port of its own, with the same
    /// payload types and header extensions. Their ports are replaced by those in the answer. `a=crypto` (RFC 4568) announces SRTP; its key
    /// is kept sealed and never given out.
    public var sdp: String

    public init(participants: [ParticipantID], kind: MediaKind, sdp: String) {
        self.participants = participants
        self.kind = kind
        self.sdp = sdp
    }
}

public enum RecordingCommand: String, Codable, Sendable, CaseIterable {
    case pause, resume, stop
    /// Lets participants download what everybody in it agreed to share.
    case release
    /// Ends its life now: keys, then files, then the receipt.
    case erase
}

public enum Language: String, Codable, Sendable, CaseIterable { case de, en }

public struct ConsentRequest: Codable, Sendable {
    public enum Decision: String, Codable, Sendable, CaseIterable { case given, refused, withdrawn }
    public var decision: Decision
    /// Of whom; only for platforms and moderators, who can refuse or withdraw for somebody and never give.
    public var participant: ParticipantID?
    /// Default: audio and video.
    public var modalities: [Modality]?
    /// Default: share-with-participants and minutes. Publication is its own later act.
    public var purposes: [Purpose]?
    /// Hash of the notice that was shown; required for `given`.
    public var notice: String?
    public var language: Language?
    /// Only `platform`, from a platform that showed the person the notice and asked them itself: then it may pass on `given`, too.
    public var method: ConsentEvent.Method?
    /// With `withdrawn`: also destroy what was recorded of this person. Default true.
    public var erase: Bool?

    public init(decision: Decision, participant: ParticipantID? = nil, modalities: [Modality]? = nil, purposes: [Purpose]? = nil, notice: String? = nil,
                language: Language? = nil, method: ConsentEvent.Method? = nil, erase: Bool? = nil) {
        self.decision = decision
        self.participant = participant
        self.modalities = modalities
        self.purposes = purposes
        self.notice = notice
        self.language = language
        self.method = method
        self.erase = erase
    }
}

/// Somebody joined a stream, or left it. Whoever joins again is asked again.
public struct PresenceRequest: Codable, Sendable {
    public var stream: StreamID
    public var participant: ParticipantID
    public var present: Bool

    public init(stream: StreamID, participant: ParticipantID, present: Bool) {
        self.stream = stream
        self.participant = participant
        self.present = present
    }
}

public struct GrantRequest: Codable, Sendable {
    /// Default share-with-participants.
    public var purpose: Purpose?
    /// Hours until it expires; 1...720, default 24.
    public var hours: Int?

    public init(purpose: Purpose? = nil, hours: Int? = nil) {
        self.purpose = purpose
        self.hours = hours
    }
}
