import Catalog
import Consent
import Depacketize
import Foundation
import GRDB
import JobQueue
import Logging
import Media
import PacketLog
import Renditions
import RTP
import SRTP
import Synchronization
import Tap

extension Recorder {
    static let streamsMax = 200

    public func createRecording(_ request: RecordingRequest, in meeting: MeetingID, as principal: Principal) async throws -> RecordingView {
        try require([.moderator, .platform], principal)
        let name = request.pipeline ?? "meeting"
        try requireUsable(name)
        let known = Set(try await self.meeting(meeting, as: principal).participants.map(\.id))
        guard (1...Self.streamsMax).contains(request.streams.count) else {
            throw RecorderError(.invalid, "\(request.streams.count) streams", hint: "1 to \(Self.streamsMax)", pointer: "/streams")
        }
        let days = request.retentionDays ?? configuration.retention.recordingDays
        guard (1...configuration.retention.recordingDaysMax).contains(days) else {
            throw RecorderError(.invalid, "\(days) days", hint: "1 to \(configuration.retention.recordingDaysMax)", pointer: "/retention_days")
        }
        var prepared: [PreparedStream] = []
        for (place, stream) in request.streams.enumerated() { prepared.append(try Self.prepare(stream, place, known)) }
        let id = RecordingID.random()
        let now = clock.now
        try await keys.create(recording: id, tracks: prepared.map(\.track), secrets: Dictionary(uniqueKeysWithValues: prepared.compactMap { stream in stream.secret.map { (stream.track, $0) } }), now: now)
        var options = configuration.tap
        options.allowedSources = request.sources ?? []
        options.consentSeconds = Self.consentSeconds
        do {
            let session = try await open(id, prepared, options)
            do {
                let endpoints = session.layers
                let sources = String(decoding: try JSONEncoder().encode(options.allowedSources), as: UTF8.self)
                let streams = prepared
                try await catalog.write { db in
                    try RecordingRecord(id: id.rawValue, meeting: meeting.rawValue, pipeline: name, state: "recording", retentionDays: days, startedAt: now.nanoseconds,
                                        expiresAt: (now + .seconds(Int64(days) * 86_400)).nanoseconds, sources: sources).insert(db)
                    for (place, stream) in streams.enumerated() { try Self.insert(stream, place, endpoints[place], id, isLive: true, db) }
                    try AuditLog.append(actor: principal.subject, action: "recording.started", object: id.rawValue, detail: "\(streams.count) streams", now: now, db)
                }
            } catch {
                _ = session.stop()
                throw error
            }
            gates.enter(id, prepared.map { LiveGates.Stream(id: $0.id, kind: $0.kind, people: []) })
            live.withLock { $0[id] = session }
            liveRenditions.begin(id)
        } catch let error as TapError {
            _ = try await keys.destroy([KeyStore.recording(id)])
            throw RecorderError(.unavailable, error.what, hint: error.hint)
        } catch {
            _ = try await keys.destroy([KeyStore.recording(id)])
            throw error
        }
        return try await recording(id, as: principal)
    }

    func tapStreams(_ recording: RecordingID, _ streams: [PreparedStream]) async throws -> [TapStream] {
        var result: [TapStream] = []
        for stream in streams {
            result.append(TapStream(id: stream.id, identity: TrackLogIdentity(recording: recording, track: stream.track, kind: stream.kind), media: stream.media, keys: stream.keys,
                                    logDirectory: configuration.trackFolder(recording.rawValue, stream.track.rawValue).path,
                                    key: try await keys.key(KeyStore.track(stream.track))))
        }
        return result
    }

    private func open(_ recording: RecordingID, _ streams: [PreparedStream], _ options: TapOptions) async throws -> CaptureSession {
        let tapped = try await tapStreams(recording, streams)
        return try await BlockingWork.run { try CaptureSession(streams: tapped, options: options) }
    }

