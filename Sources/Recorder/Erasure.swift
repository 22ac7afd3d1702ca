import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import JobQueue
import Logging
import Media
import Renditions
import SealedFile
import Synchronization
import Tap

extension Recorder {
    /// Ends a recording now; see ``end(_:trigger:actor:)``. Throws `.restricted`, and `.storage` where its files cannot be removed.
    func erase(_ id: RecordingID, trigger: String, actor: String) async throws {
        try await refuseRestricted(id)
        if try await !end([id], trigger: trigger, actor: actor).contains(id) {
            try await refuseRestricted(id)
            throw RecorderError(.storage, "files of an ended recording could not be removed", hint: "its keys are destroyed: nobody reads it; removing is tried again by itself")
        }
    }

    /// Enters what is about to be destroyed in the ledger: from then on no backup brings it back.
    func note(erased ids: [String]) async throws {
        let (ledger, now) = (ledger, clock.now)
        try await BlockingWork.run { try ledger.append(ids, now: now) }
    }

    func draft(_ keyID: String) async throws -> ReceiptView.Object {
        let fingerprint = try await keys.fingerprint(keyID)
        let id = String(keyID.split(separator: ":")[1])
        let found = try await catalog.read { db in
            try Row.fetchOne(db, sql: "SELECT sha256, recording FROM rendition WHERE id = ? UNION ALL SELECT sha256, recording FROM stream WHERE track = ? AND file IS NOT NULL",
                             arguments: [id, id]).map { (sha: $0["sha256"] as String?, recording: $0["recording"] as String) }
        }
        var sha = found?.sha
        if let found, sha == nil { sha = await Self.sha256(ofFileAt: configuration.artifact(found.recording, id).path) }
        return ReceiptView.Object(id: keyID, keyFingerprint: fingerprint, ciphertextSha256: sha ?? "", keyDestroyedAt: 0, unlinkedAt: 0)
    }

    /// A track's file is hashed as it is when it is erased: the receipt names what goes.
    ///
    /// Nil where it cannot be read, which must not keep it from being erased.
    static func sha256(ofFileAt path: String) async -> String? {
        try? await BlockingWork.onThread(named: "receipt") { try DescriptorIO.sha256(ofFileAt: path) }
    }

    public func receipt(of recording: RecordingID, as principal: Principal) async throws -> ReceiptView {
        try require([.moderator, .participant, .platform], principal)
        let found = try await catalog.read { db in
            try Row.fetchOne(db, sql: "SELECT receipt, meeting FROM receipt JOIN recording ON recording.id = receipt.recording WHERE recording.id = ? AND state = 'erased'",
                             arguments: [recording.rawValue]).map { (json: $0["receipt"] as String, meeting: $0["meeting"] as String) }
        }
        guard let found, principal.meeting.map({ $0.rawValue == found.meeting }) ?? true, let receipt: ReceiptView = Self.decoded(found.json) else { throw Self.notFound }
        return receipt
    }

