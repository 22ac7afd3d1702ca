import Consent
import GRDB
import Media

/// Somebody in a stream, now or before.
public struct StreamPresence: Hashable, Sendable {
    public var stream: String
    public var participant: String
    /// Only a yes from then on counts for this stream.
    public var askedAt: WallTime
    public var leftAt: WallTime?
    public var isRecorded: Bool
}

extension Database {
    /// Who is, or was, in each stream of a recording, by the stream.
    public func presence(in recording: String) throws -> [String: [StreamPresence]] {
        let rows = try Row.fetchAll(self, sql: """
            SELECT stream_participant.* FROM stream_participant JOIN stream ON stream.id = stream WHERE recording = ? ORDER BY stream, participant
            """, arguments: [recording])
        let people = rows.map { row in
            StreamPresence(stream: row["stream"], participant: row["participant"], askedAt: WallTime(nanoseconds: row["asked_at"]),
                           leftAt: (row["left_at"] as Int64?).map(WallTime.init(nanoseconds:)), isRecorded: row["is_recorded"])
        }
        return Dictionary(grouping: people, by: \.stream)
    }

    /// Whoever is in this stream now is in what is recorded from now on.
    public func markRecorded(stream: String) throws {
        try execute(sql: "UPDATE stream_participant SET is_recorded = 1 WHERE stream = ? AND left_at IS NULL AND is_recorded = 0", arguments: [stream])
    }

    /// Whether everybody whose voice or picture is in a rendition allows just that for its purpose.
    public func isAgreed(_ rendition: RenditionRecord, _ state: ConsentState, now: WallTime) throws -> Bool {
        guard let purpose = Purpose(rawValue: rendition.purpose) else { return false }
        return try Row.fetchAll(self, sql: "SELECT participant, modality FROM rendition_member WHERE rendition = ?", arguments: [rendition.id]).allSatisfy { row in
            guard let participant = ParticipantID(rawValue: row["participant"]), let modality = Modality(rawValue: row["modality"]) else { return false }
            return state.allows(participant, modality, purpose, at: now)
        }
    }
}
