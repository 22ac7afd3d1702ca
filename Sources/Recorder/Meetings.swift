import Catalog
import Consent
import GRDB
import Mail
import Media

extension Recorder {
    static let participantsMax = 500

    public func createMeeting(_ request: MeetingRequest, as principal: Principal) async throws -> MeetingView {
        try require([.moderator, .platform], principal)
        if let title = request.title, title.count > 200 { throw RecorderError(.invalid, "the title has \(title.count) characters", hint: "at most 200", pointer: "/title") }
        let id = MeetingID.random()
        let now = clock.now
        try await catalog.write { db in
            try MeetingRecord(id: id.rawValue, title: request.title, createdAt: now.nanoseconds, moderator: principal.subject).insert(db)
            try AuditLog.append(actor: principal.subject, action: "meeting.created", object: id.rawValue, now: now, db)
        }
        return MeetingView(id: id, title: request.title, createdAt: now.seconds, participants: [])
    }

    public func meetings(as principal: Principal) async throws -> [MeetingView] {
        try require([.moderator, .platform, .participant], principal)
        let own = principal.meeting?.rawValue
        return try await catalog.read { db in
            try MeetingRecord.fetchAll(db, sql: "SELECT * FROM meeting WHERE ? IS NULL OR id = ? ORDER BY created_at DESC LIMIT 500", arguments: [own, own])
                .compactMap { try Self.view($0, principal, db) }
        }
    }

    public func meeting(_ id: MeetingID, as principal: Principal) async throws -> MeetingView {
        try require([.moderator, .platform, .participant], principal)
        guard principal.meeting.map({ $0 == id }) ?? true, let view = try await catalog.read({ db in
            try MeetingRecord.fetchOne(db, key: id.rawValue).flatMap { try Self.view($0, principal, db) }
        }) else { throw Self.notFound }
        return view
    }

    private static func view(_ meeting: MeetingRecord, _ principal: Principal, _ db: Database) throws -> MeetingView? {
        guard let id = MeetingID(rawValue: meeting.id) else { return nil }
        let people = try db.participants(of: meeting.id).compactMap { person, name -> ParticipantView? in
            guard let participant = ParticipantID(rawValue: person.id) else { return nil }
            let isVisible = principal.role != .participant || principal.participant == participant
            return isVisible ? ParticipantView(id: participant, name: name, minor: person.isMinor) : nil
        }
        return MeetingView(id: id, title: meeting.title, createdAt: WallTime(nanoseconds: meeting.createdAt).seconds, participants: people)
    }

    public func invite(_ request: InvitationRequest, to meeting: MeetingID, as principal: Principal) async throws -> InvitationView {
        try require([.moderator, .platform], principal)
        guard (1...200).contains(request.name.count) else { throw RecorderError(.invalid, "the name has \(request.name.count) characters", hint: "1 to 200", pointer: "/name") }
        let address = try request.email.map { try Self.address($0, pointer: "/email") }
        let id = ParticipantID.random()
        let token = AccessToken.make()
        let now = clock.now
        let expires = now + .seconds(Int64(configuration.retention.recordingDaysMax) * 86_400)
        try await catalog.write { db in
            guard try MeetingRecord.exists(db, key: meeting.rawValue) else { throw Self.notFound }
            guard try db.participants(of: meeting.rawValue).count < Self.participantsMax else {
                throw RecorderError(.conflict, "the meeting has \(Self.participantsMax) participants", hint: "plan a second one")
            }
            try ParticipantRecord(id: id.rawValue, meeting: meeting.rawValue, isMinor: request.minor ?? false, createdAt: now.nanoseconds).insert(db)
            try IdentityRecord(participant: id.rawValue, name: request.name).insert(db)
            if let address { try ContactRecord(subject: id.rawValue, participant: id.rawValue, address: address.rawValue, language: (request.language ?? .de).rawValue).insert(db) }
            try AccessTokenRecord(hash: AccessToken.hash(token), role: Principal.Role.participant.rawValue, subject: id.rawValue, participant: id.rawValue,
                                  meeting: meeting.rawValue, createdAt: now.nanoseconds, expiresAt: expires.nanoseconds).insert(db)
            try AuditLog.append(actor: principal.subject, action: "participant.invited", object: id.rawValue, now: now, db)
        }
        return InvitationView(participant: ParticipantView(id: id, name: request.name, minor: request.minor ?? false), token: token, expiresAt: expires.seconds)
    }
}
