import Media

/// What people have to be told, and where to tell them (Art. 19 GDPR; the warning before a recording ends). Receipts of one person's erasure.
public protocol NotificationAPI: Sendable {
    /// What the person was not told yet, or has not marked as read; moderators see what moderators are told.
    func notifications(in language: Language, as principal: Principal) async throws -> [NotificationView]
    func markRead(_ notification: String, as principal: Principal) async throws

    func contact(as principal: Principal) async throws -> ContactView
    func setContact(_ request: ContactRequest, as principal: Principal) async throws -> ContactView
    func removeContact(as principal: Principal) async throws

    /// What was destroyed when this person had everything of them erased.
    func receipt(of recording: RecordingID, participant: ParticipantID, as principal: Principal) async throws -> ReceiptView
}

public struct NotificationView: Codable, Sendable {
    public enum Kind: String, Codable, Sendable, CaseIterable {
        /// Somebody in a recording that was downloaded withdrew, and had everything of them erased.
        case withdrawn
        /// Somebody's name in a recording that was downloaded was corrected.
        case corrected
        /// A recording reaches its end soon.
        case expiring
    }
    public var id: String
    public var kind: Kind
    public var recording: RecordingID
    public var createdAt: Double
    public var subject: String
    public var text: String
    /// When a mail server took charge of it.
    public var mailedAt: Double?
}

public struct ContactRequest: Codable, Sendable {
    public var email: String
    /// Default German.
    public var language: Language?
    public init(email: String, language: Language? = nil) {
        self.email = email
        self.language = language
    }
}

public struct ContactView: Codable, Sendable {
    public var email: String
    public var language: Language
}
