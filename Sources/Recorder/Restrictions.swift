import Catalog
import Foundation
import GRDB
import JobQueue
import Logging
import Media
import Synchronization
import Tap

/// Restriction (Art. 18): what is restricted is kept and nothing else. No download, no render, no release, no end by expiry; every gate is
/// closed. A withdrawal meanwhile is taken and told, its erasure waits, and is carried out when the restriction ends; so is an expiry.
extension Recorder {
    /// As long as the longest ordinary limitation of claims (section 195 BGB).
    static let restrictionDaysMax: Int64 = 3 * 365

    /// Somebody who is in it can restrict it by themself for as long as they may have to wait for an answer (Art. 12(3)), once: it holds up
    /// what others asked for, too. Moderators and operators prolong it.
    static let ownRestrictionDaysMax: Int64 = 31

    public func restrict(_ recording: RecordingID, _ request: RestrictionRequest, as principal: Principal) async throws -> RestrictionView {
        try require([.moderator, .operator, .participant], principal)
        let (now, settled, isOwn) = (clock.now, clock.settled, principal.role == .participant)
        let days = isOwn ? Self.ownRestrictionDaysMax : Self.restrictionDaysMax
        guard request.until.isFinite, request.until > now.seconds, request.until <= (now + .seconds(days * 86_400)).seconds else {
            throw RecorderError(.invalid, "the restriction's end is not in the next \(days) days", hint: "seconds since 1970; the moderator or the operator can prolong it later", pointer: "/until")
        }
        if isOwn { _ = try await recordingRecord(recording, principal) }
        guard !isOwn || request.participant == nil || request.participant == principal.participant else { throw RecorderError(.forbidden, "you ask for yourself only", pointer: "/participant") }
        let person = isOwn ? principal.participant : request.participant
        let placed = RestrictionRecord(recording: recording.rawValue, reason: request.reason.rawValue, participant: person?.rawValue, placedBy: principal.subject,
                                       placedAt: now.nanoseconds, until: WallTime(seconds: request.until).nanoseconds)
        try await catalog.write { db in
            guard let record = try RecordingRecord.fetchOne(db, key: recording.rawValue) else { throw Self.notFound }
            try self.refuseGone(record, db.restriction(of: record.id, settled: settled))
            if isOwn { try Self.refuseOwn(placed, db) }
            if let person {
                let isKnown = try Bool.fetchOne(db, sql: "SELECT COUNT(*) FROM participant WHERE id = ? AND meeting = ?", arguments: [person.rawValue, record.meeting]) ?? false
                guard isKnown else { throw RecorderError(.invalid, "that participant is not in the meeting", pointer: "/participant") }
            }
            try db.place(placed)
            // A backup of before must not be without it.
            try self.ledger.append(Self.restrictionEntry(placed), until: WallTime(nanoseconds: placed.until))
            try self.jobs.interrupt(owner: record.id, now: now, in: db)
            try AuditLog.append(actor: principal.subject, action: "recording.restricted", object: record.id, detail: request.reason.rawValue, now: now, db)
            // Within the write: housekeeping cannot open them again from an older state.
            self.live.withLock { $0[recording] }?.closeAllGates(at: now)
        }
        return Self.view(placed, principal)
    }

