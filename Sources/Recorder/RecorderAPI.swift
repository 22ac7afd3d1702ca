import Consent
import Media

/// Every use case of the product, as the HTTP API and the demo reach it; who may do what is decided here, not at the edge.
///
/// Each call names the ``Principal`` it acts for. Errors are ``RecorderError``; the web edge turns them into problem details.
public protocol RecorderAPI: SubjectRightsAPI, NotificationAPI, JobsAPI, ProgressAPI, BatchesAPI {
    /// Finds out who a bearer token belongs to. Throws `.unauthenticated` for an unknown, malformed or expired one alike.
    func authenticate(token: String) async throws -> Principal

    // Operator
    func issueToken(_ request: TokenRequest, as principal: Principal) async throws -> IssuedToken
    func metrics() async -> [MetricSample]
    /// Moves the service's clock forward. Refused unless the server was started with a movable clock (tests and the demo).
    func advanceClock(bySeconds seconds: Double, as principal: Principal) async throws -> ClockView

    // Meetings and people
    func createMeeting(_ request: MeetingRequest, as principal: Principal) async throws -> MeetingView
    func meetings(as principal: Principal) async throws -> [MeetingView]
    func meeting(_ id: MeetingID, as principal: Principal) async throws -> MeetingView
    func invite(_ request: InvitationRequest, to meeting: MeetingID, as principal: Principal) async throws -> InvitationView

    // Recordings
    func createRecording(_ request: RecordingRequest, in meeting: MeetingID, as principal: Principal) async throws -> RecordingView
    func recordings(of meeting: MeetingID, as principal: Principal) async throws -> [RecordingView]
    func recording(_ id: RecordingID, as principal: Principal) async throws -> RecordingView
    func notePresence(_ request: PresenceRequest, in recording: RecordingID, as principal: Principal) async throws -> RecordingView
    func control(_ id: RecordingID, _ command: RecordingCommand, as principal: Principal) async throws -> RecordingView

    // Consent
    func notice(for recording: RecordingID, language: Language, as principal: Principal) async throws -> NoticeView
    func decide(_ request: ConsentRequest, on recording: RecordingID, as principal: Principal) async throws -> ConsentView
    func consent(on recording: RecordingID, as principal: Principal) async throws -> ConsentView

    // Results
    func grant(_ request: GrantRequest, on recording: RecordingID, as principal: Principal) async throws -> GrantView
    func renditions(of recording: RecordingID, as principal: Principal) async throws -> [RenditionView]
    func download(_ id: RenditionID, as principal: Principal) async throws -> Download
    func receipt(of recording: RecordingID, as principal: Principal) async throws -> ReceiptView
    /// What the pipeline would do with it now.
    func plan(of recording: RecordingID, as principal: Principal) async throws -> PlanView
    func timeline(of recording: RecordingID, as principal: Principal) async throws -> TimelineView
}

/// Who acts, and in which part.
public struct Principal: Hashable, Sendable {
    public enum Role: String, Codable, Sendable, CaseIterable {
        /// Runs the server: tokens, clock, metrics. Sees no content.
        case `operator`
        /// Plans meetings, records, releases.
        case moderator
        /// One person in one meeting: own consent, own downloads.
        case participant
        /// A conference system that asks people itself, and passes on what they said; can never consent for them.
        case platform
        /// The holder of a download grant: one participant, one recording, one purpose.
        case grant
    }
    public var role: Role
    /// A stable pseudonym for the audit log.
    public var subject: String
    /// Set for participants and grants.
    public var participant: ParticipantID?
    public var meeting: MeetingID?
    /// Set for grants.
    public var recording: RecordingID?
    public var purpose: Purpose?
    /// The participant is a declared minor, and their guardian acts.
    public var isGuardian: Bool

    public init(role: Role, subject: String, participant: ParticipantID? = nil, meeting: MeetingID? = nil,
                recording: RecordingID? = nil, purpose: Purpose? = nil, isGuardian: Bool = false) {
        self.role = role
        self.subject = subject
        self.participant = participant
        self.meeting = meeting
        self.recording = recording
        self.purpose = purpose
        self.isGuardian = isGuardian
    }
}

/// Why a use case was refused or failed, in words for the person who asked.
public struct RecorderError: Error, Hashable, Sendable {
    /// The raw value is the last part of the problem type URI (RFC 9457).
    public enum Code: String, Sendable, CaseIterable {
        case unauthenticated, forbidden
        case notFound = "not-found"
        /// Expired or erased: it was there and is gone for good (410).
        case gone
        case invalid
        /// Not possible in the present state (409).
        case conflict
        /// A download that not everybody in it agreed to, or that was not released (403).
        case notConsented = "not-consented"
        /// Kept and nothing else, until a date (423).
        case restricted
        /// A media type or codec that is not supported (422).
        case unsupported
        case unavailable
        /// No space left, or a store that failed (507).
        case storage
    }
    public var code: Code
    /// One sentence: what is wrong, and where.
    public var detail: String
    /// What the person can do.
    public var hint: String?
    /// The request's field that is at fault, as a JSON pointer, such as `/streams/2/sdp`.
    public var pointer: String?

    public init(_ code: Code, _ detail: String, hint: String? = nil, pointer: String? = nil) {
        self.code = code
        self.detail = detail
        self.hint = hint
        self.pointer = pointer
    }
}

/// A rendition opened for one reader. Lengths and offsets are in plaintext bytes.
public struct Download: Sendable {
    public var length: Int
    /// Strong entity tag without quotes (RFC 9110 section 8.8.3): changes whenever a byte does.
    public var entityTag: String
    public var mediaType: String
    /// Neutral name, without topic and person: `recording-20261124-composite.mp4`.
    public var fileName: String
    /// The bytes of a non-empty range within `0..<length`, in chunks of at most 64 KiB, pulled one by one.
    ///
    /// The right to read is checked again while the response runs: after a withdrawal, a stop of sharing or expiry the sequence
    /// throws, and the connection must then be reset, never ended cleanly. Each finished or broken read is entered in the download log.
    public var body: @Sendable (Range<Int>) -> AsyncThrowingStream<[UInt8], any Error>

    public init(length: Int, entityTag: String, mediaType: String, fileName: String,
                body: @escaping @Sendable (Range<Int>) -> AsyncThrowingStream<[UInt8], any Error>) {
        self.length = length
        self.entityTag = entityTag
        self.mediaType = mediaType
        self.fileName = fileName
        self.body = body
    }
}

/// One value for the metrics page (Prometheus text format).
public struct MetricSample: Hashable, Sendable {
    public enum Kind: String, Sendable { case counter, gauge }
    public var name: String
    public var help: String
    public var kind: Kind
    public var labels: [String: String]
    public var value: Double

    public init(name: String, help: String, kind: Kind, labels: [String: String] = [:], value: Double) {
        self.name = name
        self.help = help
        self.kind = kind
        self.labels = labels
        self.value = value
    }
}
