import Media

/// How long what is kept, and who answers for it: one configuration, from which the notice is generated (DIN 66398 classes).
public struct RetentionPolicy: Hashable, Codable, Sendable {
    /// Days after the meeting for which renditions and what they are made of are kept.
    public var recordingDays = 90
    /// Longest that anybody may set.
    public var recordingDaysMax = 365
    /// Days after the start of a recording for which single outputs of a pipeline are kept, by the class that the pipeline names for them: within
    /// the recording's own date, never beyond it.
    public var outputClasses: [String: Int] = [:]
    /// Years for which proof of consent is kept after the last recording that rests on it.
    public var consentProofYears = 3
    public var downloadLogDays = 365
    /// Days for which addresses of devices and connections are kept after a recording's end.
    public var technicalDataDays = 7
    /// Days after which whoever runs the server deletes backups: the date on which the last one is gone follows from it.
    public var backupDays = 30
    /// Days before a recording's end at which those concerned are warned, each once, where it is kept for longer than that.
    public var warningDays = [7, 1]
    /// Who is responsible (Art. 13 GDPR): name and contact as shown in the notice.
    public var controller = unnamedController
    public var storage = unnamedStorage
    public var supervisoryAuthority = unnamedAuthority

    public init() {}

    /// How long proof of consent is kept, in mean Gregorian years of 365.2425 days.
    public var consentProof: Nanoseconds { .seconds(Int64(consentProofYears) * 31_556_952) }

    public static let retentionClass = "recording"
    /// What stands in for a name that nobody configured; the notice says it in its own language.
    public static let unnamedController = "the association that runs this server"
    public static let unnamedStorage = "this server"
    public static let unnamedAuthority = "the data protection authority of your federal state"
}
