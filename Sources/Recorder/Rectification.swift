import Catalog
import Foundation
import GRDB
import JobQueue
import Media
import Renditions
import SealedFile

/// Rectification (Art. 16): the name is corrected at once, and every version that shows it is made again; the old one stays until then, and
/// its key goes when the new one is there.
extension Recorder {
    public func rename(_ participant: ParticipantID, _ request: NameRequest, as principal: Principal) async throws -> ParticipantView {
        try require([.moderator, .participant], principal)
        guard principal.participant.map({ $0 == participant }) ?? true else { throw Self.notFound }
        guard (1...200).contains(request.name.count) else { throw RecorderError(.invalid, "the name has \(request.name.count) characters", hint: "1 to 200", pointer: "/name") }
        let now = clock.now
        let (isMinor, recordings) = try await catalog.write { db in
            guard let person = try ParticipantRecord.fetchOne(db, key: participant.rawValue) else { throw Self.notFound }
            try db.execute(sql: "UPDATE identity SET name = ? WHERE participant = ?", arguments: [request.name, person.id])
            guard db.changesCount == 1 else { throw RecorderError(.gone, "the link from this participant to a person is erased") }
            try AuditLog.append(actor: principal.subject, action: "name.corrected", object: person.id, now: now, db)
            let showing = try String.fetchAll(db, sql: """
                SELECT DISTINCT recording FROM stream JOIN stream_participant ON stream = stream.id JOIN recording ON recording.id = recording
                WHERE participant = ? AND summary IS NOT NULL AND state IN ('processing','ready','failed')
                """, arguments: [person.id])
            let entry = try Int.fetchOne(db, sql: "SELECT MAX(sequence) FROM audit_event") ?? 0
            for recording in showing { try Self.tellOfCorrection(person.id, in: recording, event: "corrected:\(recording):\(entry)", now, db) }
            return (person.isMinor, showing)
        }
        // The old name stays in no free page.
        await emptyLog()
        for recording in recordings.compactMap(RecordingID.init) { try await makeAgain(recording) }
        return ParticipantView(id: participant, name: request.name, minor: isMinor)
    }

    /// Has everything that mixes people made again; tracks stay as they are.
    func makeAgain(_ recording: RecordingID) async throws {
        let now = clock.now
        try await catalog.write { [self] in try beginAgain(recording, now: now, $0) }
        try await enqueueBegun(recording)
    }

    /// What was being made is not; a recording with tracks is `processing` again. Where the process dies before the new run is enqueued, the
    /// next start does that.
    func beginAgain(_ recording: RecordingID, now: WallTime, _ db: Database) throws {
        guard try db.move(recording.rawValue, from: ["ready", "failed", "processing"], to: "processing") else { return }
        try jobs.cancel(owner: recording.rawValue, now: now, in: db)
    }

    /// Enqueues the run of a recording that is to be made and has none.
    func enqueueBegun(_ recording: RecordingID) async throws {
        let isBegun = try await catalog.read { [jobs] db in
            try RecordingRecord.fetchOne(db, key: recording.rawValue)?.state == "processing" && jobs.currentJobs(owner: recording.rawValue, in: db).allSatisfy(\.state.isFinal)
        }
        if isBegun { try await enqueuePipeline(recording) }
    }

    /// Shreds versions that the catalog calls erased: superseded ones, and those whose end a kill interrupted.
    func shred(_ renditions: [String], of recording: RecordingID) async throws {
        let ids = renditions.compactMap(RenditionID.init)
        guard !ids.isEmpty else { return }
        try await note(erased: ids.map(KeyStore.rendition))
        _ = try await keys.destroy(ids.map(KeyStore.rendition))
        let configuration = configuration
        try await BlockingWork.run { try Self.remove(ids.map { configuration.artifact(recording.rawValue, $0.rawValue) }) }
    }

    /// Removes a file or folder, and looks that it is gone.
    static func remove(_ file: URL) throws {
        if FileManager.default.fileExists(atPath: file.path) { try FileManager.default.removeItem(at: file) }
        guard !FileManager.default.fileExists(atPath: file.path) else { throw RecorderError(.storage, "a file could not be removed") }
    }

    /// The same for several; that they are gone is durable when it returns.
    static func remove(_ files: [URL]) throws {
        for file in files { try remove(file) }
        for folder in Set(files.map { $0.deletingLastPathComponent().path }) where FileManager.default.fileExists(atPath: folder) { try DescriptorIO.syncDirectory(folder) }
    }
}
