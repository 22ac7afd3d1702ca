import Catalog
import Consent
import Foundation
import GRDB
import JobQueue
import Logging
import Media
import Renditions
import SealedFile
import Synchronization
import Tap

/// The end of recordings, many at a time: out of reach, then keys, then files, then the receipts; all that a batch has of one step before any
/// of the next.
///
/// | step | durable before the next | killed here, the next start |
/// |---|---|---|
/// | state `expired`, jobs cancelled, receipts drafted | transactions of 200 | does the rest, goes on from the ledger |
/// | ids entered in the ledger of erasures | fsync | the same |
/// | keys removed, the key store written anew once | VACUUM | removes what is left, writes anew if that is owed |
/// | files removed by eight at once, seen to be gone | fsync of the folder | removes what is left |
/// | receipts finished and proved in the audit log, state `erased` | transactions of 200 | does the rest |
/// | the write-ahead log moved into the database and emptied | | empties it at once |
///
/// A receipt's time of key destruction is that of the rewriting, never an earlier one; after a kill it is that of the start that made sure.
extension Recorder {
    /// Most recordings for which the key store is written anew once: that costs as much for one key as for all of them.
    static let sweepBatchMax = 2_000
    /// Batches at the same time: while one waits for the file system, the other works in the databases.
    static let sweepLanes = 2
    /// Most recordings in one transaction of a sweep: a withdrawal waits for no more than its end.
    static let sweepTransactionMax = 200
    /// Folders of a batch that are removed at the same time: each waits for the disk.
    static let removersMax = 8

    /// Ends everything past its date: what housekeeping does. Gives back how many ended.
    ///
    /// Throws only where it cannot be known what is past its date. A batch that fails is tried again in halves, so that one recording's
    /// trouble stays its own; what still fails is logged, counts as past its date, and is tried again with the next sweep.
    @discardableResult
    public func sweep() async throws -> Int { try await sweep(batchMax: Self.sweepBatchMax) }

    func sweep(batchMax: Int) async throws -> Int {
        let now = clock.settled
        let due = try await catalog.read { try $0.idsPastDate(now: now) }.compactMap(RecordingID.init)
        let ended = await withTaskGroup(of: Int.self) { group in
            var ended = 0
            for (place, batch) in due.parts(of: batchMax).enumerated() {
                if place >= Self.sweepLanes {
                    ended += await group.next() ?? 0
                    await confirmConsents()
                }
                group.addTask { await self.endExpired(batch) }
            }
            return await group.reduce(ended, +)
        }
        try await sweepRenditions(pastDateAt: now)
        return ended
    }

    private func endExpired(_ batch: [RecordingID]) async -> Int {
        do {
            return try await end(batch, trigger: "expiry", actor: "retention").count
        } catch {
            guard batch.count > 1 else {
                logger.error("a recording past its date could not be erased", metadata: ["recording": "\(batch.first, default: "none")", "error": "\(error)"])
                return 0
            }
            let half = batch.count / 2
            return await endExpired(Array(batch[..<half])) + endExpired(Array(batch[half...]))
        }
    }

    /// Ends recordings; those that are restricted, or whose files cannot be removed, are left out of what is given back. Safe to be killed and
    /// repeated at any point.
    func end(_ ids: [RecordingID], trigger: String, actor: String) async throws -> Set<RecordingID> {
        for id in ids {
            let session = live.withLock { $0.removeValue(forKey: id) }
            gates.forget(id)
            catalog.consents.forget(id)
            await dropLive(id)
            if let session { _ = try await BlockingWork.run { session.stop() } }
        }
        let families = try await keys.families(of: ids)
        let hashes = try await trackHashes(of: ids)
        var doomed: [RecordingID] = []
        for part in ids.parts(of: Self.sweepTransactionMax) {
            doomed += try await catalog.write { [self] db in try part.filter { try putOutOfReach($0, families[$0] ?? [], hashes, trigger, db) } }
        }
        guard !doomed.isEmpty else { return [] }
        try await note(erased: doomed.flatMap { id in (families[id] ?? []).map(\.id) + [KeyStore.recording(id)] })
        try await keys.removeUnread(doomed.map(KeyStore.recording))
        try await keys.rewrite()
        let destroyed = clock.now
        let gone = try await removeFolders(of: doomed)
        let unlinked = clock.now
        for part in gone.parts(of: Self.sweepTransactionMax) {
            try await catalog.write { [self] db in
                for id in part { try finish(id, destroyed: destroyed, unlinked: unlinked, actor: actor, db) }
            }
        }
        await emptyLog()
        return Set(gone)
    }

    /// Removes the folders of recordings, looks that they are gone, and makes that durable. Gives back whose are, in their order.
    private func removeFolders(of ids: [RecordingID]) async throws -> [RecordingID] {
        let (recordings, logger) = (configuration.data.appending(path: "recordings"), logger)
        let gone = try await withThrowingTaskGroup(of: [RecordingID].self) { group in
            for part in ids.parts(of: max(1, (ids.count + Self.removersMax - 1) / Self.removersMax)) {
                group.addTask {
                    try await BlockingWork.run {
                        part.filter { id in
                            do {
                                try Self.remove(recordings.appending(path: id.rawValue))
                                return true
                            } catch {
                                logger.error("files of an ended recording could not be removed", metadata: ["recording": "\(id)", "error": "\(error)"])
                                return false
                            }
                        }
                    }
                }
            }
            return try await group.reduce(into: Set<RecordingID>()) { $0.formUnion($1) }
        }
        try await BlockingWork.run { try DescriptorIO.syncDirectory(recordings.path) }
        return ids.filter(gone.contains)
    }

