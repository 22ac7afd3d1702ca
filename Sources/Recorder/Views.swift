import Catalog
import Consent
import Media

// What the API answers. JSON keys are the snake_case of the property names; times are seconds since 1970 as numbers
// (`…Wall`, `…At`), so that they compare with capture times.

public struct IssuedToken: Codable, Sendable {
    /// Shown once; only its hash is stored.
    public var token: String
    public var role: Principal.Role
    public var expiresAt: Double
}

public struct ClockView: Codable, Sendable {
    public var now: Double
}

public struct MeetingView: Codable, Sendable {
    public var id: MeetingID
    public var title: String?
    public var createdAt: Double
    public var participants: [ParticipantView]
}

public struct ParticipantView: Codable, Sendable {
    public var id: ParticipantID
    /// Only for the moderator and the person themself.
    public var name: String?
    public var minor: Bool
}

public struct InvitationView: Codable, Sendable {
    public var participant: ParticipantView
    /// The participant's bearer token and access code for the page; shown once.
    public var token: String
    public var expiresAt: Double
}

public struct RecordingView: Codable, Sendable {
    public enum State: String, Codable, Sendable, CaseIterable {
        case recording, paused, processing, ready, failed, expired, erased
    }
    public var id: RecordingID
    public var meeting: MeetingID
    public var state: State
    public var pipeline: String
    public var startedAt: Double
    public var stoppedAt: Double?
    /// Set from the first second.
    public var expiresAt: Double
    public var releasedAt: Double?
    public var streams: [StreamView]
    public var progress: [StageProgressView]
    /// What is made of it, each on its way to be downloaded.
    public var making: [RenditionProgressView]
    /// In words, where the state is `failed` or results have defects.
    public var problems: [String]
    /// Set while the recording is kept and nothing else is done with it (Art. 18).
    public var restriction: RestrictionView?
}

public struct StreamView: Codable, Sendable {
    public var id: StreamID
    public var participants: [ParticipantID]
    public var kind: MediaKind
    public var codec: String
    /// Where to send; nil once stopped.
    public var endpoint: EndpointView?
    /// Where several m-lines are layers of one picture: where to send each of them, in their order. The first is `endpoint`.
    public var layers: [EndpointView]?
    /// Codecs that were announced and cannot be read, by name; the others are recorded.
    public var unsupported: [String]?
    /// Whether media passes the gate at this moment: this is what "being recorded" means.
    public var recording: Bool
    public var packets: Int
    public var droppedByGate: Int
    public var strangers: Int
    public var malformed: Int
    /// SRTP packets that came before, and packets that did not authenticate.
    public var replayed: Int
    public var notAuthentic: Int
    public var kernelDrops: Int
    public var lastPacketAt: Double?
    /// How it comes in just now; nil once stopped.
    public var health: HealthView?
    /// After processing: complete, or what is missing.
    public var verdict: VerdictView?
}

public struct HealthView: Codable, Sendable {
    public enum State: String, Codable, Sendable, CaseIterable {
        /// The gate is closed, or nothing came since it was opened.
        case waiting
        case good
        /// More than 5 % of the last three seconds did not come.
        case lossy
        /// Nothing came for three seconds.
        case silent
        /// For three seconds no key frame came that was needed: the picture cannot be shown.
        case noKeyFrame = "no-key-frame"
        /// SRTP packets come and do not authenticate.
        case undecryptable
    }
    public var state: State
    /// Of the last three seconds.
    public var lossPercent: Double
    /// In bits a second, headers included.
    public var bitrate: Int
    public var packetsPerSecond: Double
    /// Seconds since the last key frame began; nil for sound.
    public var keyFrameAge: Double?
    /// What to do, where there is something to do.
    public var hint: String?
}

public struct EndpointView: Codable, Sendable {
    public var address: String
    public var rtpPort: Int
    public var rtcpPort: Int
}

public struct StageProgressView: Codable, Sendable {
    /// The stage's name in the pipeline, with the participant where it runs per track.
    public var stage: String
    public var state: String
    /// 0...1
    public var progress: Double
    public var attempts: Int
    public var error: String?
}

public struct NoticeView: Codable, Sendable {
    public var hash: String
    public var version: String
    public var language: Language
    public var text: String
}

public struct ConsentView: Codable, Sendable {
    public struct Person: Codable, Sendable {
        public var participant: ParticipantID
        public var name: String?
        /// `undecided`, `given`, `refused`, `withdrawn`; `invalidated`: the notice changed meanwhile, and they are asked again.
        public var decision: String
        public var modalities: [Modality]
        public var purposes: [Purpose]
        public var decidedAt: Double?
        /// Whether any stream of this person passes the gate now.
        public var recorded: Bool
        /// They withdrew and asked for erasure, which waits for the end of the recording's restriction.
        public var erasureWaits: Bool?
        /// They came back, or joined another stream, after they said yes: they are asked again, and not recorded there until they answer.
        public var asksAgain: Bool?
    }
    public var recording: RecordingID
    /// A participant sees only their own line; a moderator sees all, without purposes' history.
    public var people: [Person]
    /// Set while the recording is kept and nothing else is done with it (Art. 18).
    public var restriction: RestrictionView?
}

public struct GrantView: Codable, Sendable {
    /// Shown once; a bearer token for the downloads of this recording.
    public var token: String
    public var expiresAt: Double
}

public struct RenditionView: Codable, Sendable {
    public var id: RenditionID
    /// `composite`, `mix`, `waveform`, `thumbnail`, …: the stage that made it.
    public var kind: String
    public var container: String
    public var mediaType: String
    /// Participants whose media is in it.
    public var contains: [ParticipantID]
    /// Wall time of presentation time 0, seconds since 1970.
    public var startWall: Double
    /// Seconds.
    public var duration: Double
    public var bytes: Int
    public var width: Int?
    public var height: Int?
    public var expiresAt: Double
    public var releasedAt: Double?
    /// Whether the asking principal may download it now, and if not, why in words.
    public var downloadable: Bool
    public var reason: String?
}

public struct ReceiptView: Codable, Sendable {
    public struct Object: Codable, Sendable {
        public var id: String
        public var keyFingerprint: String
        public var ciphertextSha256: String
        public var keyDestroyedAt: Double
        public var unlinkedAt: Double
    }
    public var recording: RecordingID
    public var policy: String
    public var trigger: String
    public var objects: [Object]
    public var auditEntry: Int
    /// That the entry is in the log: checked offline by `mitschnitt audit verify`. Receipts of earlier versions have none.
    public var auditProof: AuditProof?
    /// Where to complain (Art. 77).
    public var supervisoryAuthority: String
    /// Whose media was erased, where it is one person's receipt and not the recording's.
    public var participant: ParticipantID?
    /// When the last backup is deleted that may still hold the ciphertext, as configured; receipts of earlier versions do not say so.
    public var backupsGoneAt: Double?
}

public struct TimelineView: Codable, Sendable {
    public struct Person: Codable, Sendable {
        public var participant: ParticipantID
        public var name: String?
        /// [start, end] wall times in seconds.
        public var speech: [[Double]]
        public var picture: [[Double]]
        /// When the gate was open for any of their streams.
        public var consented: [[Double]]
    }
    public var startWall: Double
    public var endWall: Double
    public var people: [Person]
}
