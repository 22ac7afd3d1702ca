import Catalog
import Consent
import Foundation
import GRDB
import Logging
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
        let before = gates.holds(recording, participant)
        if request.decision == .given {
            try await store(request, of: participant, on: recording, as: principal)
        } else {
            try await storeNo(LiveGates.Unstored(recording: recording, participant: participant, request: request, principal: principal, since: clock.now))
        }
        gates.release(before)
        // Opening waits for the disk: only what is durably consented passes. The writer's queue keeps the states in order.
        try await catalog.write { [self] db in try self.push(self.catalog.consents.state(of: recording, db), recording, opening: true, db) }
        return try await consent(on: recording, as: principal)
    }

    /// A no closes gates before any store is asked. Where it cannot be stored they stay closed, and it is tried again until it can.
    private func storeNo(_ no: LiveGates.Unstored) async throws {
        let hold = gates.hold(no, live.withLock { $0[no.recording] })
        do {
            try await store(no.request, of: no.participant, on: no.recording, as: no.principal)
            gates.release([hold])
        } catch let error as RecorderError where error.code != .storage {
            gates.release([hold])
            throw error
        } catch {
            gates.fail(hold)
            logger.error("a refusal or withdrawal could not be stored; its gates stay closed", metadata: ["recording": "\(no.recording)", "error": "\(error)"])
            try? await noteUnstored(no)  // the second place where it can be written down; without it the process remembers it
            throw RecorderError(.storage, "this could not be stored just now; nothing more of this person is recorded all the same", hint: "it is tried again by itself; say it once more if the server was restarted meanwhile")
        }
        // Later, so that a failure there, which is made good at the next start, is not taken for a no that was not stored.
        if no.request.decision == .withdrawn, no.request.erase ?? true { try await eraseParticipant(no.participant, of: no.recording, actor: no.principal.subject) }
    }

    /// The same once more, after ``LiveGates/fail(_:)``.
    func storeAgain(_ no: LiveGates.Unstored) async throws {
        try await store(no.request, of: no.participant, on: no.recording, as: no.principal)
        if no.request.decision == .withdrawn, no.request.erase ?? true { try await eraseParticipant(no.participant, of: no.recording, actor: no.principal.subject) }
    }

    private func store(_ request: ConsentRequest, of participant: ParticipantID, on recording: RecordingID, as principal: Principal) async throws {
        let record = try await recordingRecord(recording, principal)
        let (isOwn, isRelayed) = (principal.role == .participant, principal.role == .platform && request.method == .platform)
        let notices = Language.allCases.map { Notice(language: $0.rawValue, policy: configuration.retention, days: record.retentionDays) }
        let notice = notices.first { $0.hash == request.notice }
        if request.decision == .given, notice == nil {
            throw RecorderError(.conflict, "the notice that was shown is not the one in force", hint: "show GET /v1/recordings/\(recording)/notice and ask again", pointer: "/notice")
        }
        let modalities = request.decision == .given ? request.modalities ?? [.audio, .video] : []
        let purposes = request.decision == .given ? request.purposes ?? [.minutes, .shareWithParticipants] : []
        let now = clock.now
        let actor = principal.subject
        let isNarrower = try await catalog.write { [self] db in
            let inMeeting = try Bool.fetchOne(db, sql: "SELECT COUNT(*) FROM participant WHERE id = ? AND meeting = ?", arguments: [participant.rawValue, record.meeting]) ?? false
            guard inMeeting else { throw Self.notFound }
            if let notice { try db.keep(notice) }
            let state = try catalog.consents.state(of: recording, db)
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
            try self.markRecorded(next, recording, db)
            // A backup must not bring back what was withdrawn either.
            if request.decision != .given {
                let entries = [Self.withdrawal(of: participant, from: recording)] + (event.asksErasure ? [Self.erasureAsked(by: participant, of: recording)] : [])
                try self.ledger.append(entries, now: now)
            }
            return request.decision != .withdrawn && !next.covers(state, of: participant)
        }
        // Withdrawals have their own two ways: with erasure, or from now on.
        if isNarrower { try await takeBack(from: recording, whatIsNotAllowedOf: participant, actor: actor) }
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

    public func consent(on recording: RecordingID, as principal: Principal) async throws -> ConsentView {
        try require([.participant, .moderator, .platform], principal)
        let record = try await recordingRecord(recording, principal)
        let settled = clock.settled
        let (state, people, presence, hold) = try await catalog.read { [consents = catalog.consents] db in
            (try consents.state(of: recording, db), try db.participants(of: record.meeting), try db.presence(in: record.id), try db.restriction(of: record.id, settled: settled))
        }
        let waiting = hold == nil ? [] : try await withdrawnAndKept(recording)
        let open = live.withLock { $0[recording] }?.snapshot.open ?? []
        let views = people.compactMap { person, name -> ConsentView.Person? in
            guard let id = ParticipantID(rawValue: person.id), principal.role != .participant || principal.participant == id else { return nil }
            let decision = state.decisions[id]
            let own = presence.values.joined().filter { $0.participant == person.id && $0.leftAt == nil }
            let isRecorded = own.contains { StreamID(rawValue: $0.stream).map(open.contains) ?? false }
            let asksAgain = decision.map { decision in !decision.modalities.isEmpty && own.contains { $0.askedAt >= decision.at } } ?? false
            return ConsentView.Person(participant: id, name: name, decision: decision?.kind.rawValue ?? "undecided",
                                      modalities: (decision?.modalities ?? []).sorted { $0.rawValue < $1.rawValue },
                                      purposes: (decision?.purposes ?? []).sorted { $0.rawValue < $1.rawValue }, decidedAt: decision?.at.seconds, recorded: isRecorded,
                                      erasureWaits: waiting.contains(id) ? true : nil, asksAgain: asksAgain ? true : nil)
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
