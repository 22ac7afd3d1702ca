import Catalog
import Consent
import GRDB
import Media

extension Recorder {
    /// Whoever allows less than before, or refuses after a yes, is taken out of the versions that they no longer allow: those are destroyed,
    /// and made again from what is still allowed. Tracks stay. Where the recording is restricted its versions cannot be read anyway.
    func takeBack(from recording: RecordingID, whatIsNotAllowedOf participant: ParticipantID, actor: String) async throws {
        guard try await hold(on: recording) == nil else { return }
        let now = clock.now
        let (gone, isBeingMade) = try await catalog.write { [consents = catalog.consents] db -> ([String], Bool) in
            let state = try consents.state(of: recording, db)
            let rows = try Row.fetchAll(db, sql: """
                SELECT rendition.id, purpose, modality FROM rendition JOIN rendition_member ON rendition = rendition.id
                WHERE recording = ? AND participant = ? AND state = 'ready'
                """, arguments: [recording.rawValue, participant.rawValue])
            let gone = Set(rows.filter { row in
                guard let purpose = Purpose(rawValue: row["purpose"]), let modality = Modality(rawValue: row["modality"]) else { return true }
                return !state.allows(participant, modality, purpose, at: now)
            }.map { $0["id"] as String }).sorted()
            for id in gone { try db.execute(sql: "UPDATE rendition SET state = 'erased' WHERE id = ?", arguments: [id]) }
            if !gone.isEmpty { try AuditLog.append(actor: actor, action: "rendition.taken-back", object: recording.rawValue, detail: participant.rawValue, now: now, db) }
            return (gone, try RecordingRecord.fetchOne(db, key: recording.rawValue)?.state == "processing")
        }
        try await shred(gone, of: recording)
        // What is being made just now with too much in it would be thrown away at its end.
        if !gone.isEmpty || isBeingMade { try await makeAgain(recording) }
    }
}
