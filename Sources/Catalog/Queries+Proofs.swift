import GRDB
import Media

/// The end of consent proofs, and of the names that nothing is left of.
extension Database {
    /// Recordings that were erased before `cutoff` and whose consents are still proved; the earliest first, at most `limit`.
    public func proofsPastDate(erasedBefore cutoff: WallTime, limit: Int) throws -> [String] {
        try String.fetchAll(self, sql: "SELECT id FROM recording WHERE erased_at IS NOT NULL AND proof_erased_at IS NULL AND state = 'erased' AND erased_at <= ? ORDER BY erased_at LIMIT ?",
                            arguments: [cutoff.nanoseconds, limit])
    }

    /// Deletes the consent histories of erased recordings, each as a whole, and blanks what the audit log says of them.
    public func endProofs(of recordings: [String], why: String, now: WallTime) throws {
        for recording in recordings {
            // First: the schema lets a history go only after it.
            try execute(sql: "UPDATE recording SET proof_erased_at = ? WHERE id = ? AND state = 'erased'", arguments: [now.nanoseconds, recording])
            try execute(sql: "DELETE FROM consent_event WHERE recording = ?", arguments: [recording])
        }
        try AuditLog.eraseConsents(of: recordings, why: why, now: now, self)
    }

    /// Nothing needs the link from a pseudonym to a person any more: no proof rests on it, no recording of the meeting is there, no access code.
    public static let isUnneededIdentity = """
        NOT EXISTS (SELECT 1 FROM consent_event WHERE consent_event.participant = identity.participant)
        AND NOT EXISTS (SELECT 1 FROM participant JOIN recording ON recording.meeting = participant.meeting WHERE participant.id = identity.participant AND state <> 'erased')
        AND NOT EXISTS (SELECT 1 FROM access_token WHERE access_token.participant = identity.participant)
        """

    /// A meeting from before the argument in which nobody has a name any more, and of which there is no recording: its topic says something
    /// about whoever was there.
    private static let isUnneededTitle = """
        title IS NOT NULL AND created_at < ?
        AND NOT EXISTS (SELECT 1 FROM participant JOIN identity ON identity.participant = participant.id WHERE participant.meeting = meeting.id)
        AND NOT EXISTS (SELECT 1 FROM recording WHERE recording.meeting = meeting.id AND state <> 'erased')
        """

    /// Whether there is anything for ``endIdentities(titlesBefore:)`` to do.
    public func hasUnneededIdentities(titlesBefore cutoff: WallTime) throws -> Bool {
        try Bool.fetchOne(self, sql: "SELECT EXISTS (SELECT 1 FROM identity WHERE \(Self.isUnneededIdentity)) OR EXISTS (SELECT 1 FROM meeting WHERE \(Self.isUnneededTitle))",
                          arguments: [cutoff.nanoseconds]) ?? false
    }

    /// Deletes names that nothing needs, their addresses with them, and then the titles of meetings from before `cutoff` that nobody with a name
    /// is left of.
    public func endIdentities(titlesBefore cutoff: WallTime) throws {
        try execute(sql: "DELETE FROM identity WHERE \(Self.isUnneededIdentity)")
        try execute(sql: "UPDATE meeting SET title = NULL WHERE \(Self.isUnneededTitle)", arguments: [cutoff.nanoseconds])
    }
}
