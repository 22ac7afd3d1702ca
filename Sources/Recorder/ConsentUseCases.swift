import Catalog
import Consent
import Foundation
import GRDB
import Media
import Synchronization
import Tap

extension Recorder {
    public func notice(for recording: RecordingID, language: Language, as principal: Principal) async throws -> NoticeView {
        let record = try await recordingRecord(recording, principal)
        let notice = Notice(language: language.rawValue, policy: configuration.retention, days: record.retentionDays)
        try await catalog.write { try $0.keep(notice) }
        return NoticeView(hash: notice.hash, version: notice.version, language: language, text: notice.text)
    }

    public func decide(_ request: ConsentRequest, on recording: RecordingID, as principal: Principal) async throws -> ConsentView {
        try require([.participant, .moderator, .platform], principal)
        let record = try await recordingRecord(recording, principal)
        let isOwn = principal.role == .participant
        guard let participant = isOwn ? principal.participant : request.participant else {
            throw RecorderError(.invalid, "whose decision is this?", hint: "name the participant", pointer: "/participant")
        }
        guard !isOwn || request.participant == nil || request.participant == participant else { throw RecorderError(.forbidden, "you decide for yourself only") }
        // A platform that showed the notice itself passes on what the person answered there.
        let isRelayed = principal.role == .platform && request.method == .platform
        guard request.method == nil || isRelayed else { throw RecorderError(.forbidden, "the method is not yours to claim", hint: "only platforms name one, and only platform", pointer: "/method") }
        guard isOwn || isRelayed || request.decision != .given else {
            throw RecorderError(.forbidden, "nobody can consent for somebody else", hint: "send them their invitation, or as a platform that asked them say method platform; a refusal or a withdrawal can be entered for them")
        }
        let notices = Language.allCases.map { Notice(language: $0.rawValue, policy: configuration.retention, days: record.retentionDays) }
        let notice = notices.first { $0.hash == request.notice }
        if request.decision == .given, notice == nil {
            throw RecorderError(.conflict, "the notice that was shown is not the one in force", hint: "show GET /v1/recordings/\(recording)/notice and ask again", pointer: "/notice")
        }
        let modalities = request.decision == .given ? request.modalities ?? [.audio, .video] : []
        let purposes = request.decision == .given ? request.purposes ?? [.minutes, .shareWithParticipants] : []
        let now = clock.now
        let actor = principal.subject
        try await catalog.write { [self] db in
            let inMeeting = try Bool.fetchOne(db, sql: "SELECT COUNT(*) FROM participant WHERE id = ? AND meeting = ?", arguments: [participant.rawValue, record.meeting]) ?? false
            guard inMeeting else { throw Self.notFound }
            if let notice { try db.keep(notice) }
            let state = try db.consentState(of: recording)
            let event = ConsentEvent(
                sequence: state.count + 1, recording: recording, participant: participant, kind: .init(request.decision), occurredAt: now, receivedAt: now,
                modalities: modalities, purposes: purposes, noticeHash: notice?.hash ?? "", noticeVersion: notice?.version ?? "",
                language: (request.language ?? .de).rawValue, method: isRelayed ? .platform : isOwn ? .click : .onBehalf, isOwnAct: (isOwn && !principal.isGuardian) || isRelayed, isGuardian: principal.isGuardian,
                retentionClass: RetentionPolicy.retentionClass, expiresAt: WallTime(nanoseconds: record.expiresAt),
                asksErasure: request.decision == .withdrawn && request.erase ?? true, previousHash: state.lastHash)
            let next: ConsentState
            do {
                next = try db.append(event, to: state, actor: actor)
            } catch let error as ConsentError {
                throw Self.refusal(error)
            }
            // Closing does not wait for the disk: what may not pass stops now, even if this transaction should fail.
            try self.push(next, recording, opening: false, db)
            // A backup must not bring back what was withdrawn either.
            if request.decision != .given {
                let entries = [Self.withdrawal(of: participant, from: recording)] + (event.asksErasure ? [Self.erasureAsked(by: participant, of: recording)] : [])
                try self.ledger.append(entries, now: now)
            }
        }
        // Opening does: only what is durably consented passes. The writer's queue keeps the states in order.
        try await catalog.write { [self] db in try self.push(db.consentState(of: recording), recording, opening: true, db) }
        if request.decision == .withdrawn, request.erase ?? true { try await eraseParticipant(participant, of: recording, actor: actor) }
        return try await consent(on: recording, as: principal)
    }