    /// Destroys what was recorded of one person, takes every version with them in it out of reach, and has new ones made without them.
    ///
    /// Where the recording is restricted all of that waits for the restriction's end.
    func eraseParticipant(_ participant: ParticipantID, of recording: RecordingID, actor: String) async throws {
        do {
            let theirs = try await catalog.read { try Self.tracks(of: participant, in: recording, $0) }
            await dropLive(recording, holding: theirs.compactMap(TrackID.init))
        } catch {
            await dropLive(recording)
            throw error
        }
        let (now, settled) = (clock.now, clock.settled)
        // Out of reach first, in one transaction; then the keys; then the files.
        let found: (tracks: [String], renditions: [String])? = try await catalog.write { db in
            guard try db.restriction(of: recording.rawValue, settled: settled) == nil else {
                try AuditLog.append(actor: actor, action: "erasure.waits", object: recording.rawValue, detail: participant.rawValue, now: now, db)
                return nil
            }
            let renditions = try String.fetchAll(db, sql: """
                SELECT DISTINCT rendition.id FROM rendition JOIN rendition_member ON rendition_member.rendition = rendition.id
                WHERE recording = ? AND participant = ?
                """, arguments: [recording.rawValue, participant.rawValue])
            for id in renditions { try db.execute(sql: "UPDATE rendition SET state = 'erased' WHERE id = ?", arguments: [id]) }
            try db.tell(db.readers(of: renditions, but: participant.rawValue), kind: "withdrawn", event: "withdrawn:\(recording):\(participant)", recording: recording.rawValue, now: now)
            return (try Self.tracks(of: participant, in: recording, db), renditions)
        }
        guard let (tracks, renditions) = found else { return }
        let isLive = live.withLock { $0[recording] != nil }
        var doomed = renditions.compactMap(RenditionID.init).map(KeyStore.rendition)
        // A live track's log is still being written; its key goes when the recording stops.
        if !isLive { doomed += tracks.compactMap(TrackID.init).map(KeyStore.track) }
        try await draftReceipt(of: participant, in: recording, doomed)
        try await note(erased: doomed)
        _ = try await keys.destroy(doomed)
        let destroyed = clock.now
        let configuration = configuration
        try await BlockingWork.run {
            var gone = renditions.map { configuration.artifact(recording.rawValue, $0) }
            if !isLive { gone += tracks.flatMap { [configuration.artifact(recording.rawValue, $0), configuration.trackFolder(recording.rawValue, $0)] } }
            try Self.remove(gone)
        }
        let unlinked = clock.now
        try await catalog.write { [self] db in
            if !isLive {
                for track in tracks { try db.execute(sql: "UPDATE stream SET summary = NULL, verdict = 'erased', file = NULL WHERE track = ?", arguments: [track]) }
                // The tracks of the others are as they were: only what mixes people is made again. In this transaction, so that no kill forgets it.
                try beginAgain(recording, now: now, db)
            }
            if try !finishReceipt(of: participant, in: recording, destroyed, unlinked, actor: actor, db) {
                try AuditLog.append(actor: actor, action: "participant.erased", object: recording.rawValue, detail: participant.rawValue, now: now, db)
            }
        }
        await emptyLog()
        if isLive { liveRenditions.beginAgain(recording) } else { try await enqueueBegun(recording) }
    }

    /// Carries out the withdrawals whose tracks are still there: those made while the recording ran, now that its logs are closed, and those
    /// that a kill interrupted.
    ///
    /// Who withdrew with erasure and consented again later in the same recording loses both parts: one track has one key, and what was to
    /// be erased weighs more than what may be kept.
    func eraseWithdrawn(_ recording: RecordingID) async throws {
        guard try await hold(on: recording) == nil else { return }
        for participant in try await withdrawnAndKept(recording).sorted() { try await eraseParticipant(participant, of: recording, actor: participant.rawValue) }
    }

    private static func tracks(of participant: ParticipantID, in recording: RecordingID, _ db: Database) throws -> [String] {
        try String.fetchAll(db, sql: "SELECT track FROM stream JOIN stream_participant ON stream = stream.id WHERE recording = ? AND participant = ? AND \(isTheirs)",
                            arguments: [recording.rawValue, participant.rawValue])
    }

    /// A track is a person's where they are in what was recorded, or nobody is: then nothing of anybody else goes with it.
    private static let isTheirs = "(is_recorded OR NOT EXISTS (SELECT 1 FROM stream_participant AS other WHERE other.stream = stream.id AND other.is_recorded))"

    /// Who asked for erasure and is still there.
    func withdrawnAndKept(_ recording: RecordingID) async throws -> Set<ParticipantID> {
        let kept = try await catalog.read { db in
            Set(try String.fetchAll(db, sql: "SELECT participant FROM stream_participant JOIN stream ON stream.id = stream WHERE recording = ? AND verdict IS NOT 'erased' AND \(Self.isTheirs)",
                                    arguments: [recording.rawValue]))
        }
        let events = try await catalog.read { try $0.consentEvents(of: recording) }
        return Set(events.filter { $0.kind == .withdrawn && $0.asksErasure && kept.contains($0.participant.rawValue) }.map(\.participant))
    }
}
