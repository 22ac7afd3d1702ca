import Catalog
import Consent
import Foundation
import GRDB
import Media
import Renditions
import SealedFile

/// A person's own data, opened for one reader: a tar archive of `data.json` and their tracks.
public struct PersonalExport: Sendable {
    public var length: Int
    /// Neutral, as every name: no person, no topic.
    public var fileName: String
    /// The archive in chunks of at most 64 KiB, pulled one by one. Throws where a track is destroyed meanwhile: the connection is then to be reset.
    public var body: @Sendable () -> AsyncThrowingStream<[UInt8], any Error>
}

/// Access and portability (Art. 15, 20): what there is of a person and of nobody else. A track with others in it is theirs, too, and stays out.
///
/// It is made while it is read; no plaintext touches the disk. A restriction does not stand against it: the person asks for their own (Art. 18(2)).
extension Recorder {
    public func export(as principal: Principal) async throws -> PersonalExport {
        try require([.participant], principal)
        guard let participant = principal.participant, let meeting = principal.meeting else { throw Self.notFound }
        let (now, settled) = (clock.now, clock.settled)
        let retention = configuration.retention
        let found = try await catalog.read { db in
            guard let person = try ParticipantRecord.fetchOne(db, key: participant.rawValue), let about = try MeetingRecord.fetchOne(db, key: meeting.rawValue) else { throw Self.notFound }
            var data = PersonalData(
                exportedAt: now.seconds, controller: retention.controller, supervisoryAuthority: retention.supervisoryAuthority,
                person: .init(participant: participant, name: try IdentityRecord.fetchOne(db, key: person.id)?.name, minor: person.isMinor,
                              invitedAt: Self.seconds(person.createdAt), meeting: meeting, meetingTitle: about.title))
            return (data: data, tracks: try Self.collect(participant, into: &data, settled, db), whole: data)
        }
        var data = found.whole
        var pieces: [ExportBody.Piece] = []
        var length = 0
        for wanted in found.tracks {
            let (file, place) = (wanted.file, wanted.place)
            do {
                let size = try await ExportBody.open(wanted, self).length
                pieces += [.bytes(TarArchive.header(name: file, size: size, modified: Int(now.seconds))), .track(wanted, size), .bytes(TarArchive.padding(after: size))]
                length += TarArchive.blockBytes + size + TarArchive.padding(after: size).count
            } catch {
                // What cannot be opened is named; the rest is theirs all the same.
                data.recordings[place.recording].tracks[place.track].file = nil
                data.recordings[place.recording].tracks[place.track].leftOut = "it cannot be opened (any more)"
            }
        }
        let json = try data.json()
        let head = TarArchive.header(name: "data.json", size: json.count, modified: Int(now.seconds)) + json + TarArchive.padding(after: json.count)
        let all = [.bytes(head)] + pieces + [.bytes(TarArchive.end)]
        _ = try await catalog.write { try AuditLog.append(actor: principal.subject, action: "subject.exported", object: participant.rawValue, now: now, $0) }
        return PersonalExport(length: head.count + length + TarArchive.end.count, fileName: "mitschnitt-export.tar", body: { [self] in
            let body = ExportBody(all, self)
            return AsyncThrowingStream { try await body.next() }
        })
    }

    private static func seconds(_ nanoseconds: Int64) -> Double { WallTime(nanoseconds: nanoseconds).seconds }

