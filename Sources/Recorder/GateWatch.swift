import Catalog
import Consent
import Foundation
import GRDB
import Logging
import Media
import ServiceLifecycle
import Synchronization
import Tap

/// Vouches for open gates, twice a second: reads the consents of what is being captured, and sets the gates after them. Where that fails
/// every gate closes; where this service itself stands still the captures close them by themselves (decision 19).
public final class GateWatch: Service {
    private let recorder: Recorder

    public init(recorder: Recorder) { self.recorder = recorder }

    public func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await self.recorder.confirmConsents()
                // A cancelled sleep ends the loop.
                try? await Task.sleep(for: .milliseconds(500))
            }
        }
    }
}

extension Recorder {
    /// Longest that a gate stays open without anybody having read the consent: twice the database's patience with other processes.
    static let consentSeconds = 10.0

    /// Sets all gates after the consents as they are stored now. A history that is broken closes the gates of its own recording only.
    func confirmConsents() async {
        do {
            try await storeUnstored()
            let sessions = live.withLock { $0 }
            guard !sessions.isEmpty else { return }
            try await catalog.write { [self] db in
                for (id, session) in sessions.sorted(by: { $0.key < $1.key }) {
                    do {
                        try self.push(self.catalog.consents.state(of: id, db), id, opening: true, db)
                        session.confirm()
                    } catch let error as DatabaseError {
                        throw error
                    } catch {
                        session.closeAllGates(at: clock.now)
                        logger.error("the consents of a recording cannot be read; its gates are closed", metadata: ["recording": "\(id)", "error": "\(error)"])
                    }
                }
            }
        } catch {
            // Where consents cannot be read nothing may pass.
            for session in live.withLock({ Array($0.values) }) { session.closeAllGates(at: clock.now) }
            logger.error("consents cannot be read; all gates are closed until they can", metadata: ["error": "\(error)"])
        }
    }

    /// Sets the gates of a live recording after its consents. Runs within a write, so that two changes cannot overtake each other.
    func push(_ state: ConsentState, _ recording: RecordingID, opening: Bool, _ db: Database) throws {
        guard let session = live.withLock({ $0[recording] }) else { return }
        let now = clock.now
        let isHeld = try db.restriction(of: recording.rawValue, settled: clock.settled) != nil
        gates.set(recording, try present(recording, db), state, isHeld: isHeld, opening: opening, session, at: now)
    }

    /// Enters who will be in what is recorded, before a gate is opened in a later transaction. A yes after the end puts nobody into it.
    func markRecorded(_ state: ConsentState, _ recording: RecordingID, _ db: Database) throws {
        let isRunning = try RecordingRecord.fetchOne(db, key: recording.rawValue).map { ["recording", "paused"].contains($0.state) } ?? false
        guard isRunning else { return }
        let now = clock.now
        for stream in try present(recording, db) where !stream.people.isEmpty && !stream.people.allSatisfy(\.isRecorded) {
            guard stream.people.allSatisfy({ state.mayRecord($0.participant, stream.kind.modality, askedAt: $0.askedAt, at: now) }) else { continue }
            try db.markRecorded(stream: stream.id.rawValue)
        }
    }

    /// Who is in which stream now. An id that cannot be read stands for somebody who never consented.
    private func present(_ recording: RecordingID, _ db: Database) throws -> [LiveGates.Stream] {
        let people = try db.presence(in: recording.rawValue)
        return try Row.fetchAll(db, sql: "SELECT id, kind FROM stream WHERE recording = ? ORDER BY position", arguments: [recording.rawValue]).compactMap { row in
            guard let id = StreamID(rawValue: row["id"]), let kind = MediaKind(rawValue: row["kind"]) else { return nil }
            return LiveGates.Stream(id: id, kind: kind, people: (people[id.rawValue] ?? []).filter { $0.leftAt == nil }.map {
                LiveGates.Present(participant: ParticipantID(rawValue: $0.participant) ?? .random(), askedAt: $0.askedAt, isRecorded: $0.isRecorded)
            })
        }
    }

    // MARK: A no that could not be stored

    /// Writes it to the ledger, which is a file of its own: a restart before the catalog is back closes the gate all the same.
    func noteUnstored(_ no: LiveGates.Unstored) async throws {
        guard let decision = gates.decision(no.recording, no.participant), !decision.modalities.isEmpty else { return }
        let asksErasure = no.request.decision == .withdrawn && no.request.erase ?? true
        try await note(erased: [Self.unstored(no.recording, no.participant, decision, asksErasure: asksErasure)])
    }

    /// What the ledger calls a no to this one yes.
    private static func unstored(_ recording: RecordingID, _ participant: ParticipantID, _ decision: ConsentState.Decision, asksErasure: Bool) -> String {
        "unstored:\(recording):\(participant):\(decision.at.nanoseconds):\(asksErasure)"
    }

    private func storeUnstored() async throws {
        for (hold, no) in gates.unstored {
            do {
                try await storeAgain(no)
                gates.release([hold])
            } catch let error as RecorderError where error.code != .storage {
                // The recording ended, or was erased, meanwhile.
                gates.release([hold])
            } catch is ConsentError {
                // A broken history takes nothing more: its gates are closed until somebody repairs it.
            }
        }
    }

    /// After a start, before any gate is opened: what only the ledger knows becomes part of the history.
    func settleUnstored() async throws {
        let now = clock.now
        try await catalog.write { [self] db in
            for record in try RecordingRecord.fetchAll(db, sql: "SELECT * FROM recording WHERE state IN ('recording','paused')") {
                guard let id = RecordingID(rawValue: record.id) else { continue }
                var state = try db.consentState(of: id)
                for (participant, decision) in state.decisions.sorted(by: { $0.key < $1.key }) where !decision.modalities.isEmpty {
                    guard let asksErasure = [true, false].first(where: { ledger.contains(Self.unstored(id, participant, decision, asksErasure: $0)) }) else { continue }
                    let event = ConsentEvent(
                        sequence: state.count + 1, recording: id, participant: participant, kind: .withdrawn, occurredAt: now, receivedAt: now, modalities: [], purposes: [],
                        noticeHash: "", noticeVersion: "", language: Language.de.rawValue, method: .onBehalf, isOwnAct: false, isGuardian: false,
                        retentionClass: RetentionPolicy.retentionClass, expiresAt: WallTime(nanoseconds: record.expiresAt), asksErasure: asksErasure, previousHash: state.lastHash)
                    state = try db.append(event, to: state, actor: "ledger")
                    try ledger.append([Self.withdrawal(of: participant, from: id)], now: now)
                }
            }
        }
    }
}
