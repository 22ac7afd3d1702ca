import Catalog
import Foundation
import GRDB
import JobQueue
import Media
import Synchronization
import Tap

extension Recorder {
    public func authenticate(token: String) async throws -> Principal {
        let refused = RecorderError(.unauthenticated, "the token is not known or has expired", hint: "ask whoever invited you for a new one")
        guard (20...200).contains(token.utf8.count) else { throw refused }
        let hash = AccessToken.hash(token)
        guard let found = try await catalog.read({ try AccessTokenRecord.fetchOne($0, key: hash) }), found.expiresAt > clock.now.nanoseconds,
              let role = Principal.Role(rawValue: found.role)
        else { throw refused }
        return Principal(role: role, subject: found.subject, participant: found.participant.flatMap(ParticipantID.init), meeting: found.meeting.flatMap(MeetingID.init),
                         recording: found.recording.flatMap(RecordingID.init), purpose: found.purpose.flatMap(Purpose.init),
                         isGuardian: found.isGuardian)
    }

    public func issueToken(_ request: TokenRequest, as principal: Principal) async throws -> IssuedToken {
        try require([.operator], principal)
        guard [.operator, .moderator, .platform].contains(request.role) else {
            throw RecorderError(.invalid, "a \(request.role.rawValue)'s token is not issued here", hint: "participants are invited to a meeting, grants asked for a recording", pointer: "/role")
        }
        let days = request.days ?? 90
        guard (1...365).contains(days) else { throw RecorderError(.invalid, "\(days) days", hint: "1 to 365", pointer: "/days") }
        let token = AccessToken.make()
        let now = clock.now
        let expires = now + .seconds(Int64(days) * 86_400)
        let subject = "\(request.role.rawValue)-\(String(ParticipantID.random().rawValue.prefix(12)))"
        try await catalog.write { db in
            try AccessTokenRecord(hash: AccessToken.hash(token), role: request.role.rawValue, subject: subject, createdAt: now.nanoseconds, expiresAt: expires.nanoseconds).insert(db)
            try AuditLog.append(actor: principal.subject, action: "token.issued", object: subject, now: now, db)
        }
        return IssuedToken(token: token, role: request.role, expiresAt: expires.seconds)
    }

    public func advanceClock(bySeconds seconds: Double, as principal: Principal) async throws -> ClockView {
        try require([.operator], principal)
        guard seconds.isFinite else { throw RecorderError(.invalid, "no number of seconds", pointer: "/advance_seconds") }
        try clock.advance(by: Nanoseconds(seconds: min(max(seconds, -1), 4e9)))
        return ClockView(now: clock.now.seconds)
    }

    func require(_ roles: [Principal.Role], _ principal: Principal) throws(RecorderError) {
        guard roles.contains(principal.role) else {
            throw RecorderError(.forbidden, "this is for: \(roles.map(\.rawValue).joined(separator: ", "))", hint: "you are signed in as \(principal.role.rawValue)")
        }
    }

    /// The same for what does not exist and for what is somebody else's.
    static let notFound = RecorderError(.notFound, "there is nothing with this id, or it is not yours")

    /// A recording that the principal may know of. Throws `.gone` after its end.
    func recordingRecord(_ id: RecordingID, _ principal: Principal) async throws -> RecordingRecord {
        let settled = clock.settled
        let found = try await catalog.read { db in try RecordingRecord.fetchOne(db, key: id.rawValue).map { (record: $0, hold: try db.restriction(of: $0.id, settled: settled)) } }
        guard let (record, hold) = found else { throw Self.notFound }
        switch principal.role {
        case .moderator, .platform: break
        case .participant, .grant:
            guard principal.meeting?.rawValue == record.meeting, principal.recording.map({ $0 == id }) ?? true else { throw Self.notFound }
        case .operator: throw RecorderError(.forbidden, "an operator sees no recordings", hint: "use a moderator's or a participant's token")
        }
        try refuseGone(record, hold)
        return record
    }

    /// Unreadable from the very second of its date, whether the sweep has come by or not. What is restricted is kept beyond it, and says so.
    func refuseGone(_ record: RecordingRecord, _ hold: RestrictionRecord?) throws(RecorderError) {
        if record.state == "expired" || record.state == "erased" || (hold == nil && record.expiresAt <= clock.now.nanoseconds) {
            throw RecorderError(.gone, "the recording has reached the end of its time and is gone for good", hint: "its receipt can still be read")
        }
    }

    public func metrics() async -> [MetricSample] {
        var samples: [MetricSample] = []
        func gauge(_ name: String, _ help: String, _ value: Double, _ labels: [String: String] = [:]) {
            samples.append(MetricSample(name: "mitschnitt_\(name)", help: help, kind: .gauge, labels: labels, value: value))
        }
        let sessions = live.withLock { $0 }
        gauge("live_recordings", "Recordings that are being captured.", Double(sessions.count))
        let streams = sessions.values.flatMap { $0.snapshot.streams.values }
        gauge("live_packets", "RTP packets kept of the recordings being captured.", Double(streams.reduce(0) { $0 + $1.packets }))
        gauge("live_dropped_by_gate", "RTP packets dropped for want of consent, of the recordings being captured.", Double(streams.reduce(0) { $0 + $1.droppedByGate }))
        gauge("live_kernel_drops", "Datagrams that the kernel dropped, of the recordings being captured.", Double(streams.reduce(0) { $0 + $1.kernelDrops }))
        gauge("live_lost_to_storage", "Packets that the disk did not take, of the recordings being captured.", Double(streams.reduce(0) { $0 + $1.lostToStorage + $1.overflow }))
        if configuration.ledgerCopy != nil { gauge("erasure_ledger_copy_behind", "1 while the copy of the ledger of erasures cannot be written; must return to 0.", ledger.copyProblem == nil ? 0 : 1) }
        let now = clock.now
        do {
            let (jobs, waiting, overdue) = try await catalog.read { [jobs] in (try jobs.counts(in: $0), try jobs.waiting(now: now, in: $0), try $0.recordingsPastDate(now: now).count) }
            for lane in Lane.allCases {
                for state in JobState.allCases { gauge("jobs", "Jobs by lane and state.", Double(jobs[lane]?[state] ?? 0), ["lane": lane.rawValue, "state": state.rawValue]) }
            }
            for lane in Lane.allCases {
                gauge("job_queue_depth", "Jobs that could run and wait for a slot.", Double(waiting[lane]?.count ?? 0), ["lane": lane.rawValue])
                gauge("job_queue_age_seconds", "How long the oldest of them has waited.", waiting[lane].map { max(0, (now - $0.oldest).seconds) } ?? 0, ["lane": lane.rawValue])
            }
            gauge("recordings_past_date", "Recordings past their date that are not erased yet; must return to 0.", Double(overdue))
            gauge("keys", "Wrapped keys in the key store.", Double(try await keys.count()))
        } catch {
            gauge("catalog_unavailable", "1 while the catalog or the key store cannot be read.", 1)
        }
        return await samples + stageFigures.samples + retentionMetrics() + metricRegistry.samples()
    }
}
