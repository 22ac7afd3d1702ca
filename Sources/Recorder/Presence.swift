import Catalog
import Consent
import Foundation
import GRDB
import Media
import Synchronization
import Tap

/// Who is in which stream: a mix pauses by itself when somebody joins it who has not said yes, and goes on when all have, or they left.
///
/// Reconnecting, a breakout and co-presenting inherit nothing: whoever was in this recording before and joins a stream is asked again, and
/// only a yes from after that opens it. What they said counts on for what was recorded until then. Whoever was never in it comes with what
/// they said to this recording.
extension Recorder {
    static let streamPeopleMax = 500

    public func notePresence(_ request: PresenceRequest, in recording: RecordingID, as principal: Principal) async throws -> RecordingView {
        try require([.moderator, .platform], principal)
        let now = clock.now
        let session = live.withLock { $0[recording] }
        // Before anything is stored, and even if it cannot be: who joins has not answered yet.
        if request.present, let session { gates.close(recording, request.stream, session, at: now) }
        let record = try await recordingRecord(recording, principal)
        guard ["recording", "paused"].contains(record.state) else { throw RecorderError(.conflict, "a recording that is \(record.state) has nobody coming or going") }
        try await catalog.write { [self] db in
            guard try Bool.fetchOne(db, sql: "SELECT COUNT(*) FROM stream WHERE id = ? AND recording = ?", arguments: [request.stream.rawValue, record.id]) ?? false else {
                throw RecorderError(.invalid, "the recording has no such stream", pointer: "/stream")
            }
            guard try Bool.fetchOne(db, sql: "SELECT COUNT(*) FROM participant WHERE id = ? AND meeting = ?", arguments: [request.participant.rawValue, record.meeting]) ?? false else {
                throw RecorderError(.invalid, "that participant is not in the meeting", hint: "invite them first", pointer: "/participant")
            }
            if request.present { try Self.join(request, record, now, db) } else { try Self.leave(request, now, db) }
            try AuditLog.append(actor: principal.subject, action: request.present ? "stream.joined" : "stream.left", object: record.id,
                                detail: "\(request.participant) \(request.stream)", now: now, db)
            var state = try catalog.consents.state(of: recording, db)
            if request.present { state = try db.append(self.asked(request.participant, state, record, now), to: state, actor: principal.subject) }
            try self.push(state, recording, opening: false, db)
            try self.markRecorded(state, recording, db)
        }
        try await catalog.write { [self] db in try self.push(self.catalog.consents.state(of: recording, db), recording, opening: true, db) }
        return try await self.recording(recording, as: principal)
    }

    private static func join(_ request: PresenceRequest, _ record: RecordingRecord, _ now: WallTime, _ db: Database) throws {
        let people = try db.presence(in: record.id)
        guard (people[request.stream.rawValue] ?? []).count < streamPeopleMax else { throw RecorderError(.conflict, "the stream has \(streamPeopleMax) people", pointer: "/stream") }
        let wasHere = people.values.joined().contains { $0.participant == request.participant.rawValue }
        try db.execute(sql: """
            INSERT INTO stream_participant (stream, participant, asked_at, is_recorded) VALUES (?, ?, ?, 0)
            ON CONFLICT (stream, participant) DO UPDATE SET asked_at = excluded.asked_at, left_at = NULL
            """, arguments: [request.stream.rawValue, request.participant.rawValue, wasHere ? now.nanoseconds : 0])
    }

    private static func leave(_ request: PresenceRequest, _ now: WallTime, _ db: Database) throws {
        try db.execute(sql: "UPDATE stream_participant SET left_at = ? WHERE stream = ? AND participant = ? AND left_at IS NULL",
                       arguments: [now.nanoseconds, request.stream.rawValue, request.participant.rawValue])
        guard db.changesCount == 1 else { throw RecorderError(.conflict, "they are not in this stream", pointer: "/participant") }
    }

    private func asked(_ participant: ParticipantID, _ state: ConsentState, _ record: RecordingRecord, _ now: WallTime) -> ConsentEvent {
        ConsentEvent(sequence: state.count + 1, recording: state.recording, participant: participant, kind: .requested, occurredAt: now, receivedAt: now, modalities: [], purposes: [],
                     noticeHash: "", noticeVersion: "", language: Language.de.rawValue, method: .onBehalf, isOwnAct: false, isGuardian: false,
                     retentionClass: RetentionPolicy.retentionClass, expiresAt: WallTime(nanoseconds: record.expiresAt), asksErasure: false, previousHash: state.lastHash)
    }
}
