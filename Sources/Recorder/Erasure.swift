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
    /// Ends a recording: unreadable at once, then keys, then files, then the receipt. Safe to be killed and repeated at any point.
    func erase(_ id: RecordingID, trigger: String, actor: String) async throws {
        try await refuseRestricted(id)
        let now = clock.now
        let session = live.withLock { $0.removeValue(forKey: id) }
        if let session { _ = try await BlockingWork.run { session.stop() } }
        let objects = try await keys.ids(below: id)
        var drafts: [ReceiptView.Object] = []
        for object in objects { drafts.append(try await draft(object)) }
        let receipt = ReceiptView(recording: id, policy: "\(RetentionPolicy.retentionClass), \(configuration.retention.recordingDays) days unless set shorter", trigger: trigger,
                                  objects: drafts, auditEntry: 0, supervisoryAuthority: configuration.retention.supervisoryAuthority)
        // The receipt is drafted while the keys can still be fingerprinted; an earlier draft (of a run that was killed) stays.
        try await catalog.write { db in
            if let hold = try db.restriction(of: id.rawValue, now: now) { throw Self.restricted(hold) }
            try db.execute(sql: "UPDATE recording SET state = 'expired' WHERE id = ? AND state <> 'erased'", arguments: [id.rawValue])
            try db.execute(sql: "UPDATE rendition SET state = 'erased' WHERE recording = ?", arguments: [id.rawValue])
            for group in try String.fetchAll(db, sql: "SELECT DISTINCT job_group FROM job WHERE job_group LIKE ? || '#%'", arguments: [id.rawValue]) {
                try JobStore.cancel(group: group, now: now, db)
            }
            try db.execute(sql: "INSERT INTO receipt (recording, receipt) VALUES (?, ?) ON CONFLICT DO NOTHING",
                           arguments: [id.rawValue, String(decoding: try JSONEncoder().encode(receipt), as: UTF8.self)])
        }
        try await note(erased: objects + [KeyStore.recording(id)])
        _ = try await keys.destroy([KeyStore.recording(id)])
        let destroyed = clock.now
        let folder = configuration.folder(of: id.rawValue)
        try await BlockingWork.run {
            if FileManager.default.fileExists(atPath: folder.path) { try FileManager.default.removeItem(at: folder) }
            guard !FileManager.default.fileExists(atPath: folder.path) else { throw RecorderError(.storage, "files of an expired recording could not be removed") }
        }
        let unlinked = clock.now
        try await catalog.write { [self] db in
            guard let json = try String.fetchOne(db, sql: "SELECT receipt FROM receipt WHERE recording = ?", arguments: [id.rawValue]), var final: ReceiptView = Self.decoded(json) else { return }
            for place in final.objects.indices where final.objects[place].unlinkedAt == 0 {
                final.objects[place].keyDestroyedAt = destroyed.seconds
                final.objects[place].unlinkedAt = unlinked.seconds
            }
            try self.attest(&final, actor: actor, at: unlinked, db)
            try db.execute(sql: "UPDATE receipt SET receipt = ? WHERE recording = ?", arguments: [String(decoding: try JSONEncoder().encode(final), as: UTF8.self), id.rawValue])
            try db.execute(sql: "UPDATE recording SET state = 'erased' WHERE id = ?", arguments: [id.rawValue])
        }
        try await catalog.checkpoint()
    }

    /// Enters what is about to be destroyed in the ledger: from then on no backup brings it back.
    func note(erased ids: [String]) async throws {
        let (ledger, now) = (ledger, clock.now)
        try await BlockingWork.run { try ledger.append(ids, now: now) }
    }

    private func draft(_ keyID: String) async throws -> ReceiptView.Object {
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
    private static func sha256(ofFileAt path: String) async -> String? {
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
        let now = clock.now
        // Out of reach first, in one transaction; then the keys; then the files.
        let found: (tracks: [String], renditions: [String])? = try await catalog.write { db in
            guard try db.restriction(of: recording.rawValue, now: now) == nil else {
                try AuditLog.append(actor: actor, action: "erasure.waits", object: recording.rawValue, detail: participant.rawValue, now: now, db)
                return nil
            }
            let renditions = try String.fetchAll(db, sql: """
                SELECT DISTINCT rendition.id FROM rendition JOIN rendition_member ON rendition_member.rendition = rendition.id
                WHERE recording = ? AND participant = ?
                """, arguments: [recording.rawValue, participant.rawValue])
            for id in renditions { try db.execute(sql: "UPDATE rendition SET state = 'erased' WHERE id = ?", arguments: [id]) }
            let tracks = try String.fetchAll(db, sql: "SELECT track FROM stream JOIN stream_participant ON stream = stream.id WHERE recording = ? AND participant = ?",
                                             arguments: [recording.rawValue, participant.rawValue])
            return (tracks, renditions)
        }
        guard let (tracks, renditions) = found else { return }
        let isLive = live.withLock { $0[recording] != nil }
        var doomed = renditions.compactMap(RenditionID.init).map(KeyStore.rendition)
        // A live track's log is still being written; its key goes when the recording stops.
        if !isLive { doomed += tracks.compactMap(TrackID.init).map(KeyStore.track) }
        try await note(erased: doomed)
        _ = try await keys.destroy(doomed)
        let configuration = configuration
        try await BlockingWork.run {
            for id in renditions { unlink(configuration.artifact(recording.rawValue, id).path) }
            for track in isLive ? [] : tracks {
                unlink(configuration.artifact(recording.rawValue, track).path)
                let folder = configuration.trackFolder(recording.rawValue, track)
                if FileManager.default.fileExists(atPath: folder.path) { try FileManager.default.removeItem(at: folder) }
            }
        }
        try await catalog.write { db in
            if !isLive {
                for track in tracks { try db.execute(sql: "UPDATE stream SET summary = NULL, verdict = 'erased', file = NULL WHERE track = ?", arguments: [track]) }
            }
            try AuditLog.append(actor: actor, action: "participant.erased", object: recording.rawValue, detail: participant.rawValue, now: now, db)
        }
        try await catalog.checkpoint()
        guard !isLive else { return }
        // The tracks of the others are as they were: only what mixes people is made again.
        try await makeAgain(recording)
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

    /// Who asked for erasure and is still there.
    func withdrawnAndKept(_ recording: RecordingID) async throws -> Set<ParticipantID> {
        let kept = try await catalog.read { db in
            Set(try String.fetchAll(db, sql: "SELECT participant FROM stream_participant JOIN stream ON stream.id = stream WHERE recording = ? AND verdict IS NOT 'erased'",
                                    arguments: [recording.rawValue]))
        }
        let events = try await catalog.read { try $0.consentEvents(of: recording) }
        return Set(events.filter { $0.kind == .withdrawn && $0.asksErasure && kept.contains($0.participant.rawValue) }.map(\.participant))
    }
}
