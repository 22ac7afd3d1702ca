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

/// Captures to be recorded after the fact, with who is in them and what each of them allowed.
public struct ImportRequest: Sendable {
    public struct Person: Sendable {
        /// The importer's own name for them.
        public var key: String
        public var name: String?
        public var modalities: [Modality]
        public init(key: String, name: String?, modalities: [Modality]) {
            self.key = key
            self.name = name
            self.modalities = modalities
        }
    }

    public struct Stream: Sendable {
        public var people: [String]
        public var kind: MediaKind
        public var sdp: String
        public init(people: [String], kind: MediaKind, sdp: String) {
            self.people = people
            self.kind = kind
            self.sdp = sdp
        }
    }

    public var pipeline: String
    public var captures: [String]
    public var people: [Person]
    public var streams: [Stream]

    public init(pipeline: String, captures: [String], people: [Person], streams: [Stream]) {
        self.pipeline = pipeline
        self.captures = captures
        self.people = people
        self.streams = streams
    }
}

/// What an import has become.
public struct ImportedRecording: Sendable {
    public var recording: RecordingID
    /// The importer's names by participant.
    public var keys: [ParticipantID: String]
    /// A principal that may see the recording's state.
    public var moderator: Principal
    /// By place in the request: why a stream was left out.
    public var refused: [Int: String]
    public var streams: [Int: StreamID]
}

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
        var imported = ImportedRecording(recording: .random(), keys: Dictionary(uniqueKeysWithValues: ids.map { ($0.value, $0.key) }), moderator: moderator, refused: [:], streams: [:])
        var prepared: [PreparedStream] = []
        for (place, stream) in request.streams.enumerated() {
            let asked = StreamRequest(participants: stream.people.compactMap { ids[$0] }, kind: stream.kind, sdp: stream.sdp)
            do {
                let ready = try Self.prepare(asked, place, Set(ids.values))
                imported.streams[place] = ready.id
                prepared.append(ready)
            } catch {
                guard error.code == .unsupported else { throw error }
                imported.refused[place] = error.detail
            }
        }
        guard !prepared.isEmpty else { throw RecorderError(.unsupported, imported.refused.sorted { $0.key < $1.key }.map(\.value).joined(separator: "; "), hint: Self.codecHint) }
        let (recording, streams) = (imported.recording, prepared)
        let state = try await enter(recording, meeting, request, streams, ids)
        let tapped = try await tapStreams(recording, streams)
        let open = streams.map { state.mayRecord($0.participants, $0.kind.modality, at: clock.now) }
        let statistics = try await BlockingWork.onThread(named: "import") { try Self.feed(request.captures, tapped, open, progress) }
        try await keep(Dictionary(uniqueKeysWithValues: zip(streams.map(\.id), statistics)), recording)
        try await stop(recording, moderator.subject)
        return imported
    }

    private func enter(_ id: RecordingID, _ meeting: MeetingID, _ request: ImportRequest, _ streams: [PreparedStream], _ ids: [String: ParticipantID]) async throws -> ConsentState {
        let now = clock.now
        let days = configuration.retention.recordingDays
        let notice = Notice(language: "en", policy: configuration.retention, days: days)
        try await keys.create(recording: id, tracks: streams.map(\.track), now: now)
        return try await catalog.write { db in
            let expires = now + .seconds(Int64(days) * 86_400)
            try RecordingRecord(id: id.rawValue, meeting: meeting.rawValue, pipeline: request.pipeline, state: "recording", retentionDays: days, startedAt: now.nanoseconds,
                                expiresAt: expires.nanoseconds).insert(db)
            for (place, stream) in streams.enumerated() {
                try Self.insert(stream, place, stream.media.map { TapEndpoint(address: "", rtpPort: $0.port, rtcpPort: $0.effectiveRTCPPort) }, id, db)
            }
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

    private static func feed(_ captures: [String], _ streams: [TapStream], _ open: [Bool], _ progress: (Double) -> Void) throws -> [StreamStatistics] {
        let session = try ImportSession(streams: streams)
        var last: WallTime?
        for (place, capture) in captures.enumerated() {
            let reader = try CaptureFileReader(path: capture)
            var told = 0.0
            while let datagram = try reader.next() {
                if last == nil { for (stream, isOpen) in open.enumerated() where isOpen { session.setGate(true, stream: stream, at: datagram.arrival) } }
                session.feed(datagram)
                last = datagram.arrival
                let share = (Double(place) + Double(reader.bytesRead) / Double(max(reader.size, 1))) / Double(captures.count)
                if share - told >= 0.02 {
                    told = share
                    progress(share)
                }
            }
        }
        progress(1)
        guard let last else { throw RecorderError(.invalid, "there is not one UDP datagram in \(captures.joined(separator: ", "))", hint: "capture with tcpdump -w") }
        return try session.finish(at: last)
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
