import Catalog
import Foundation
import GRDB
import Logging
import Mail
import Media
import Renditions
import ServiceLifecycle

/// Hands what people have to be told to the mail server: each message until it is taken, at most once a try, oldest first.
public final class Postman: Service {
    private let recorder: Recorder

    public init(recorder: Recorder) { self.recorder = recorder }

    public func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await self.recorder.deliver()
                // A cancelled sleep ends the loop.
                try? await Task.sleep(for: .seconds(1))
            }
        }
    }
}

extension Recorder {
    /// Messages in one round; one after the other.
    static let deliveredAtOnceMax = 50
    /// After this time a message waits on the person's page only: later it would rather confuse.
    static let mailingTime = Nanoseconds.seconds(7 * 86_400)

    /// Seconds until a message is tried again: a minute, doubling up to six hours.
    static func pause(afterAttempts attempts: Int) -> Nanoseconds { .seconds(min(60 << Int64(min(attempts, 10)), 6 * 3_600)) }

    /// Delivers what is due; how many the mail server took.
    ///
    /// A try is entered before it begins, so that no crash makes it a storm; that it succeeded after the server has it. A kill in between sends
    /// the message again, under the same Message-ID.
    @discardableResult
    public func deliver() async -> Int {
        guard let mail = configuration.mail else { return 0 }
        var count = 0
        do {
            let now = clock.now
            let due = try await catalog.read { [self] db in
                try db.notificationsDue(now: now, oldest: now - Self.mailingTime, limit: Self.deliveredAtOnceMax).map { ($0.notification, $0.contact, try facts($0.notification, db)) }
            }
            for (record, contact, facts) in due {
                guard let kind = NotificationView.Kind(rawValue: record.kind), let to = MailAddress(rawValue: contact.address) else { continue }
                let text = NotificationText(kind, Language(rawValue: contact.language) ?? .de, facts)
                let message = MailMessage(from: mail.from, to: to, subject: text.subject, text: text.text, id: record.id, date: WallTime(nanoseconds: record.createdAt).seconds)
                let next = now + Self.pause(afterAttempts: record.attempts)
                try await catalog.write { try $0.execute(sql: "UPDATE notification SET attempts = attempts + 1, next_at = ? WHERE id = ?", arguments: [next.nanoseconds, record.id]) }
                let refusal = try await BlockingWork.onThread(named: "mail") { () -> SMTPRelay.Refusal? in
                    do throws(SMTPRelay.Refusal) { try mail.relay.send(message) } catch { return error }
                    return nil
                }
                if refusal == nil { count += 1 }
                try await settle(record, refusal)
                // A server that does not answer is not asked for each of the others.
                if let refusal, refusal.reply == 0 { return count }
            }
        } catch {
            logger.error("messages could not be delivered", metadata: ["error": "\(error)"])
        }
        return count
    }

    private func settle(_ record: NotificationRecord, _ refusal: SMTPRelay.Refusal?) async throws {
        if let refusal { logger.warning("a message was not taken by the mail server", metadata: ["message": "\(record.id)", "reason": "\(refusal)", "final": "\(refusal.isFinal)"]) }
        guard refusal?.isFinal ?? true else { return }
        let (now, column) = (clock.now, refusal == nil ? "sent_at" : "failed_at")
        try await catalog.write { db in
            try db.execute(sql: "UPDATE notification SET \(column) = ? WHERE id = ?", arguments: [now.nanoseconds, record.id])
            try AuditLog.append(actor: "system", action: AuditLog.mailedAction, object: record.recording, detail: "\(record.recipient) \(record.kind) \(refusal.map { "refused \($0.reply)" } ?? "taken")",
                                now: now, db)
        }
    }
}
