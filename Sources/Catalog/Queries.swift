import Consent
import Foundation
import GRDB
import Media

/// Questions to the catalog and changes of it; each runs in the caller's transaction.
extension Database {
    /// Runs a statement that is prepared once and kept: for what runs by the thousand.
    public func run(_ sql: String, arguments: StatementArguments) throws { try cachedStatement(sql: sql).execute(arguments: arguments) }

    // MARK: People

    public func participants(of meeting: String) throws -> [(participant: ParticipantRecord, name: String?)] {
        let names = try Dictionary(uniqueKeysWithValues: IdentityRecord.fetchAll(self, sql: """
            SELECT identity.* FROM identity JOIN participant ON participant.id = identity.participant WHERE participant.meeting = ?
            """, arguments: [meeting]).map { ($0.participant, $0.name) })
        return try ParticipantRecord.fetchAll(self, sql: "SELECT * FROM participant WHERE meeting = ? ORDER BY created_at, rowid", arguments: [meeting])
            .map { ($0, names[$0.id]) }
    }

    // MARK: Recordings

    /// The streams of a recording with whoever is, or was, in them; `recordedOnly`: with those who were in them while the gate was open.
    public func streams(of recording: String, recordedOnly: Bool = false) throws -> [(stream: StreamRecord, participants: [String])] {
        let people = try presence(in: recording)
        return try StreamRecord.fetchAll(self, sql: "SELECT * FROM stream WHERE recording = ? ORDER BY position", arguments: [recording]).map { stream in
            (stream, (people[stream.id] ?? []).filter { $0.isRecorded || !recordedOnly }.map(\.participant))
        }
    }

    /// Changes a recording's state if it is one of `from`; false where it is not.
    public func move(_ recording: String, from: [String], to state: String) throws -> Bool {
        try execute(sql: "UPDATE recording SET state = ? WHERE id = ? AND state IN (\(databaseQuestionMarks(count: from.count)))",
                    arguments: [state, recording] + StatementArguments(from))
        return changesCount == 1
    }

    public func recordings(inState state: String) throws -> [RecordingRecord] {
        try RecordingRecord.fetchAll(self, sql: "SELECT * FROM recording WHERE state = ? ORDER BY started_at", arguments: [state])
    }

    /// Recordings past their date, or whose end was begun, that still have something to erase; not those that are restricted.
    public func recordingsPastDate(now: WallTime) throws -> [RecordingRecord] {
        try RecordingRecord.fetchAll(self, sql: """
            SELECT * FROM recording WHERE state <> 'erased' AND (state = 'expired' OR expires_at <= ?)
            AND NOT EXISTS (SELECT 1 FROM restriction WHERE recording = recording.id AND settled_at IS NULL AND lifted_at IS NULL AND until > ?) ORDER BY expires_at
            """, arguments: [now.nanoseconds, now.nanoseconds])
    }

    /// The same by id and without the rest, the earliest first: there may be a hundred thousand.
    public func idsPastDate(now: WallTime) throws -> [String] {
        try String.fetchAll(self, sql: """
            SELECT id FROM recording WHERE state <> 'erased' AND (state = 'expired' OR expires_at <= ?1)
            AND NOT EXISTS (SELECT 1 FROM restriction WHERE recording = recording.id AND settled_at IS NULL AND lifted_at IS NULL AND until > ?1) ORDER BY expires_at
            """, arguments: [now.nanoseconds])
    }

    /// How far the clock had come; nil where it was never noted.
    public func latestTime() throws -> WallTime? { try Int64.fetchOne(self, sql: "SELECT latest FROM service_clock").map { WallTime(nanoseconds: $0) } }

    public func note(latest time: WallTime) throws {
        try execute(sql: "INSERT INTO service_clock (id, latest) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET latest = MAX(latest, excluded.latest)", arguments: [time.nanoseconds])
    }

    // MARK: Consent

    /// A recording's consents, folded from its whole history. What asks again and again asks ``ConsentFolds``.
    public func consentState(of recording: RecordingID) throws -> ConsentState {
        var state = ConsentState(recording: recording, minors: try minors(in: recording))
        try forEachConsent(of: recording) { try state.apply($0.event()) }
        return state
    }

    /// The history of a recording as it was written. Throws `ConsentError.brokenChain` where an event's bytes do not have the hash they were
    /// stored with.
    public func consentEvents(of recording: RecordingID) throws -> [ConsentEvent] {
        var events: [ConsentEvent] = []
        try forEachConsent(of: recording) { events.append(try $0.event()) }
        return events
    }

    /// Appends an event that the fold accepts, and an entry to the audit log that names it by its hash; gives back the new state.
    ///
    /// `actor`: who entered it, where that is not the person themself.
    public func append(_ event: ConsentEvent, to state: ConsentState, actor: String? = nil) throws -> ConsentState {
        var next = state
        try next.apply(event)
        try execute(sql: "INSERT INTO consent_event (recording, sequence, participant, event, hash) VALUES (?, ?, ?, ?, ?)", arguments: [
            event.recording.rawValue, event.sequence, event.participant.rawValue, String(decoding: event.canonicalJSON(), as: UTF8.self), event.hash(),
        ])
        try AuditLog.append(actor: actor ?? event.participant.rawValue, action: AuditLog.consentPrefix + event.kind.rawValue, object: event.recording.rawValue,
                            detail: "\(event.participant) \(event.hash())", now: event.receivedAt, self)
        return next
    }

    public func keep(_ notice: Notice) throws {
        try execute(sql: "INSERT INTO notice (hash, version, language, text) VALUES (?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
                    arguments: [notice.hash, notice.version, notice.language, notice.text])
    }

    // MARK: Renditions

    /// What people may get or have had; parts that wait to be put together are not among it.
    public func renditions(of recording: String, states: [String] = ["ready"]) throws -> [(rendition: RenditionRecord, members: [String])] {
        let marks = databaseQuestionMarks(count: states.count)
        return try RenditionRecord.fetchAll(self, sql: "SELECT * FROM rendition WHERE recording = ? AND kind <> 'part' AND state IN (\(marks)) ORDER BY created_at, rowid",
                                            arguments: [recording] + StatementArguments(states))
            .map { ($0, try members(of: $0.id)) }
    }

    public func members(of rendition: String) throws -> [String] {
        try String.fetchAll(self, sql: "SELECT DISTINCT participant FROM rendition_member WHERE rendition = ? ORDER BY participant", arguments: [rendition])
    }

    /// Whose media of which modality is in a rendition.
    public func membership(of rendition: String) throws -> [(participant: String, modality: String)] {
        try Row.fetchAll(self, sql: "SELECT participant, modality FROM rendition_member WHERE rendition = ? ORDER BY participant, modality", arguments: [rendition])
            .map { (participant: $0["participant"], modality: $0["modality"]) }
    }

    public func insert(_ rendition: RenditionRecord, members: [(participant: String, modality: String)]) throws {
        try rendition.insert(self)
        for member in members {
            try execute(sql: "INSERT INTO rendition_member (rendition, participant, modality) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        arguments: [rendition.id, member.participant, member.modality])
        }
    }
}
