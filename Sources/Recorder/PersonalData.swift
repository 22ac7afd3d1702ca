import Consent
import Foundation
import Media

/// Everything that is kept of one person, as `data.json` of their export (Art. 15, 20). Times are seconds since 1970.
struct PersonalData: Encodable {
    struct Person: Encodable {
        var participant: ParticipantID
        var name: String?
        var minor: Bool
        var invitedAt: Double
        var meeting: MeetingID
        var meetingTitle: String?
        var email: String?
        var language: String?
    }
    /// What they were told, and when a mail server took it.
    struct Message: Encodable {
        var kind: String
        var recording: String
        var at: Double
        var mailedAt: Double?
        var readAt: Double?
    }
    struct Access: Encodable {
        var role: String
        var recording: String?
        var purpose: String?
        var createdAt: Double
        var expiresAt: Double
    }
    /// An event of the consent history: to be read, and as it was written, which is what its SHA-256 is of.
    struct Consent: Encodable {
        var event: ConsentEvent
        var written: String
        var hash: String
    }
    struct NoticeText: Encodable {
        var hash: String
        var version: String
        var language: String
        var text: String
    }
    struct Track: Encodable {
        var track: String
        var kind: String
        var codec: String
        var verdict: String?
        /// Its file in this archive, or why there is none.
        var file: String?
        var leftOut: String?
    }
    struct Rendition: Encodable {
        var rendition: String
        var kind: String
        var purpose: String
        var yours: [String]
        var state: String
        var createdAt: Double
        var expiresAt: Double
        /// Who read it, by pseudonym: the moderator knows the names.
        var downloads: [Reading]
    }
    struct Reading: Encodable {
        var by: String
        var at: Double
        var bytes: Int64
        var whole: Bool
    }
    struct Recording: Encodable {
        var recording: String
        var state: String
        var startedAt: Double
        var stoppedAt: Double?
        var expiresAt: Double
        var releasedAt: Double?
        var restriction: RestrictionView?
        var tracks: [Track]
        /// Versions that contain the person's media.
        var renditions: [Rendition]
    }
    /// What the person read themself.
    struct OwnReading: Encodable {
        var rendition: String
        var at: Double
        var bytes: Int64
        var whole: Bool
    }
    struct AuditEntry: Encodable {
        var sequence: Int
        var at: Double
        var actor: String
        var action: String
        var object: String
        var detail: String
    }

    var exportedAt: Double
    var controller: String
    var supervisoryAuthority: String
    var person: Person
    var accesses: [Access] = []
    var consents: [Consent] = []
    var notices: [NoticeText] = []
    var recordings: [Recording] = []
    var ownDownloads: [OwnReading] = []
    var messages: [Message] = []
    var audit: [AuditEntry] = []

    func json() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return Array(try encoder.encode(self)) + [10]
    }
}
