import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import Media
import Renditions
import SealedFile
import Synchronization
import Tap

extension Recorder {
    public func grant(_ request: GrantRequest, on recording: RecordingID, as principal: Principal) async throws -> GrantView {
        try require([.participant], principal)
        let record = try await recordingRecord(recording, principal)
        guard let participant = principal.participant, let meeting = principal.meeting else { throw Self.notFound }
        let purpose = request.purpose ?? .shareWithParticipants
        let hours = request.hours ?? 24
        guard (1...720).contains(hours) else { throw RecorderError(.invalid, "\(hours) hours", hint: "1 to 720", pointer: "/hours") }
        try await refuseRestricted(recording)
        let now = clock.now
        let state = try await catalog.read { try $0.consentState(of: recording) }
        try Self.requireSharing(participant, purpose, state, now)
        let token = AccessToken.make()
        let expires = min(now + .seconds(Int64(hours) * 3600), WallTime(nanoseconds: record.expiresAt))
        try await catalog.write { db in
            try AccessTokenRecord(hash: AccessToken.hash(token), role: Principal.Role.grant.rawValue, subject: participant.rawValue, participant: participant.rawValue,
                                  meeting: meeting.rawValue, recording: recording.rawValue, purpose: purpose.rawValue, createdAt: now.nanoseconds,
                                  expiresAt: expires.nanoseconds).insert(db)
            try AuditLog.append(actor: participant.rawValue, action: "grant.issued", object: recording.rawValue, detail: purpose.rawValue, now: now, db)
        }
        return GrantView(token: token, expiresAt: expires.seconds)
    }

    /// Who shares may see; who shares nothing is not a recipient that the others agreed to.
    private static func requireSharing(_ participant: ParticipantID, _ purpose: Purpose, _ state: ConsentState, _ now: WallTime) throws(RecorderError) {
        guard Modality.allCases.contains(where: { state.allows(participant, $0, purpose, at: now) }) else {
            throw RecorderError(.notConsented, "the others agreed to share with those who share themselves, and you do not", hint: "you can consent at any time while the recording runs")
        }
    }

    public func renditions(of recording: RecordingID, as principal: Principal) async throws -> [RenditionView] {
        try require([.moderator, .participant, .grant], principal)
        let record = try await recordingRecord(recording, principal)
        let (now, settled) = (clock.now, clock.settled)
        let (list, agreed, state, hold) = try await catalog.read { [consents = catalog.consents] db in
            let state = try consents.state(of: recording, db)
            let list = try db.renditions(of: record.id)
            return (list, try Set(list.map(\.rendition).filter { try db.isAgreed($0, state, now: now) }.map(\.id)), state, try db.restriction(of: record.id, settled: settled))
        }
        return list.compactMap { rendition, people in
            guard let id = RenditionID(rawValue: rendition.id), let container = StageOutput.Container(rawValue: rendition.container) else { return nil }
            let refusal = refusal(rendition, isAgreed: agreed.contains(rendition.id), record, state, hold, principal)
            return RenditionView(
                id: id, kind: rendition.kind, container: rendition.container, mediaType: rendition.kind == "mix" && container == .mp4 ? "audio/mp4" : container.mediaType,
                contains: people.compactMap(ParticipantID.init), startWall: WallTime(nanoseconds: rendition.startWall).seconds,
                duration: Nanoseconds(count: rendition.duration).seconds, bytes: Int(rendition.bytes), width: rendition.width, height: rendition.height,
                expiresAt: WallTime(nanoseconds: rendition.expiresAt).seconds, releasedAt: record.releasedAt.map { WallTime(nanoseconds: $0).seconds },
                downloadable: refusal == nil, reason: refusal?.detail)
        }
    }

