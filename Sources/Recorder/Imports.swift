import Catalog
import Consent
import Depacketize
import Foundation
import GRDB
import Media
import Renditions
import RTP
import SealedFile
import Tap

extension Recorder {
    /// Brings captures in through the same gate and packet log as live packets, and enqueues the pipeline.
    ///
    /// A stream that is not supported is named in the result, and the others are recorded.
    public func importCaptures(_ request: ImportRequest, progress: @escaping @Sendable (Double) -> Void) async throws -> ImportedRecording {
        let moderator = Principal(role: .moderator, subject: "import")
        let meeting = try await createMeeting(MeetingRequest(title: nil), as: moderator).id
        var ids: [String: ParticipantID] = [:]
        for person in request.people {
            ids[person.key] = try await invite(InvitationRequest(name: person.name ?? person.key, minor: nil), to: meeting, as: moderator).participant.id
        }
        var imported = ImportedRecording(recording: .random(), keys: Dictionary(uniqueKeysWithValues: ids.map { ($0.value, $0.key) }), moderator: moderator)
        var prepared: [PreparedStream] = []
        var owners: [(stream: Int, request: ImportRequest.Stream)] = []
        for (place, stream) in request.streams.enumerated() {
            do {
                let ready = try await prepare(stream, place, ids)
                imported.streams[place] = ready.id
                owners.append((prepared.count, stream))
                prepared.append(ready)
            } catch let error as RecorderError {
                guard error.code == .unsupported else { throw error }
                imported.refused[place] = error.detail
            }
        }
        let (sources, known) = (ImportSource.all(of: request, owners: owners), ids)
        let files = try await BlockingWork.run {
            try ImportSource.check(sources, files: request.files)
            return try Self.prepare(request.files, known)
        }
        for file in files { imported.files[file.place, default: []].append(file.id) }
        guard !prepared.isEmpty || !files.isEmpty else { throw RecorderError(.unsupported, imported.refused.sorted { $0.key < $1.key }.map(\.value).joined(separator: "; "), hint: Self.codecHint) }
        let (recording, streams) = (imported.recording, prepared)
        let state = try await enter(recording, meeting, request, streams, files, ids)
        let tapped = try await tapStreams(recording, streams)
        let open = streams.map { state.mayRecord($0.participants, $0.kind.modality, at: clock.now) }
        let (statistics, notes) = try await BlockingWork.onThread(named: "import") { try Self.feed(sources, tapped, open, progress) }
        imported.notes = notes
        try await keep(statistics, recording)
        try await stop(recording, moderator.subject)
        return imported
    }

    private func prepare(_ stream: ImportRequest.Stream, _ place: Int, _ ids: [String: ParticipantID]) async throws -> PreparedStream {
        var sdp = stream.sdp
        if sdp == nil {
            guard let capture = stream.capture else { throw RecorderError(.invalid, "stream \(place + 1) has no sdp", hint: "`mitschnitt inspect` proposes one", pointer: "/streams/\(place)") }
            sdp = try await BlockingWork.run { try ImportSource.announcement(capture) }
        }
        return try Self.prepare(StreamRequest(participants: stream.people.compactMap { ids[$0] }, kind: stream.kind, sdp: sdp ?? ""), place, Set(ids.values))
    }

    private func enter(_ id: RecordingID, _ meeting: MeetingID, _ request: ImportRequest, _ streams: [PreparedStream], _ files: [PreparedFile],
                       _ ids: [String: ParticipantID]) async throws -> ConsentState {
        let now = clock.now
        let days = configuration.retention.recordingDays
        let notice = Notice(language: "en", policy: configuration.retention, days: days)
        try await keys.create(recording: id, tracks: streams.map(\.track) + files.map(\.track), now: now)
        return try await catalog.write { db in
            let expires = now + .seconds(Int64(days) * 86_400)
            try RecordingRecord(id: id.rawValue, meeting: meeting.rawValue, pipeline: request.pipeline, state: "recording", retentionDays: days, startedAt: now.nanoseconds,
                                expiresAt: expires.nanoseconds).insert(db)
            for (place, stream) in streams.enumerated() {
                try Self.insert(stream, place, stream.media.map { TapEndpoint(address: "", rtpPort: $0.port, rtcpPort: $0.effectiveRTCPPort) }, id, isLive: false, db)
            }
            for (place, file) in files.enumerated() { try Self.insert(file, streams.count + place, id, db) }
            try db.keep(notice)
            var state = try db.consentState(of: id)
            for person in request.people {
                guard let participant = ids[person.key] else { continue }
                let event = ConsentEvent(
                    sequence: state.count + 1, recording: id, participant: participant, kind: person.modalities.isEmpty ? .refused : .given, occurredAt: now, receivedAt: now,
                    modalities: person.modalities, purposes: person.modalities.isEmpty ? [] : [.minutes, .shareWithParticipants], noticeHash: notice.hash,
                    noticeVersion: notice.version, language: "en", method: .platform, isOwnAct: true, isGuardian: false,
                    retentionClass: RetentionPolicy.retentionClass, expiresAt: expires, asksErasure: false, previousHash: state.lastHash)
                state = try db.append(event, to: state)
            }
            return state
        }
    }

    private static func feed(_ sources: [ImportSource], _ tapped: [TapStream], _ open: [Bool], _ progress: (Double) -> Void) throws -> (statistics: [StreamID: StreamStatistics], notes: [String]) {
        var statistics: [StreamID: StreamStatistics] = [:]
        var notes: [String] = []
        let total = max(1, sources.reduce(0) { $0 + $1.bytes })
        var (before, told, isEmpty) = (0, 0.0, true)
        for source in sources {
            let found = try source.feed(tapped, open) { bytes in
                let share = min(1, Double(before + bytes) / Double(total))
                guard share - told >= 0.02 else { return }
                told = share
                progress(share)
            }
            before += source.bytes
            notes += found.notes
            isEmpty = isEmpty && found.isEmpty
            for (place, counts) in zip(source.streams, found.statistics) { statistics[tapped[place].id] = counts }
        }
        progress(1)
        guard sources.isEmpty || !isEmpty else {
            throw RecorderError(.invalid, "there is not one UDP datagram in \(Set(sources.flatMap(\.captures)).sorted().joined(separator: ", "))", hint: "`mitschnitt inspect` lists what is in them")
        }
        return (statistics, notes)
    }

    /// Opens a finished rendition for the owner of the data folder, on this machine: `render` and `export`. Blocks until all is written.
    public func unseal(_ id: RenditionID, to file: URL) async throws {
        guard let record = try await catalog.read({ try RenditionRecord.fetchOne($0, key: id.rawValue) }), let recording = RecordingID(rawValue: record.recording) else { throw Self.notFound }
        let key = try await keys.key(KeyStore.rendition(id))
        let context = SealedContext(recording: recording, object: KeyStore.rendition(id), modality: record.kind, part: record.output)
        let path = configuration.artifact(record.recording, record.id).path
        try await BlockingWork.run {
            let opened = try OpenRendition(path: path, key: key, context: context)
            guard FileManager.default.createFile(atPath: file.path, contents: nil) else { throw RecorderError(.storage, "\(file.path) cannot be written") }
            let handle = try FileHandle(forWritingTo: file)
            defer { try? handle.close() }  // every write before it has thrown where it failed
            var at = 0
            while at < opened.length {
                let chunk = try opened.read(at: at, count: 1 << 20)
                try handle.write(contentsOf: chunk)
                at += chunk.count
            }
        }
    }
}
