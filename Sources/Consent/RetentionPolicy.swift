import Media

/// How long what is kept, and who answers for it: one configuration, from which the notice is generated (DIN 66398 classes).
public struct RetentionPolicy: Hashable, Codable, Sendable {
    /// Days after the meeting for which renditions and what they are made of are kept.
    public var recordingDays = 90
    /// Longest that anybody may set.
    public var recordingDaysMax = 365
    /// Years for which proof of consent is kept after the last recording that rests on it.
    public var consentProofYears = 3
    public var downloadLogDays = 365
    /// Who is responsible (Art. 13 GDPR): name and contact as shown in the notice.
    public var controller = "the association that runs this server"
    public var storage = "this server"
    public var supervisoryAuthority = "the data protection authority of your federal state"

    public init() {}

    public static let retentionClass = "recording"
}
