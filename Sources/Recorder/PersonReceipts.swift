import Catalog
import Consent
import Foundation
import GRDB
import Media

/// Receipts for the erasure of one person: drafted while their keys can still be fingerprinted, finished and proved when everything is gone.
/// A draft survives a kill; what a later run finds beside it is added, and nothing is named twice.
extension Recorder {
    /// When the last backup is deleted that may still hold what was unlinked now.
    func backupsGone(after unlinked: WallTime) -> Double { (unlinked + .seconds(Int64(configuration.retention.backupDays) * 86_400)).seconds }

    func draftReceipt(of participant: ParticipantID, in recording: RecordingID, _ ids: [String]) async throws {
        guard !ids.isEmpty else { return }
        var objects: [ReceiptView.Object] = []
        // Of a key that is gone already an earlier draft tells.
        for id in ids { do { objects.append(try await draft(id)) } catch is KeyStore.Missing { continue } }
        let (drafted, authority) = (objects, configuration.retention.supervisoryAuthority)
        try await catalog.write { db in
            let known: ReceiptView? = Self.decoded(try String.fetchOne(db, sql: "SELECT receipt FROM person_receipt WHERE recording = ? AND participant = ?",
                                                                       arguments: [recording.rawValue, participant.rawValue]))
            var receipt = known ?? ReceiptView(recording: recording, policy: "everything of one person on their wish (Art. 7(3), 17(1)(b))", trigger: "withdrawal", objects: [], auditEntry: 0,
                                               supervisoryAuthority: authority, participant: participant)
            let new = drafted.filter { object in !receipt.objects.contains { $0.id == object.id } }
            guard known == nil || !new.isEmpty else { return }
            receipt.objects += new
            (receipt.auditEntry, receipt.auditProof, receipt.backupsGoneAt) = (0, nil, nil)
            try db.execute(sql: """
                INSERT INTO person_receipt (recording, participant, receipt) VALUES (?1, ?2, ?3)
                ON CONFLICT (recording, participant) DO UPDATE SET receipt = ?3, finished_at = NULL
                """, arguments: [recording.rawValue, participant.rawValue, try Self.json(receipt)])
        }
    }

    /// Dates what is gone, and enters the receipt in the audit log; false where nothing was drafted, or it is finished already.
    func finishReceipt(of participant: ParticipantID, in recording: RecordingID, _ destroyed: WallTime, _ unlinked: WallTime, actor: String, _ db: Database) throws -> Bool {
        guard let json = try String.fetchOne(db, sql: "SELECT receipt FROM person_receipt WHERE recording = ? AND participant = ? AND finished_at IS NULL",
                                             arguments: [recording.rawValue, participant.rawValue]), var receipt: ReceiptView = Self.decoded(json) else { return false }
        for place in receipt.objects.indices where receipt.objects[place].unlinkedAt == 0 {
            receipt.objects[place].keyDestroyedAt = destroyed.seconds
            receipt.objects[place].unlinkedAt = unlinked.seconds
        }
        receipt.backupsGoneAt = backupsGone(after: unlinked)
        try attest(&receipt, actor: actor, at: unlinked, db)
        try db.execute(sql: "UPDATE person_receipt SET receipt = ?, finished_at = ? WHERE recording = ? AND participant = ?",
                       arguments: [try Self.json(receipt), unlinked.nanoseconds, recording.rawValue, participant.rawValue])
        return true
    }

    private static func json(_ receipt: ReceiptView) throws -> String { String(decoding: try JSONEncoder().encode(receipt), as: UTF8.self) }

    public func receipt(of recording: RecordingID, participant: ParticipantID, as principal: Principal) async throws -> ReceiptView {
        try require([.moderator, .participant, .platform], principal)
        guard principal.participant.map({ $0 == participant }) ?? true else { throw Self.notFound }
        let json = try await catalog.read { db in
            try String.fetchOne(db, sql: "SELECT receipt FROM person_receipt WHERE recording = ? AND participant = ? AND finished_at IS NOT NULL",
                                arguments: [recording.rawValue, participant.rawValue])
        }
        guard let receipt: ReceiptView = Self.decoded(json) else { throw Self.notFound }
        return receipt
    }
}