    /// Why this principal may not read this rendition now; nil where they may. Asked at each request, and again while one runs.
    func refusal(_ rendition: RenditionRecord, isAgreed: Bool, _ record: RecordingRecord, _ state: ConsentState, _ hold: RestrictionRecord?,
                         _ principal: Principal) -> RecorderError? {
        let now = clock.now
        guard let purpose = Purpose(rawValue: rendition.purpose), let participant = principal.participant, principal.role == .participant || principal.role == .grant else {
            return RecorderError(.forbidden, "only participants read a recording", hint: "use a participant's token or a grant")
        }
        guard principal.purpose.map({ $0 == purpose }) ?? true else { return RecorderError(.forbidden, "the grant is for another purpose") }
        if let hold { return Self.restricted(hold) }
        guard rendition.state == "ready", rendition.expiresAt > now.nanoseconds else { return RecorderError(.gone, "this version of the recording is gone") }
        guard record.releasedAt != nil else { return RecorderError(.notConsented, "the moderator has not released the recording yet") }
        do { try Self.requireSharing(participant, purpose, state, now) } catch { return error }
        // Whoever is in it must still agree that it is shared; somebody's no that waits to be stored counts already.
        let isSaid = RecordingID(rawValue: record.id).map(gates.isUnstored) ?? true
        return isAgreed && !isSaid ? nil : RecorderError(.notConsented, "not everybody in it agrees to share it any more", hint: "a new version is being made")
    }

    public func download(_ id: RenditionID, as principal: Principal) async throws -> Download {
        let (rendition, record) = try await readable(id, principal)
        guard let container = StageOutput.Container(rawValue: rendition.container), let recording = RecordingID(rawValue: record.id), let participant = principal.participant else {
            throw Self.notFound
        }
        let key = try await keys.key(KeyStore.rendition(id))
        let path = configuration.artifact(record.id, id.rawValue).path
        let context = SealedContext(recording: recording, object: KeyStore.rendition(id), modality: rendition.kind, part: rendition.output)
        let opened = try await BlockingWork.run { try OpenRendition(path: path, key: key, context: context) }
        let day = Date(timeIntervalSince1970: WallTime(nanoseconds: rendition.startWall).seconds).formatted(.iso8601.year().month().day().dateSeparator(.omitted))
        return Download(
            length: opened.length, entityTag: String(rendition.sha256.prefix(32)),
            mediaType: rendition.kind == "mix" && container == .mp4 ? "audio/mp4" : container.mediaType,
            fileName: "recording-\(day)-\(rendition.kind).\(container.fileExtension)",
            body: { [self] range in
                let body = DownloadBody(opened, range, id, principal, participant, self)
                return AsyncThrowingStream { try await body.next() }
            })
    }

    func readable(_ id: RenditionID, _ principal: Principal) async throws -> (RenditionRecord, RecordingRecord) {
        guard let rendition = try await catalog.read({ try RenditionRecord.fetchOne($0, key: id.rawValue) }), rendition.kind != StageKind.partKind, let recording = RecordingID(rawValue: rendition.recording) else {
            throw Self.notFound
        }
        let record = try await recordingRecord(recording, principal)
        let (now, settled) = (clock.now, clock.settled)
        let (isAgreed, state, hold) = try await catalog.read { [consents = catalog.consents] db in
            let state = try consents.state(of: recording, db)
            return (try db.isAgreed(rendition, state, now: now), state, try db.restriction(of: record.id, settled: settled))
        }
        if let refusal = refusal(rendition, isAgreed: isAgreed, record, state, hold, principal) { throw refusal }
        return (rendition, record)
    }

    /// Seconds between two looks at the right to read, while a response runs.
    static let recheckSeconds = 2.0
}

/// A sealed rendition opened for one response.
///
/// Proof of `@unchecked`: the reader is used under the mutex only; descriptor and length never change.
final class OpenRendition: @unchecked Sendable {
    let length: Int
    private let descriptor: Int32
    private let reader: SealedReader
    private let lock = Mutex(())

    init(path: String, key: DataKey, context: SealedContext) throws {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw RecorderError(.gone, "the file is gone") }
        do {
            reader = try SealedReader(descriptor: descriptor, key: key, context: context)
        } catch {
            close(descriptor)
            throw error
        }
        length = reader.length
    }

    deinit { close(descriptor) }

    func read(at offset: Int, count: Int) throws -> [UInt8] { try lock.withLock { _ in try reader.read(at: offset, count: count) } }
}