    private static func refuseOwn(_ placed: RestrictionRecord, _ db: Database) throws {
        let isIn = try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM stream JOIN stream_participant ON stream = stream.id WHERE recording = ? AND participant = ?)",
                                     arguments: [placed.recording, placed.participant]) ?? false
        guard isIn else { throw RecorderError(.forbidden, "you are not in this recording") }
        let before = try RestrictionRecord.fetchAll(db, sql: "SELECT * FROM restriction WHERE recording = ?", arguments: [placed.recording])
        guard !before.contains(where: { $0.placedBy == placed.placedBy }) else { throw RecorderError(.conflict, "you restricted this recording before", hint: "ask the moderator to restrict it again") }
        guard !before.contains(where: { $0.settledAt == nil }) else { throw RecorderError(.conflict, "the recording is restricted already") }
    }

    public func restriction(of recording: RecordingID, as principal: Principal) async throws -> RestrictionView {
        if principal.role != .operator { _ = try await recordingRecord(recording, principal) }
        guard let hold = try await hold(on: recording) else { throw RecorderError(.notFound, "the recording is not restricted") }
        return Self.view(hold, principal)
    }

    public func lift(_ recording: RecordingID, as principal: Principal) async throws {
        try require([.moderator, .operator, .participant], principal)
        if principal.role == .participant { _ = try await recordingRecord(recording, principal) }
        let (now, settled) = (clock.now, clock.settled)
        try await catalog.write { db in
            guard let hold = try db.restriction(of: recording.rawValue, settled: settled) else { throw RecorderError(.notFound, "the recording is not restricted") }
            guard principal.role == .operator || hold.placedBy == principal.subject else {
                throw RecorderError(.forbidden, "somebody else restricted it", hint: "whoever did, or the operator, can lift it")
            }
            try db.execute(sql: "UPDATE restriction SET lifted_at = ? WHERE id = ?", arguments: [now.nanoseconds, hold.id])
            try self.ledger.append(Self.restrictionEntry(hold), until: now)
            try AuditLog.append(actor: principal.subject, action: "restriction.lifted", object: recording.rawValue, now: now, db)
        }
        try await settleRestrictions()
    }

    /// Does what had to wait: withdrawals with erasure, postponed jobs, and at once the end of those past their date.
    func settleRestrictions() async throws {
        for ended in try await catalog.read({ [settled = clock.settled] in try $0.restrictionsEnded(settled: settled) }) {
            guard let id = RecordingID(rawValue: ended.recording), let record = try await catalog.read({ try RecordingRecord.fetchOne($0, key: ended.recording) }) else { continue }
            do {
                if record.expiresAt <= clock.settled.nanoseconds, record.state != "erased" {
                    try await erase(id, trigger: "expiry", actor: "retention")
                } else if live.withLock({ $0[id] }) == nil {
                    try await eraseWithdrawn(id)
                }
                try await catalog.write { [now = clock.now, jobs] db in
                    try jobs.hasten(owner: record.id, now: now, in: db)
                    try db.execute(sql: "UPDATE restriction SET settled_at = ? WHERE id = ? AND settled_at IS NULL", arguments: [now.nanoseconds, ended.id])
                    try AuditLog.append(actor: "retention", action: "restriction.ended", object: record.id, now: now, db)
                }
            } catch {
                // Its neighbours go on; it is tried again with the next sweep.
                logger.error("what waited for a restriction's end could not be done", metadata: ["recording": "\(id)", "error": "\(error)"])
            }
        }
    }

    /// What the ledger of erasures calls a restriction: the recording, the reason, for whom, and whether it is that person's own.
    static func restrictionEntry(_ hold: RestrictionRecord) -> String {
        "restriction:\(hold.recording):\(hold.reason):\(hold.participant ?? ""):\(hold.placedBy == hold.participant ? "own" : "other")"
    }

    func hold(on recording: RecordingID) async throws -> RestrictionRecord? {
        let settled = clock.settled
        return try await catalog.read { try $0.restriction(of: recording.rawValue, settled: settled) }
    }

    /// Why a restricted recording refuses everything but being kept.
    static func restricted(_ hold: RestrictionRecord) -> RecorderError {
        let day = Date(timeIntervalSince1970: WallTime(nanoseconds: hold.until).seconds).formatted(.iso8601.year().month().day())
        return RecorderError(.restricted, "the recording is restricted until \(day) (\(hold.reason)): it is kept, and nothing else is done with it", hint: "GET /v1/recordings/\(hold.recording)/restriction")
    }

    func refuseRestricted(_ recording: RecordingID) async throws {
        if let hold = try await hold(on: recording) { throw Self.restricted(hold) }
    }

    static func view(_ hold: RestrictionRecord, _ principal: Principal) -> RestrictionView {
        let participant = hold.participant.flatMap(ParticipantID.init)
        let seesAll = principal.role == .moderator || principal.role == .operator
        return RestrictionView(reason: RestrictionReason(rawValue: hold.reason) ?? .objection, placedAt: WallTime(nanoseconds: hold.placedAt).seconds,
                               until: WallTime(nanoseconds: hold.until).seconds, participant: seesAll || participant == principal.participant ? participant : nil,
                               placedBy: seesAll ? hold.placedBy : nil)
    }
}