    /// What the ledger of erasures calls a person's no.
    static func withdrawal(of participant: ParticipantID, from recording: RecordingID) -> String { "withdrawal:\(recording):\(participant)" }

    /// The same for what they want erased: it may have to wait, for the end of the capture or of a restriction, and not be in a backup's past.
    static func erasureAsked(by participant: ParticipantID, of recording: RecordingID) -> String { "erasure:\(recording):\(participant)" }

    private static func refusal(_ error: ConsentError) -> RecorderError {
        switch error {
        case .guardianNeeded: RecorderError(.forbidden, "a minor's consent needs their guardian", hint: "the guardian has to consent")
        case .givenByAnother: RecorderError(.forbidden, "nobody can consent for somebody else")
        case .noticeChanged: RecorderError(.conflict, "the notice that was shown is not the one in force", pointer: "/notice")
        case .empty: RecorderError(.invalid, "a consent names what it allows and what for", hint: "at least one modality and one purpose", pointer: "/modalities")
        case .publicationNotAsked: RecorderError(.invalid, "publication is not asked with a recording", hint: "it is a later act of its own", pointer: "/purposes")
        case .brokenChain(let sequence): RecorderError(.storage, "the consent history is broken at entry \(sequence)", hint: "nothing is recorded until it is repaired: see the backup")
        case .otherRecording: RecorderError(.invalid, "the decision belongs to another recording")
        }
    }

    /// Sets the gates of a live recording after its consents. Runs within a write, so that two changes cannot overtake each other.
    func push(_ state: ConsentState, _ recording: RecordingID, opening: Bool, _ db: Database) throws {
        guard let session = live.withLock({ $0[recording] }) else { return }
        let now = clock.now
        let isHeld = try db.restriction(of: recording.rawValue, now: now) != nil
        for (stream, people) in try db.streams(of: recording.rawValue) {
            guard let id = StreamID(rawValue: stream.id), let kind = MediaKind(rawValue: stream.kind) else { continue }
            let participants = people.compactMap(ParticipantID.init)
            let may = !isHeld && participants.count == people.count && state.mayRecord(participants, kind.modality, at: now)
            if !may || opening { session.setGate(may, stream: id, at: now) }
        }
    }

    public func consent(on recording: RecordingID, as principal: Principal) async throws -> ConsentView {
        try require([.participant, .moderator, .platform], principal)
        let record = try await recordingRecord(recording, principal)
        let now = clock.now
        let (state, people, streams, hold) = try await catalog.read { db in
            (try db.consentState(of: recording), try db.participants(of: record.meeting), try db.streams(of: record.id), try db.restriction(of: record.id, now: now))
        }
        let waiting = hold == nil ? [] : try await withdrawnAndKept(recording)
        let open = live.withLock { $0[recording] }?.snapshot.open ?? []
        let views = people.compactMap { person, name -> ConsentView.Person? in
            guard let id = ParticipantID(rawValue: person.id), principal.role != .participant || principal.participant == id else { return nil }
            let decision = state.decisions[id]
            let isRecorded = streams.contains { stream, who in who.contains(person.id) && (StreamID(rawValue: stream.id).map(open.contains) ?? false) }
            return ConsentView.Person(participant: id, name: name, decision: decision?.kind.rawValue ?? "undecided",
                                      modalities: (decision?.modalities ?? []).sorted { $0.rawValue < $1.rawValue },
                                      purposes: (decision?.purposes ?? []).sorted { $0.rawValue < $1.rawValue }, decidedAt: decision?.at.seconds, recorded: isRecorded,
                                      erasureWaits: waiting.contains(id) ? true : nil)
        }
        return ConsentView(recording: recording, people: views, restriction: hold.map { Self.view($0, principal) })
    }
}

extension ConsentEvent.Kind {
    init(_ decision: ConsentRequest.Decision) {
        switch decision {
        case .given: self = .given
        case .refused: self = .refused
        case .withdrawn: self = .withdrawn
        }
    }
}
