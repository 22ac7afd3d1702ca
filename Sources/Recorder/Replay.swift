import Catalog
import Consent
import Foundation
import GRDB
import JobQueue
import Media
import Renditions

extension Recorder {
    /// What the ledger had done again after a restore.
    public struct Replayed: Hashable, Sendable {
        public var recordings = 0
        public var tracks = 0
        public var renditions = 0
        public var withdrawals = 0
        /// Restrictions that were placed since, or lifted.
        public var restrictions = 0
    }

    /// Does again what was done after the backup was taken: erased recordings, tracks and versions end, withdrawals and refusals are entered
    /// in the history. Captures that were running are over. Nothing is served before it returns; killed, it is begun anew.
    func replayErasures(takenAt: WallTime, withLedger: Bool) async throws -> Replayed {
        let now = clock.now
        var replayed = Replayed()
        try await catalog.write { [jobs] db in
            try db.execute(sql: "UPDATE recording SET state = 'processing', stopped_at = COALESCE(stopped_at, MAX(started_at, ?)) WHERE state IN ('recording','paused')", arguments: [takenAt.nanoseconds])
            // The workers of then are not here.
            for worker in try jobs.workers(in: db) { try jobs.disown(worker.id, now: now, in: db) }
            try AuditLog.append(actor: "restore", action: withLedger ? "backup.restored" : "backup.restored-without-ledger", object: "\(takenAt.nanoseconds)", now: now, db)
        }
        let records = try await catalog.read { try RecordingRecord.fetchAll($0, sql: "SELECT * FROM recording WHERE state <> 'erased'") }
        for record in records {
            guard let id = RecordingID(rawValue: record.id) else { continue }
            if ledger.contains(KeyStore.recording(id)) {
                // The hold that there may have been then is over: it was erased after it.
                try await catalog.write { try $0.execute(sql: "UPDATE restriction SET lifted_at = COALESCE(lifted_at, ?1), settled_at = ?1 WHERE recording = ?2 AND settled_at IS NULL", arguments: [now.nanoseconds, record.id]) }
                try await erase(id, trigger: "restore", actor: "restore")
                replayed.recordings += 1
            } else {
                replayed.restrictions += try await replayRestriction(id, record)
                replayed.withdrawals += try await replayWithdrawals(id, record)
                let (tracks, renditions) = try await replayObjects(id)
                replayed.tracks += tracks
                replayed.renditions += renditions
                // What was not stopped then is recovered and enqueued by the next start; of what is long finished the jobs are forgotten.
                let hasJobs = try await !catalog.read { [jobs] in try jobs.currentJobs(owner: record.id, in: $0).isEmpty }
                if tracks + renditions > 0, hasJobs || record.state != "processing" { try await makeAgain(id) }
            }
        }
        try await catalog.checkpoint()
        return replayed
    }

    private func replayWithdrawals(_ id: RecordingID, _ record: RecordingRecord) async throws -> Int {
        let now = clock.now
        return try await catalog.write { [ledger] db in
            var state = try db.consentState(of: id)
            let gone = state.decisions.filter { !$0.value.modalities.isEmpty && ledger.contains(Self.withdrawal(of: $0.key, from: id)) }.keys
            // Who asked for erasure since: where it had to wait, no track of theirs is in the ledger yet.
            let haveAsked = Set(try db.consentEvents(of: id).filter(\.asksErasure).map(\.participant))
            let people = try db.participants(of: record.meeting).compactMap { ParticipantID(rawValue: $0.participant.id) }
            let asked = Set(people.filter { !haveAsked.contains($0) && ledger.contains(Self.erasureAsked(by: $0, of: id)) })
            for participant in asked.union(gone).sorted() {
                let event = ConsentEvent(
                    sequence: state.count + 1, recording: id, participant: participant, kind: .withdrawn, occurredAt: now, receivedAt: now, modalities: [], purposes: [], noticeHash: "",
                    noticeVersion: "", language: Language.de.rawValue, method: .onBehalf, isOwnAct: false, isGuardian: false, retentionClass: RetentionPolicy.retentionClass,
                    expiresAt: WallTime(nanoseconds: record.expiresAt), asksErasure: asked.contains(participant), previousHash: state.lastHash)
                state = try db.append(event, to: state)
                try AuditLog.append(actor: "restore", action: "withdrawal.replayed", object: id.rawValue, detail: participant.rawValue, now: now, db)
            }
            return asked.union(gone).count
        }
    }

