import Consent
import Media
import Recorder

extension History {
    func principal(_ actor: Step.Actor, _ person: Int) -> Principal {
        switch actor {
        case .own: people[person].own
        case .guardian: people[person].guardian
        case .moderator: Self.moderator
        case .platform: Self.platform
        }
    }

    func decide(_ step: Step) async throws {
        switch step {
        case .give(let recording, let person, let actor, let modalities, let purposes, let isStale):
            guard let place = place(recording), !people.isEmpty else { return }
            let who = person % people.count
            let notice = isStale ? String(repeating: "0", count: 64) : Self.notice(try await current(place))
            let request = ConsentRequest(decision: .given, participant: people[who].id, modalities: modalities.sorted { $0.rawValue < $1.rawValue },
                                         purposes: purposes.sorted { $0.rawValue < $1.rawValue }, notice: notice, method: actor == .platform ? .platform : nil)
            // Nobody consents for somebody else, whatever has become of the recording.
            let expected: RecorderError.Code? = if actor == .moderator { .forbidden } else if model.recordings[place].isOver(now) { .gone } else if isStale { .conflict }
                else if (actor == .guardian) != model.minors[who] { .forbidden } else if modalities.isEmpty || purposes.isEmpty || purposes.contains(.publication) { .invalid } else { nil }
            let id = takes[place].id
            await expect([expected], "give by \(actor)") { _ = try await recorder.decide(request, on: id, as: principal(actor, who)) }
            guard expected == nil else { return }
            model.recordings[place].yes[who] = Model.Yes(modalities: modalities, purposes: purposes)
            model.recordings[place].yesAt[who] = now
            model.recordings[place].enter()
        case .refuse(let recording, let person, let actor): await sayNo(recording, person, actor, .refused, isErasing: false)
        case .withdraw(let recording, let person, let actor, let isErasing): await sayNo(recording, person, actor, .withdrawn, isErasing: isErasing)
        default: break
        }
    }

    private func current(_ place: Int) async throws -> NoticeView? {
        do { return try await recorder.notice(for: takes[place].id, language: .en, as: Self.moderator) } catch let error as RecorderError where error.code == .gone { return nil }
    }

    private static func notice(_ view: NoticeView?) -> String { view?.hash ?? "gone" }

    private func sayNo(_ recording: Int, _ person: Int, _ actor: Step.Actor, _ decision: ConsentRequest.Decision, isErasing: Bool) async {
        guard let place = place(recording), !people.isEmpty else { return }
        let (who, id, now) = (person % people.count, takes[place].id, now)
        let request = ConsentRequest(decision: decision, participant: people[who].id, method: actor == .platform ? .platform : nil, erase: decision == .withdrawn ? isErasing : nil)
        let isOver = model.recordings[place].isOver(now)
        await expect([isOver ? .gone : nil], isErasing ? "withdraw and erase" : decision.rawValue) { _ = try await recorder.decide(request, on: id, as: principal(actor, who)) }
        guard !isOver else { return }
        model.recordings[place].yes[who] = nil
        model.recordings[place].everNo.insert(who)
        model.recordings[place].enter()
        guard isErasing else { return }
        model.recordings[place].asked.insert(who)
        model.recordings[place].carryOut(now)
        guard model.recordings[place].phase != .stopped else { return }
        for stream in model.recordings[place].streams.indices where model.recordings[place].streams[stream].people.contains(who) { model.recordings[place].streams[stream].loosen() }
    }

    /// The conference says who comes into a stream and who leaves it.
    func presence(_ recording: Int, _ stream: Int, _ person: Int, isJoining: Bool) async {
        guard let place = place(recording), !people.isEmpty else { return }
        let (who, at, found) = (person % people.count, stream % takes[place].streams.count, model.recordings[place])
        let expected: RecorderError.Code? = if found.isOver(now) { .gone } else if ![.running, .paused].contains(found.phase) { .conflict }
            else if !isJoining, found.streams[at].present[who] == nil { .conflict } else { nil }
        let request = PresenceRequest(stream: takes[place].streams[at].id, participant: people[who].id, present: isJoining)
        let id = takes[place].id
        await expect([expected], isJoining ? "join" : "leave") { _ = try await recorder.notePresence(request, in: id, as: Self.moderator) }
        guard expected == nil else { return }
        if isJoining { model.recordings[place].join(who, at, now) } else { model.recordings[place].streams[at].present[who] = nil }
        model.recordings[place].enter()
    }

    func restrict(_ recording: Int, _ actor: Step.Actor, _ person: Int, _ days: Int64) async throws {
        guard let place = place(recording), !people.isEmpty else { return }
        try await tidy()
        let (who, id, now) = (person % people.count, takes[place].id, now)
        // A platform may not; an operator may.
        let principal = actor == .platform ? Self.operatorPrincipal : principal(actor, who)
        let found = model.recordings[place]
        let until = now + days * 86_400 * 1_000_000_000
        let isOwn = principal.role == .participant
        let expected: RecorderError.Code? = if isOwn, days > 31 { .invalid } else if found.isOver(now) { .gone }
            else if isOwn, !found.streams.contains(where: { $0.everIn.contains(who) }) { .forbidden } else if isOwn, found.everHeldBy.contains(principal.subject) || found.isHeld(now) { .conflict } else { nil }
        let request = RestrictionRequest(reason: .objection, until: WallTime(nanoseconds: until).seconds)
        await expect([expected], "restrict by \(principal.role.rawValue)") { _ = try await recorder.restrict(id, request, as: principal) }
        guard expected == nil else { return }
        // As the service reads the number of seconds.
        model.recordings[place].heldUntil = WallTime(seconds: request.until).nanoseconds
        (model.recordings[place].heldBy, model.recordings[place].isHeldByOwn) = (principal.subject, isOwn)
        model.recordings[place].everHeldBy.insert(principal.subject)
    }

    func lift(_ recording: Int, _ actor: Step.Actor, _ person: Int) async throws {
        guard let place = place(recording), !people.isEmpty else { return }
        let (id, now) = (takes[place].id, now)
        let principal = actor == .platform ? Self.operatorPrincipal : principal(actor, person % people.count)
        let found = model.recordings[place]
        let expected: RecorderError.Code? = if principal.role == .participant, found.isOver(now) { .gone } else if !found.isHeld(now) { .notFound }
            else if principal.role != .operator, principal.subject != found.heldBy { .forbidden } else { nil }
        await expect([expected], "lift by \(principal.role.rawValue)") { try await recorder.lift(id, as: principal) }
        guard expected == nil else { return }
        model.recordings[place].heldUntil = nil
        // Others that ended meanwhile are settled with it.
        if model.recordings[place].isOver(now) { model.recordings[place].end(now) } else { model.recordings[place].carryOut(now) }
    }
}