    /// Fills in what the catalog knows of a person; the tracks that belong in the archive are returned.
    private static func collect(_ participant: ParticipantID, into data: inout PersonalData, _ settled: WallTime, _ db: Database) throws -> [ExportBody.Track] {
        let id = participant.rawValue
        data.accesses = try AccessTokenRecord.fetchAll(db, sql: "SELECT * FROM access_token WHERE participant = ? ORDER BY created_at", arguments: [id])
            .map { .init(role: $0.role, recording: $0.recording, purpose: $0.purpose, createdAt: seconds($0.createdAt), expiresAt: seconds($0.expiresAt)) }
        let decoder = JSONDecoder()
        data.consents = try Row.fetchAll(db, sql: "SELECT CAST(event AS BLOB) AS event, hash FROM consent_event WHERE participant = ? ORDER BY recording, sequence", arguments: [id])
            .map { row in
                let written: Data = row["event"]
                return .init(event: try decoder.decode(ConsentEvent.self, from: written), written: String(decoding: written, as: UTF8.self), hash: row["hash"])
            }
        for hash in Set(data.consents.map(\.event.noticeHash)).sorted() {
            guard let row = try Row.fetchOne(db, sql: "SELECT * FROM notice WHERE hash = ?", arguments: [hash]) else { continue }
            data.notices.append(.init(hash: hash, version: row["version"], language: row["language"], text: row["text"]))
        }
        data.ownDownloads = try Row.fetchAll(db, sql: "SELECT * FROM download WHERE participant = ? ORDER BY at", arguments: [id])
            .map { .init(rendition: $0["rendition"], at: seconds($0["at"]), bytes: $0["bytes"], whole: $0["is_whole"]) }
        if let contact = try ContactRecord.fetchOne(db, key: id) { (data.person.email, data.person.language) = (contact.address, contact.language) }
        data.messages = try NotificationRecord.fetchAll(db, sql: "SELECT * FROM notification WHERE recipient = ? ORDER BY created_at", arguments: [id])
            .map { .init(kind: $0.kind, recording: $0.recording, at: seconds($0.createdAt), mailedAt: $0.sentAt.map(seconds), readAt: $0.seenAt.map(seconds)) }
        data.audit = try Row.fetchAll(db, sql: "SELECT sequence, at, actor, action, object, detail FROM audit_event WHERE actor = ?1 OR object = ?1 OR detail = ?1 OR detail LIKE ?1 || ' %' ORDER BY sequence",
                                     arguments: [id])
            .map { .init(sequence: $0["sequence"], at: seconds($0["at"]), actor: $0["actor"], action: $0["action"], object: $0["object"], detail: $0["detail"]) }
        let records = try RecordingRecord.fetchAll(db, sql: """
            SELECT * FROM recording WHERE id IN (SELECT recording FROM stream JOIN stream_participant ON stream = stream.id WHERE participant = ?1)
            OR id IN (SELECT recording FROM consent_event WHERE participant = ?1) ORDER BY started_at
            """, arguments: [id])
        var wanted: [ExportBody.Track] = []
        let viewer = Principal(role: .participant, subject: id, participant: participant)
        for (place, record) in records.enumerated() {
            var tracks: [PersonalData.Track] = []
            for (stream, people) in try db.streams(of: record.id) where people.contains(id) {
                var entry = PersonalData.Track(track: stream.track, kind: stream.kind, codec: stream.codec, verdict: stream.verdict)
                if let why = leftOut(stream, people, record) {
                    entry.leftOut = why
                } else if let recording = RecordingID(rawValue: record.id), let track = TrackID(rawValue: stream.track), let kind = MediaKind(rawValue: stream.kind) {
                    let file = "recording-\(place + 1)/track-\(stream.position + 1)-\(stream.kind).\(kind == .audio ? "mka" : "mkv")"
                    entry.file = file
                    wanted.append(.init(recording: recording, track: track, kind: kind, file: file, place: (place, tracks.count)))
                }
                tracks.append(entry)
            }
            data.recordings.append(.init(
                recording: record.id, state: record.state, startedAt: seconds(record.startedAt), stoppedAt: record.stoppedAt.map(seconds), expiresAt: seconds(record.expiresAt),
                releasedAt: record.releasedAt.map(seconds), restriction: try db.restriction(of: record.id, settled: settled).map { view($0, viewer) }, tracks: tracks,
                renditions: try renditions(of: record, with: id, db)))
        }
        return wanted
    }