    /// Restricts again what was restricted since, and lifts what was lifted. Who placed it the ledger does not say: the operator lifts it.
    private func replayRestriction(_ id: RecordingID, _ record: RecordingRecord) async throws -> Int {
        let now = clock.now
        return try await catalog.write { [ledger] db in
            let people = try db.participants(of: record.meeting).map(\.participant.id)
            var placed: [String: RestrictionRecord] = [:]
            for reason in RestrictionReason.allCases {
                for person in [nil] + people.map(Optional.some) {
                    for by in ["restore", person ?? "restore"] {
                        let hold = RestrictionRecord(recording: record.id, reason: reason.rawValue, participant: person, placedBy: by, placedAt: now.nanoseconds, until: 0)
                        placed[Self.restrictionEntry(hold)] = hold
                    }
                }
            }
            guard let (entry, until) = ledger.latest(of: Array(placed.keys)), var hold = placed[entry] else { return 0 }
            let open = try RestrictionRecord.fetchOne(db, sql: "SELECT * FROM restriction WHERE recording = ? AND settled_at IS NULL AND lifted_at IS NULL", arguments: [record.id])
            if until > now {
                guard open.map({ $0.until != until.nanoseconds || Self.restrictionEntry($0) != entry }) ?? true else { return 0 }
                hold.until = until.nanoseconds
                try db.place(hold)
                try AuditLog.append(actor: "restore", action: "restriction.replayed", object: record.id, detail: hold.reason, now: now, db)
            } else {
                guard let open, open.until > until.nanoseconds else { return 0 }
                try db.execute(sql: "UPDATE restriction SET lifted_at = ? WHERE id = ?", arguments: [now.nanoseconds, open.id])
                try AuditLog.append(actor: "restore", action: "restriction.lift-replayed", object: record.id, now: now, db)
            }
            return 1
        }
    }

    private func replayObjects(_ id: RecordingID) async throws -> (tracks: Int, renditions: Int) {
        let (ledger, now) = (ledger, clock.now)
        let (tracks, renditions) = try await catalog.write { db in
            let tracks = try String.fetchAll(db, sql: "SELECT track FROM stream WHERE recording = ? AND verdict IS NOT 'erased'", arguments: [id.rawValue]).filter { ledger.contains("track:\($0)") }
            let renditions = try String.fetchAll(db, sql: "SELECT id FROM rendition WHERE recording = ? AND state <> 'erased'", arguments: [id.rawValue]).filter { ledger.contains("rendition:\($0)") }
            for track in tracks { try db.execute(sql: "UPDATE stream SET summary = NULL, verdict = 'erased', file = NULL WHERE track = ?", arguments: [track]) }
            for rendition in renditions { try db.execute(sql: "UPDATE rendition SET state = 'erased' WHERE id = ?", arguments: [rendition]) }
            if !tracks.isEmpty || !renditions.isEmpty {
                try AuditLog.append(actor: "restore", action: "erasure.replayed", object: id.rawValue, detail: "\(tracks.count) tracks, \(renditions.count) renditions", now: now, db)
            }
            return (tracks, renditions)
        }
        _ = try await keys.destroy(tracks.compactMap(TrackID.init).map(KeyStore.track) + renditions.compactMap(RenditionID.init).map(KeyStore.rendition))
        let configuration = configuration
        try await BlockingWork.run {
            for name in tracks + renditions { try Self.remove(configuration.artifact(id.rawValue, name)) }
            for track in tracks { try Self.remove(configuration.trackFolder(id.rawValue, track)) }
        }
        return (tracks.count, renditions.count)
    }
}