    /// Of the tracks' files that were not hashed when they were made, by track; what cannot be read is left out.
    private func trackHashes(of ids: [RecordingID]) async throws -> [String: String] {
        let list = String(decoding: try JSONEncoder().encode(ids), as: UTF8.self)
        let files = try await catalog.read { db in
            try Row.fetchAll(db, sql: "SELECT recording, track FROM stream WHERE recording IN (SELECT value FROM json_each(?)) AND file IS NOT NULL AND sha256 IS NULL", arguments: [list])
                .map { ($0["recording"] as String, $0["track"] as String) }
        }
        var hashes: [String: String] = [:]
        for (recording, track) in files { hashes[track] = await Self.sha256(ofFileAt: configuration.artifact(recording, track).path) }
        return hashes
    }

    /// Nobody reads it from here on. False where it is restricted.
    ///
    /// The receipt is drafted while the keys can still be fingerprinted; an earlier draft (of a run that was killed) stays.
    private func putOutOfReach(_ id: RecordingID, _ family: [KeyStore.Named], _ hashes: [String: String], _ trigger: String, _ db: Database) throws -> Bool {
        let now = clock.now
        guard try db.restriction(of: id.rawValue, settled: clock.settled) == nil else { return false }
        let sums = try Row.fetchAll(db.cachedStatement(sql: "SELECT id, sha256 FROM rendition WHERE recording = ?1 UNION ALL SELECT track, sha256 FROM stream WHERE recording = ?1 AND sha256 IS NOT NULL"),
                                    arguments: [id.rawValue]).map { ($0["id"] as String, $0["sha256"] as String) }
        let sum = Dictionary(sums) { first, _ in first }.merging(hashes) { first, _ in first }
        let objects = family.map { named in
            ReceiptView.Object(id: named.id, keyFingerprint: named.fingerprint, ciphertextSha256: sum[String(named.id.split(separator: ":")[1])] ?? "", keyDestroyedAt: 0, unlinkedAt: 0)
        }
        let receipt = ReceiptView(recording: id, policy: "\(RetentionPolicy.retentionClass), \(configuration.retention.recordingDays) days unless set shorter", trigger: trigger,
                                  objects: objects, auditEntry: 0, supervisoryAuthority: configuration.retention.supervisoryAuthority)
        try db.run("UPDATE recording SET state = 'expired' WHERE id = ? AND state <> 'erased'", arguments: [id.rawValue])
        try db.run("UPDATE rendition SET state = 'erased' WHERE recording = ?", arguments: [id.rawValue])
        try jobs.cancel(owner: id.rawValue, now: now, in: db)
        try db.run("INSERT INTO receipt (recording, receipt) VALUES (?, ?) ON CONFLICT DO NOTHING",
                       arguments: [id.rawValue, String(decoding: try JSONEncoder().encode(receipt), as: UTF8.self)])
        return true
    }

    private func finish(_ id: RecordingID, destroyed: WallTime, unlinked: WallTime, actor: String, _ db: Database) throws {
        guard let json = try String.fetchOne(db.cachedStatement(sql: "SELECT receipt FROM receipt WHERE recording = ?"), arguments: [id.rawValue]), var final: ReceiptView = Self.decoded(json) else { return }
        for place in final.objects.indices where final.objects[place].unlinkedAt == 0 {
            final.objects[place].keyDestroyedAt = destroyed.seconds
            final.objects[place].unlinkedAt = unlinked.seconds
        }
        final.backupsGoneAt = final.backupsGoneAt ?? backupsGone(after: unlinked)
        try attest(&final, actor: actor, at: unlinked, db)
        try db.run("UPDATE receipt SET receipt = ? WHERE recording = ?", arguments: [String(decoding: try JSONEncoder().encode(final), as: UTF8.self), id.rawValue])
        try db.run("UPDATE recording SET state = 'erased', erased_at = ? WHERE id = ?", arguments: [unlinked.nanoseconds, id.rawValue])
    }

    /// Moves the write-ahead log into the database and empties it. A reader that takes long can hold it up: then it is done by a later sweep.
    func emptyLog() async {
        do {
            try await catalog.checkpoint()
            owesCheckpoint.withLock { $0 = false }
        } catch {
            owesCheckpoint.withLock { $0 = true }
            logger.warning("the catalog's log could not be emptied yet; it is tried again", metadata: ["error": "\(error)"])
        }
    }

    /// What a kill, or a reader, left to do: the key store written anew, the log emptied.
    func payDebts() async throws {
        try await keys.rewrite()
        if owesCheckpoint.withLock({ $0 }) { await emptyLog() }
    }

    /// Remembers how far the clock has come, once a minute.
    func keepTime() async throws {
        let latest = clock.remembered
        guard keptTime.withLock({ $0.map { latest - $0 >= .seconds(60) } ?? true }) else { return }
        try await catalog.write { try $0.note(latest: latest) }
        keptTime.withLock { $0 = latest }
    }
}

extension Array {
    /// The same in parts of at most `count`, in order.
    func parts(of count: Int) -> [[Element]] { stride(from: 0, to: self.count, by: count).map { Array(self[$0..<Swift.min($0 + count, self.count)]) } }
}