    public func control(_ id: RecordingID, _ command: RecordingCommand, as principal: Principal) async throws -> RecordingView {
        try require([.moderator, .platform], principal)
        let record = try await recordingRecord(id, principal)
        if [.resume, .release, .erase].contains(command) { try await refuseRestricted(id) }
        let now = clock.now
        func moved(_ from: [String], _ to: String) async throws {
            let done = try await catalog.write { db in
                guard try db.move(id.rawValue, from: from, to: to) else { return false }
                try AuditLog.append(actor: principal.subject, action: "recording.\(command.rawValue)", object: id.rawValue, now: now, db)
                return true
            }
            guard done else { throw RecorderError(.conflict, "a recording that is \(record.state) cannot be changed by \(command.rawValue)") }
        }
        switch command {
        case .pause:
            try await moved(["recording"], "paused")
            live.withLock { $0[id] }?.setPaused(true, at: clock.now)
        case .resume:
            try await moved(["paused"], "recording")
            live.withLock { $0[id] }?.setPaused(false, at: clock.now)
        case .stop: try await stop(id, principal.subject)
        case .release:
            let released = try await catalog.write { db in
                // The sound need not wait for the picture: what is ready is released, and the rest as it comes.
                try db.execute(sql: """
                    UPDATE recording SET released_at = ?1 WHERE id = ?2 AND released_at IS NULL AND (state = 'ready' OR state IN ('processing','failed') AND EXISTS
                      (SELECT 1 FROM rendition WHERE recording = ?2 AND state = 'ready' AND kind IN ('mix','composite')))
                    """, arguments: [now.nanoseconds, id.rawValue])
                guard db.changesCount == 1 else { return false }
                try AuditLog.append(actor: principal.subject, action: "recording.release", object: id.rawValue, now: now, db)
                return true
            }
            guard released || record.releasedAt != nil else { throw RecorderError(.conflict, "nothing of the recording is ready yet; it is \(record.state)", hint: "it can be released as soon as its sound or its picture is there") }
        case .erase:
            try await erase(id, trigger: "moderator", actor: principal.subject)
            throw RecorderError(.gone, "the recording is erased", hint: "GET /v1/recordings/\(id)/receipt")
        }
        return try await recording(id, as: principal)
    }

    /// Ends the capture and enqueues the pipeline.
    func stop(_ id: RecordingID, _ actor: String) async throws {
        let now = clock.now
        let isFirst = try await catalog.write { db in
            guard try db.move(id.rawValue, from: ["recording", "paused"], to: "processing") else { return false }
            try db.execute(sql: "UPDATE recording SET stopped_at = ? WHERE id = ?", arguments: [now.nanoseconds, id.rawValue])
            try AuditLog.append(actor: actor, action: "recording.stop", object: id.rawValue, now: now, db)
            return true
        }
        guard isFirst else { throw RecorderError(.conflict, "the recording was stopped already") }
        let session = live.withLock { $0.removeValue(forKey: id) }
        gates.forget(id)
        catalog.consents.forget(id)
        if let session {
            let final = try await BlockingWork.run { session.stop() }
            liveRenditions.end(id, at: now)
            if liveRenditions.run(of: id)?.isBehind ?? true { await dropLive(id) }
            try await keep(final.streams, id)
        }
        // Who withdrew while it ran is taken out first; that enqueues a run already.
        try await eraseWithdrawn(id)
        if try await catalog.read({ [jobs] in try jobs.currentJobs(owner: id.rawValue, in: $0).isEmpty }) { try await enqueuePipeline(id) }
    }

    func keep(_ statistics: [StreamID: StreamStatistics], _ id: RecordingID) async throws {
        try await catalog.write { db in
            for (stream, counts) in statistics {
                let json = String(decoding: try JSONEncoder().encode(counts), as: UTF8.self)
                try db.execute(sql: "UPDATE stream SET statistics = ? WHERE id = ? AND recording = ?", arguments: [json, stream.rawValue, id.rawValue])
            }
        }
    }

    /// Whether everybody in a stream allows its modality for a purpose.
    static func allow(_ people: [String], _ kind: MediaKind, _ purpose: Purpose, _ state: ConsentState, at now: WallTime) -> Bool {
        !people.isEmpty && people.allSatisfy { ParticipantID(rawValue: $0).map { state.allows($0, kind.modality, purpose, at: now) } ?? false }
    }

    func setVerdict(_ verdict: String, stream: String) async throws {
        try await catalog.write { try $0.execute(sql: "UPDATE stream SET verdict = ? WHERE id = ?", arguments: [verdict, stream]) }
    }
}
