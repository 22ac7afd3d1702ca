import Catalog
import Consent
import Foundation
import GRDB
import Mail
import Media

extension Recorder {
    static let notificationsShownMax = 200

    public func notifications(in language: Language, as principal: Principal) async throws -> [NotificationView] {
        try require([.participant, .moderator], principal)
        let recipient = principal.participant?.rawValue
        let found = try await catalog.read { db in
            try NotificationRecord.fetchAll(db, sql: """
                SELECT * FROM notification WHERE seen_at IS NULL AND (?1 IS NOT NULL AND recipient = ?1 OR ?1 IS NULL AND is_moderators) ORDER BY created_at DESC LIMIT ?2
                """, arguments: [recipient, Self.notificationsShownMax]).map { ($0, try self.facts($0, db)) }
        }
        return found.compactMap { record, facts in
            guard let kind = NotificationView.Kind(rawValue: record.kind), let recording = RecordingID(rawValue: record.recording) else { return nil }
            let text = NotificationText(kind, language, facts)
            return NotificationView(id: record.id, kind: kind, recording: recording, createdAt: WallTime(nanoseconds: record.createdAt).seconds, subject: text.subject, text: text.text,
                                    mailedAt: record.sentAt.map { WallTime(nanoseconds: $0).seconds })
        }
    }

    func facts(_ record: NotificationRecord, _ db: Database) throws -> NotificationText.Facts {
        let retention = configuration.retention
        let times = try Row.fetchOne(db, sql: "SELECT started_at, expires_at FROM recording WHERE id = ?", arguments: [record.recording])
        return NotificationText.Facts(startedAt: WallTime(nanoseconds: times?["started_at"] ?? 0), expiresAt: WallTime(nanoseconds: times?["expires_at"] ?? 0), isModerators: record.isModerators,
                                      controller: retention.controller, authority: retention.supervisoryAuthority, page: configuration.publicURL)
    }

    public func markRead(_ notification: String, as principal: Principal) async throws {
        try require([.participant, .moderator], principal)
        let (recipient, now) = (principal.participant?.rawValue, clock.now)
        try await catalog.write { db in
            let isTheirs = try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM notification WHERE id = ?1 AND (?2 IS NOT NULL AND recipient = ?2 OR ?2 IS NULL AND is_moderators))",
                                             arguments: [notification, recipient]) ?? false
            guard isTheirs else { throw Self.notFound }
            try db.execute(sql: "UPDATE notification SET seen_at = ? WHERE id = ? AND seen_at IS NULL", arguments: [now.nanoseconds, notification])
        }
    }

    // MARK: Where to tell them

    static func address(_ text: String, pointer: String) throws(RecorderError) -> MailAddress {
        guard let address = MailAddress(rawValue: text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw RecorderError(.invalid, "that is no e-mail address that can be used here", hint: "for example anna@example.org, without umlauts and quotation marks", pointer: pointer)
        }
        return address
    }

    public func contact(as principal: Principal) async throws -> ContactView {
        try require([.participant, .moderator], principal)
        let subject = principal.participant?.rawValue ?? principal.subject
        guard let record = try await catalog.read({ try ContactRecord.fetchOne($0, key: subject) }) else { throw RecorderError(.notFound, "there is no e-mail address of yours") }
        return ContactView(email: record.address, language: Language(rawValue: record.language) ?? .de)
    }

    public func setContact(_ request: ContactRequest, as principal: Principal) async throws -> ContactView {
        try require([.participant, .moderator], principal)
        let address = try Self.address(request.email, pointer: "/email")
        let (subject, now) = (principal.participant?.rawValue ?? principal.subject, clock.now)
        let record = ContactRecord(subject: subject, participant: principal.participant?.rawValue, address: address.rawValue, language: (request.language ?? .de).rawValue)
        try await catalog.write { db in
            if let participant = record.participant, try !IdentityRecord.exists(db, key: participant) { throw RecorderError(.gone, "the link from this participant to a person is erased") }
            try record.upsert(db)
            try AuditLog.append(actor: principal.subject, action: "contact.set", object: subject, now: now, db)
        }
        // The old address stays in no free page.
        try await catalog.checkpoint()
        return ContactView(email: record.address, language: request.language ?? .de)
    }

    public func removeContact(as principal: Principal) async throws {
        try require([.participant, .moderator], principal)
        let (subject, now) = (principal.participant?.rawValue ?? principal.subject, clock.now)
        try await catalog.write { db in
            guard try ContactRecord.deleteOne(db, key: subject) else { return }
            try AuditLog.append(actor: principal.subject, action: "contact.removed", object: subject, now: now, db)
        }
        try await catalog.checkpoint()
    }

    // MARK: What is told

    /// Art. 19 for a corrected name: whoever has a version that shows it is told once for each correction.
    static func tellOfCorrection(_ participant: String, in recording: String, event: String, _ now: WallTime, _ db: Database) throws {
        let showing = try String.fetchAll(db, sql: """
            SELECT DISTINCT rendition.id FROM rendition JOIN rendition_member ON rendition_member.rendition = rendition.id
            WHERE recording = ? AND participant = ? AND kind IN ('composite','thumbnail')
            """, arguments: [recording, participant])
        try db.tell(db.readers(of: showing, but: participant), kind: "corrected", event: event, recording: recording, now: now)
    }
}
