import Catalog
import Consent
import GRDB
import Media

/// The warning before a recording ends: so many days before, the moderator and the participants who may download it, each once.
///
/// A recording that lives no longer than the threshold needs none. Where several thresholds are due at once (the server was off) only the
/// nearest is told. What is restricted does not end, and is not warned of. A release makes participants concerned, and is told to them then.
extension Recorder {
    static let warnedAtOnceMax = 500

    func warnOfExpiry() async throws {
        let (now, settled, thresholds) = (clock.now, clock.settled, Set(configuration.retention.warningDays.filter { $0 > 0 }).sorted())
        for (place, days) in thresholds.enumerated() {
            let length = Nanoseconds.seconds(Int64(days) * 86_400)
            let due = try await catalog.read { db in
                try RecordingRecord.fetchAll(db, sql: """
                    SELECT * FROM recording WHERE state NOT IN ('erased') AND state <> 'expired' AND expires_at > ?1 AND expires_at <= ?2 AND expires_at - started_at > ?3
                    AND NOT EXISTS (SELECT 1 FROM expiry_warning WHERE recording = recording.id AND days = ?4 AND expires_at = recording.expires_at
                      AND released_at = COALESCE(recording.released_at, 0))
                    AND NOT EXISTS (SELECT 1 FROM restriction WHERE recording = recording.id AND settled_at IS NULL AND lifted_at IS NULL AND until > ?5) LIMIT \(Self.warnedAtOnceMax)
                    """, arguments: [now.nanoseconds, (now + length).nanoseconds, length.count, days, settled.nanoseconds])
            }
            for record in due {
                let readers = try await mayDownload(record)
                try await catalog.write { db in
                    let moderator = try String.fetchOne(db, sql: "SELECT moderator FROM meeting WHERE id = ?", arguments: [record.meeting]) ?? "moderator"
                    let event = "expiring:\(record.id):\(days):\(record.expiresAt)"
                    try db.tell([moderator], kind: "expiring", event: event, recording: record.id, isModerators: true, now: now)
                    try db.tell(readers, kind: "expiring", event: event, recording: record.id, now: now)
                    // What is farther off than this one is past.
                    for done in thresholds[place...] {
                        try db.execute(sql: "INSERT INTO expiry_warning (recording, days, expires_at, released_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                                       arguments: [record.id, done, record.expiresAt, record.releasedAt ?? 0])
                    }
                }
            }
        }
    }

    /// The participants who may download any version of it now.
    private func mayDownload(_ record: RecordingRecord) async throws -> [String] {
        guard let id = RecordingID(rawValue: record.id), let meeting = MeetingID(rawValue: record.meeting), record.releasedAt != nil else { return [] }
        let now = clock.now
        let (renditions, people, state) = try await catalog.read { db in
            let state = try db.consentState(of: id)
            return (try db.renditions(of: record.id).map { (rendition: $0.rendition, isAgreed: try db.isAgreed($0.rendition, state, now: now)) },
                    try db.participants(of: record.meeting).map(\.participant.id), state)
        }
        return people.filter { person in
            guard let participant = ParticipantID(rawValue: person) else { return false }
            let principal = Principal(role: .participant, subject: person, participant: participant, meeting: meeting)
            return renditions.contains { refusal($0.rendition, isAgreed: $0.isAgreed, record, state, nil, principal) == nil }
        }
    }
}
