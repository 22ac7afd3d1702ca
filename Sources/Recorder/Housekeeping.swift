import Catalog
import Foundation
import GRDB
import JobQueue
import Logging
import Media
import PacketLog
import Renditions
import RTP
import SealedFile
import ServiceLifecycle
import Synchronization
import Tap

/// What happens by itself, beside ``GateWatch``: recordings past their date are erased, finished jobs are forgotten.
public final class Housekeeping: Service {
    private let recorder: Recorder

    public init(recorder: Recorder) { self.recorder = recorder }

    public func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await self.recorder.tidy()
                // A cancelled sleep ends the loop.
                try? await Task.sleep(for: .milliseconds(500))
            }
        }
    }
}

extension Recorder {
    package func tidy() async {
        let began = ContinuousClock.now
        do {
            let now = clock.now
            try await settleRestrictions()
            await confirmConsents()
            try await sweep()
            try await feedBatches()
            try await pruneJobsIfDue()
            try await payDebts()
            try await keepTime()
            try await checkpointAuditIfDue()
            sweeps.withLock { $0.succeed(after: ContinuousClock.now - began, at: now) }
        } catch {
            // Gates have a watch of their own.
            logger.error("housekeeping failed; it is tried again", metadata: ["error": "\(error)"])
        }
        await keepRecords()
    }

    /// After a start: logs that a crash left open are closed at their valid end, captures listen at their old ports again,
    /// leftovers of stages are removed. Jobs that were running are rescued by the next worker.
    public func recover() async throws {
        let temporary = configuration.temporary
        try await BlockingWork.run {
            for name in try FileManager.default.contentsOfDirectory(atPath: temporary.path) { try FileManager.default.removeItem(at: temporary.appending(path: name)) }
        }
        let now = clock.now
        try await payDebts()
        try await checkpointAudit()
        try await settleUnstored()
        try await askAgainWhereNoticeChanged()
        for state in ["recording", "paused", "processing"] {
            for record in try await catalog.read({ try $0.recordings(inState: state) }) where record.expiresAt > now.nanoseconds {
                try await recover(record, state)
            }
        }
        for state in ["processing", "ready", "failed"] {
            for record in try await catalog.read({ try $0.recordings(inState: state) }) where record.expiresAt > now.nanoseconds {
                if let id = RecordingID(rawValue: record.id) { try await eraseWithdrawn(id) }
            }
        }
        try await shredLeftovers()
        try await shredOrphans()
    }

    /// What the catalog calls erased and a kill left: its keys and files go, and the ledger knows of all of it.
    private func shredLeftovers() async throws {
        let (renditions, tracks, recordings) = try await catalog.read { db in
            (try Row.fetchAll(db, sql: "SELECT rendition.id AS id, recording, recording.state AS state FROM rendition JOIN recording ON recording.id = recording WHERE rendition.state = 'erased'")
                .map { (id: $0["id"] as String, recording: $0["recording"] as String, isOver: ["expired", "erased"].contains($0["state"] as String)) },
             try String.fetchAll(db, sql: "SELECT track FROM stream WHERE verdict = 'erased'"), try String.fetchAll(db, sql: "SELECT id FROM recording WHERE state IN ('expired','erased')"))
        }
        try await note(erased: renditions.map { "rendition:\($0.id)" } + tracks.map { "track:\($0)" } + recordings.map { "recording:\($0)" })
        let files = try await catalog.read { db in
            try Row.fetchAll(db, sql: "SELECT track, recording FROM stream JOIN recording ON recording.id = recording WHERE verdict = 'erased' AND state NOT IN ('expired','erased')")
                .map { (track: $0["track"] as String, recording: $0["recording"] as String) }
        }
        let configuration = configuration
        try await BlockingWork.run {
            for (track, recording) in files { for file in [configuration.artifact(recording, track), configuration.trackFolder(recording, track)] { try Self.remove(file) } }
        }
        for (id, recording, isOver) in renditions where !isOver {
            guard let rendition = RenditionID(rawValue: id), let owner = RecordingID(rawValue: recording) else { continue }
            let isGone = !FileManager.default.fileExists(atPath: configuration.artifact(recording, id).path)
            if isGone { do { _ = try await keys.fingerprint(KeyStore.rendition(rendition)) } catch is KeyStore.Missing { continue } }
            try await shred([id], of: owner)
        }
    }

    /// Versions that were being made when the process died: nobody could read them yet, and whose media is in them no row says. Files first,
    /// so that a kill in between leaves the key to find them by.
    private func shredOrphans() async throws {
        let made = try await keys.renditions()
        let orphans = try await catalog.read { db in
            try made.filter { rendition, recording in
                try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM recording WHERE id = ?) AND NOT EXISTS (SELECT 1 FROM rendition WHERE id = ?)",
                                  arguments: [recording.rawValue, rendition.rawValue]) ?? false
            }
        }
        guard !orphans.isEmpty else { return }
        let configuration = configuration
        try await BlockingWork.run { try Self.remove(orphans.map { configuration.artifact($0.recording.rawValue, $0.rendition.rawValue) }) }
        _ = try await keys.destroy(orphans.map { KeyStore.rendition($0.rendition) })
    }

    private func recover(_ record: RecordingRecord, _ state: String) async throws {
        guard let id = RecordingID(rawValue: record.id) else { return }
        var prepared: [PreparedStream] = []
        var options = configuration.tap
        options.allowedSources = Self.list(record.sources)
        options.consentSeconds = Self.consentSeconds
        for (stream, people) in try await catalog.read({ try $0.streams(of: record.id) }) where stream.verdict != "erased" {
            guard let streamID = StreamID(rawValue: stream.id), let track = TrackID(rawValue: stream.track), let kind = MediaKind(rawValue: stream.kind) else { continue }
            let folder = configuration.trackFolder(record.id, stream.track).path
            let identity = TrackLogIdentity(recording: id, track: track, kind: kind)
            let key = try await keys.key(KeyStore.track(track))
            let report = try await BlockingWork.run {
                try TrackLogFolder.make(folder)
                return try TrackLogRecovery.recover(directory: folder, identity: identity, key: key)
            }
            if !report.recovered.isEmpty {
                logger.notice("a packet log was recovered", metadata: ["track": "\(track)", "segments": "\(report.recovered.count)", "bytes_cut": "\(report.bytesCut)"])
            }
            let sdp = try await keys.secret(of: track).map { String(decoding: $0, as: UTF8.self) } ?? stream.sdp
            // It was read when it was stored; a version that reads less leaves it out, and its neighbours go on.
            guard let (media, srtpKeys) = try? Self.read(sdp, kind, stream.position) else { continue }
            prepared.append(PreparedStream(id: streamID, track: track, participants: people.compactMap(ParticipantID.init), kind: kind, sdp: sdp, media: media, keys: srtpKeys, codec: stream.codec))
            options.fixedPorts[streamID] = Self.endpoints(stream)
        }
        if state == "processing" {
            // Killed between the stop and the queue: the run is enqueued now.
            try await enqueueBegun(id)
            return
        }
        do {
            let (streams, fixed) = (try await tapStreams(id, prepared), options)
            let session = try await BlockingWork.run { try CaptureSession(streams: streams, options: fixed) }
            if state == "paused" { session.setPaused(true, at: clock.now) }
            live.withLock { $0[id] = session }
            try await catalog.write { db in try self.push(db.consentState(of: id), id, opening: true, db) }
        } catch let error as TapError {
            logger.error("a recording could not go on after the restart", metadata: ["recording": "\(id)", "error": "\(error)"])
        }
    }
}
