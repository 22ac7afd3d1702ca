import Crypto
import Foundation
import GRDB
import Media
import SealedFile

/// Where a person can be reached. For a participant it goes with their identity.
public struct ContactRecord: CatalogRecord {
    public static let databaseTableName = "contact"
    public var subject: String
    public var participant: String?
    public var address: String
    public var language: String
    public init(subject: String, participant: String?, address: String, language: String) {
        (self.subject, self.participant, self.address, self.language) = (subject, participant, address, language)
    }
}

/// Something that somebody has to be told, without address or name.
public struct NotificationRecord: CatalogRecord {
    public static let databaseTableName = "notification"
    public var id: String
    public var recipient: String
    public var event: String
    public var kind: String
    public var recording: String
    public var isModerators: Bool
    public var createdAt: Int64
    public var attempts: Int
    public var nextAt: Int64
    public var sentAt: Int64?
    public var failedAt: Int64?
    public var seenAt: Int64?
}

extension Database {
    /// Enters that `recipients` have to be told, each once: who was told of this event before is left out. How many are new is returned.
    ///
    /// The id follows from recipient and event, and with it the Message-ID: after a restore of an older catalog it is still the same message.
    @discardableResult
    public func tell(_ recipients: [String], kind: String, event: String, recording: String, isModerators: Bool = false, now: WallTime) throws -> Int {
        var count = 0
        for recipient in recipients {
            let id = Hexadecimal.text(SHA256.hash(data: Data("\(recipient)\n\(event)".utf8))).prefix(32)
            try execute(sql: """
                INSERT INTO notification (id, recipient, event, kind, recording, is_moderators, created_at, next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (recipient, event) DO NOTHING
                """, arguments: [String(id), recipient, event, kind, recording, isModerators, now.nanoseconds, now.nanoseconds])
            guard changesCount == 1 else { continue }
            count += 1
            try AuditLog.append(actor: "system", action: AuditLog.toldAction, object: recording, detail: "\(recipient) \(kind)", now: now, self)
        }
        return count
    }

    /// Who read one of these renditions, less `participant` themself.
    public func readers(of renditions: [String], but participant: String) throws -> [String] {
        var readers: Set<String> = []
        for id in renditions { readers.formUnion(try String.fetchAll(self, sql: "SELECT DISTINCT participant FROM download WHERE rendition = ?", arguments: [id])) }
        return readers.subtracting([participant]).sorted()
    }

    /// Messages whose turn it is, with the address they go to; those that are older than `oldest` wait on the person's page only.
    public func notificationsDue(now: WallTime, oldest: WallTime, limit: Int) throws -> [(notification: NotificationRecord, contact: ContactRecord)] {
        try NotificationRecord.fetchAll(self, sql: """
            SELECT notification.* FROM notification JOIN contact ON contact.subject = recipient JOIN recording ON recording.id = recording
            WHERE sent_at IS NULL AND failed_at IS NULL AND seen_at IS NULL AND next_at <= ? AND notification.created_at > ?
            AND (kind <> 'expiring' OR recording.expires_at > ?) ORDER BY next_at LIMIT ?
            """, arguments: [now.nanoseconds, oldest.nanoseconds, now.nanoseconds, limit])
            .compactMap { found in try ContactRecord.fetchOne(self, key: found.recipient).map { (found, $0) } }
    }

    /// Neither taken by a mail server nor read on a page.
    public func undeliveredNotifications() throws -> Int {
        try Int.fetchOne(self, sql: "SELECT COUNT(*) FROM notification WHERE sent_at IS NULL AND seen_at IS NULL") ?? 0
    }
}
