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

/// What happens by itself: consents that end close gates, recordings past their date are erased, lost leases are freed.
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
    func tidy() async {
        let began = ContinuousClock.now
        do {
            let now = clock.now
            try await settleRestrictions()
            for record in try await catalog.read({ try $0.recordingsPastDate(now: now) }) {
                guard let id = RecordingID(rawValue: record.id) else { continue }
                do {
                    try await erase(id, trigger: "expiry", actor: "retention")
                } catch {
                    // Its neighbours end on their own dates. It is tried again with the next sweep, and counts as past its date until then.
                    logger.error("a recording past its date could not be erased", metadata: ["recording": "\(id)", "error": "\(error)"])
                }
            }
            for id in live.withLock({ Array($0.keys) }) { try await catalog.write { db in try self.push(db.consentState(of: id), id, opening: true, db) } }
            try await checkpointAuditIfDue()
            _ = try await catalog.write { try JobStore.rescue(all: false, policy: RetryPolicy(), now: now, $0) }
            sweeps.withLock { $0.succeed(after: ContinuousClock.now - began, at: now) }
        } catch {
            // Where consents cannot be read nothing may pass.
            for session in live.withLock({ Array($0.values) }) { session.closeAllGates(at: clock.now) }
            logger.error("housekeeping failed; all gates are closed until it works again", metadata: ["error": "\(error)"])
        }
        await keepRecords()
    }

    /// After a start: logs that a crash left open are closed at their valid end, captures listen at their old ports again, jobs that were
    /// running are given back, leftovers of stages are removed.
    public func recover() async throws {
        let temporary = configuration.temporary
        try await BlockingWork.run {
            for name in try FileManager.default.contentsOfDirectory(atPath: temporary.path) { try FileManager.default.removeItem(at: temporary.appending(path: name)) }
        }
        let now = clock.now
        try await checkpointAudit()
        try await catalog.write { db in _ = try JobStore.rescue(all: true, policy: RetryPolicy(), now: now, db) }
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
    }

    /// What the catalog calls erased and a kill left: its keys and files go, and the ledger knows of all of it.
    private func shredLeftovers() async throws {
        let (renditions, tracks, recordings) = try await catalog.read { db in
            (try Row.fetchAll(db, sql: "SELECT rendition.id AS id, recording, recording.state AS state FROM rendition JOIN recording ON recording.id = recording WHERE rendition.state = 'erased'")
                .map { (id: $0["id"] as String, recording: $0["recording"] as String, isOver: ["expired", "erased"].contains($0["state"] as String)) },
             try String.fetchAll(db, sql: "SELECT track FROM stream WHERE verdict = 'erased'"), try String.fetchAll(db, sql: "SELECT id FROM recording WHERE state IN ('expired','erased')"))
        }
        try await note(erased: renditions.map { "rendition:\($0.id)" } + tracks.map { "track:\($0)" } + recordings.map { "recording:\($0)" })
        for (id, recording, isOver) in renditions where !isOver {
            guard let rendition = RenditionID(rawValue: id), let owner = RecordingID(rawValue: recording) else { continue }
            do { _ = try await keys.fingerprint(KeyStore.rendition(rendition)) } catch is KeyStore.Missing { continue }
            try await shred([id], of: owner)
        }
    }

    private func recover(_ record: RecordingRecord, _ state: String) async throws {
        guard let id = RecordingID(rawValue: record.id) else { return }
        var prepared: [PreparedStream] = []
        var options = configuration.tap
        options.allowedSources = Self.list(record.sources)
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
            if try await catalog.read({ try Self.currentJobs(record.id, $0).isEmpty }) { try await enqueuePipeline(id) }
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