    private static func leftOut(_ stream: StreamRecord, _ people: [String], _ record: RecordingRecord) -> String? {
        if record.state == "expired" || record.state == "erased" || stream.verdict == "erased" { return "it is erased" }
        if people.count > 1 { return "others are in it" }
        if stream.summary == nil { return stream.verdict == nil ? "it is not made yet" : "nothing was recorded" }
        return nil
    }

    private static func renditions(of record: RecordingRecord, with participant: String, _ db: Database) throws -> [PersonalData.Rendition] {
        try db.renditions(of: record.id, states: ["ready", "withdrawn", "erased"]).filter { $0.members.contains(participant) }.map { rendition, _ in
            PersonalData.Rendition(
                rendition: rendition.id, kind: rendition.kind, purpose: rendition.purpose,
                yours: try String.fetchAll(db, sql: "SELECT modality FROM rendition_member WHERE rendition = ? AND participant = ? ORDER BY modality", arguments: [rendition.id, participant]),
                state: rendition.state, createdAt: seconds(rendition.createdAt), expiresAt: seconds(rendition.expiresAt),
                downloads: try Row.fetchAll(db, sql: "SELECT * FROM download WHERE rendition = ? ORDER BY at", arguments: [rendition.id])
                    .map { .init(by: $0["participant"], at: seconds($0["at"]), bytes: $0["bytes"], whole: $0["is_whole"]) })
        }
    }
}

/// An export on its way out: one piece after the other, each track opened when its turn comes.
actor ExportBody {
    enum Piece: Sendable {
        case bytes([UInt8])
        /// With the length that the archive's header says.
        case track(Track, Int)
    }

    struct Track: Sendable {
        var recording: RecordingID
        var track: TrackID
        var kind: MediaKind
        var file: String
        /// Its place in `data.json`.
        var place: (recording: Int, track: Int)
    }

    private let pieces: [Piece]
    private let recorder: Recorder
    private var place = 0
    private var offset = 0
    private var opened: OpenRendition?
    private var checked: WallTime?

    init(_ pieces: [Piece], _ recorder: Recorder) { (self.pieces, self.recorder) = (pieces, recorder) }

    static func open(_ track: Track, _ recorder: Recorder) async throws -> OpenRendition {
        let key = try await recorder.keys.key(KeyStore.track(track.track))
        let path = recorder.configuration.artifact(track.recording.rawValue, track.track.rawValue).path
        let context = StageWork.trackContext(track.recording, track.track, track.kind)
        return try await BlockingWork.run { try OpenRendition(path: path, key: key, context: context) }
    }

    func next() async throws -> [UInt8]? {
        while place < pieces.count {
            switch pieces[place] {
            case .bytes(let bytes):
                let part = bytes[offset..<min(offset + 1 << 16, bytes.count)]
                if part.isEmpty { break }
                offset += part.count
                return Array(part)
            case .track(let track, let size):
                if offset >= size { break }
                let file = try await reader(track)
                guard file.length == size else { throw RecorderError(.gone, "the track was made again meanwhile") }
                let at = offset
                let chunk = try await BlockingWork.run { try file.read(at: at, count: min(1 << 16, size - at)) }
                guard !chunk.isEmpty else { throw RecorderError(.gone, "the track ends early") }
                offset += chunk.count
                return chunk
            }
            (place, offset, opened, checked) = (place + 1, 0, nil, nil)
        }
        return nil
    }

    /// The open track. That its key still exists is asked again while a long one runs: a withdrawal ends it.
    private func reader(_ track: Track) async throws -> OpenRendition {
        let now = recorder.clock.now
        if checked.map({ (now - $0).seconds >= Recorder.recheckSeconds }) ?? true {
            _ = try await recorder.keys.key(KeyStore.track(track.track))
            checked = now
        }
        if let opened { return opened }
        let file = try await Self.open(track, recorder)
        opened = file
        return file
    }
}
