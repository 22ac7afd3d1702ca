import Catalog
import Consent
import Foundation
import GRDB
import Media

extension Recorder {
    /// Who allowed something to a recording that still runs, and was shown another text than the one now in force, is asked again: their
    /// consent becomes invalid in the history, and the gate stays closed until they decide anew. Refusals and withdrawals stay what they are.
    ///
    /// The text follows from the configuration, which changes with a restart only: this runs before any gate is opened.
    func askAgainWhereNoticeChanged() async throws {
        let (policy, now) = (configuration.retention, clock.now)
        try await catalog.write { db in
            for record in try RecordingRecord.fetchAll(db, sql: "SELECT * FROM recording WHERE state IN ('recording','paused')") {
                guard let id = RecordingID(rawValue: record.id) else { continue }
                let inForce = Set(Language.allCases.map { Notice(language: $0.rawValue, policy: policy, days: record.retentionDays).hash })
                var state = try db.consentState(of: id)
                for participant in state.restingOnOthers(than: inForce) {
                    let event = ConsentEvent(
                        sequence: state.count + 1, recording: id, participant: participant, kind: .invalidated, occurredAt: now, receivedAt: now, modalities: [], purposes: [],
                        noticeHash: "", noticeVersion: "", language: Language.de.rawValue, method: .onBehalf, isOwnAct: false, isGuardian: false,
                        retentionClass: RetentionPolicy.retentionClass, expiresAt: WallTime(nanoseconds: record.expiresAt), asksErasure: false, previousHash: state.lastHash)
                    state = try db.append(event, to: state)
                    try AuditLog.append(actor: "notice", action: "notice.changed", object: record.id, detail: participant.rawValue, now: now, db)
                }
            }
        }
    }

    /// A guardian's own access code for a declared minor (Art. 8): what is decided with it is a guardian's event.
    public func inviteGuardian(of participant: ParticipantID, as principal: Principal) async throws -> InvitationView {
        try require([.moderator, .platform], principal)
        let token = AccessToken.make()
        let now = clock.now
        let expires = now + .seconds(Int64(configuration.retention.recordingDaysMax) * 86_400)
        let name = try await catalog.write { db in
            guard let child = try ParticipantRecord.fetchOne(db, key: participant.rawValue) else { throw Self.notFound }
            guard child.isMinor else { throw RecorderError(.conflict, "the participant is not declared a minor", hint: "adults decide for themselves") }
            try AccessTokenRecord(hash: AccessToken.hash(token), role: Principal.Role.participant.rawValue, subject: "guardian-\(ParticipantID.random().rawValue.prefix(12))",
                                  participant: child.id, meeting: child.meeting, isGuardian: true, createdAt: now.nanoseconds, expiresAt: expires.nanoseconds).insert(db)
            try AuditLog.append(actor: principal.subject, action: "guardian.invited", object: child.id, now: now, db)
            return try IdentityRecord.fetchOne(db, key: child.id)?.name
        }
        return InvitationView(participant: ParticipantView(id: participant, name: name, minor: true), token: token, expiresAt: expires.seconds)
    }
}
