import Media

/// What the people concerned, and those who answer for their data, may ask for (Art. 15 to 20, 33 and 34 GDPR).
public protocol SubjectRightsAPI: Sendable {
    // Art. 18
    /// Restricts a recording until a date; one that is restricted gets the new reason and date.
    func restrict(_ recording: RecordingID, _ request: RestrictionRequest, as principal: Principal) async throws -> RestrictionView
    func restriction(of recording: RecordingID, as principal: Principal) async throws -> RestrictionView
    /// Ends it, and does at once what had to wait for it.
    func lift(_ recording: RecordingID, as principal: Principal) async throws

    // Art. 8
    func inviteGuardian(of participant: ParticipantID, as principal: Principal) async throws -> InvitationView

    // Art. 15, 20
    func export(as principal: Principal) async throws -> PersonalExport
    // Art. 16
    func rename(_ participant: ParticipantID, _ request: NameRequest, as principal: Principal) async throws -> ParticipantView

    // Art. 33, 34
    func affected(by request: BreachRequest, as principal: Principal) async throws -> BreachView
}

/// Why a recording is restricted: the four cases of Art. 18(1).
public enum RestrictionReason: String, Codable, Sendable, CaseIterable {
    /// (a) Somebody contests that it is accurate.
    case accuracy
    /// (b) It may be unlawful, and the person does not want it erased.
    case unlawful
    /// (c) The person needs it for legal claims.
    case legalClaims = "legal-claims"
    /// (d) Somebody objected, and it is not decided yet.
    case objection
}

public struct RestrictionRequest: Codable, Sendable {
    public var reason: RestrictionReason
    /// Seconds since 1970; at most three years from now.
    public var until: Double
    /// For whom; nobody: the controller's own.
    public var participant: ParticipantID?

    public init(reason: RestrictionReason, until: Double, participant: ParticipantID? = nil) {
        self.reason = reason
        self.until = until
        self.participant = participant
    }
}

public struct RestrictionView: Codable, Sendable {
    public var reason: RestrictionReason
    public var placedAt: Double
    public var until: Double
    /// Only for those who may place and lift one, and for the person themself.
    public var participant: ParticipantID?
    public var placedBy: String?
}

public struct NameRequest: Codable, Sendable {
    /// 1 to 200 characters.
    public var name: String
    public init(name: String) { self.name = name }
}
