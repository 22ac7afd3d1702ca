import Catalog
import Consent
import Foundation
import GRDB
import JobQueue
import Logging
import Media
import Renditions
import Synchronization

/// What would come out the same is not made again (decision 30).
extension StageWork {
    /// What was there to be used again was erased meanwhile.
    struct ReuseLost: Error {}

    /// Nil where it cannot be known; then the stage runs.
    func fingerprint(_ payload: StagePayload, _ preparation: StagePreparation) async -> String? {
        guard let sources = preparation.sources, let version = await version() else { return nil }
        return Ingredients(version: version, stage: payload.job.kind, parameters: payload.job.parameters, outputs: payload.job.outputs, purpose: payload.purpose,
                           span: preparation.order.span, inputs: sources).fingerprint
    }

    /// The renditions of an earlier run with the same fingerprint, one for each output and with its file; nil where any is missing.
    func reusable(_ payload: StagePayload, _ preparation: StagePreparation) async throws -> [String]? {
        guard let fingerprint = preparation.fingerprint else { return nil }
        let there = try await recorder.catalog.read { try Self.renditions(fingerprint, payload, $0) }
        let configuration = recorder.configuration
        let files = try await BlockingWork.run { there?.filter { FileManager.default.fileExists(atPath: configuration.artifact(payload.recording.rawValue, $0).path) } }
        return files?.count == there?.count ? there : nil
    }

    /// Whether running this now would give what is there. Nothing is written.
    func isReusable(_ payload: StagePayload) async throws -> Bool {
        let preparation = try await prepare(payload, Lease(job: .random(), token: 0), opensOutputs: false)
        preparation.closeDescriptors()
        return preparation.reusable != nil
    }

    private static func renditions(_ fingerprint: String, _ payload: StagePayload, _ db: Database) throws -> [String]? {
        let found = try Row.fetchAll(db, sql: "SELECT id, output FROM rendition WHERE recording = ? AND stage = ? AND fingerprint = ? AND state = 'ready'",
                                     arguments: [payload.recording.rawValue, payload.job.stageName, fingerprint])
        let byOutput = Dictionary(found.map { ($0["output"] as String, $0["id"] as String) }) { first, _ in first }
        let ids = payload.job.outputs.compactMap { byOutput[$0.name] }
        return ids.count == payload.job.outputs.count ? ids : nil
    }

    /// Completes the job with what is there, dated anew, in one transaction that asks lease, consent and expiry. Throws ``LeaseLost``, ``ReuseLost``.
    func reuse(_ renditions: [String], _ preparation: StagePreparation, _ payload: StagePayload, _ job: Job) async throws {
        let now = recorder.clock.now
        try await recorder.catalog.write { [jobs = recorder.jobs] db in
            guard try jobs.complete(job.lease, now: now, in: db) else { throw LeaseLost() }
            guard let fingerprint = preparation.fingerprint, try Self.renditions(fingerprint, payload, db) == renditions else { throw ReuseLost() }
            let recording = payload.recording.rawValue
            let state = try db.consentState(of: payload.recording)
            if let record = try RecordingRecord.fetchOne(db, key: recording), record.state == "processing", Self.isAllowed(preparation, payload, state, now) {
                for (id, output) in zip(renditions, payload.job.outputs) {
                    try db.execute(sql: "UPDATE rendition SET expires_at = ? WHERE id = ?", arguments: [Self.expiry(of: output.name, preparation, payload, record, state), id])
                }
                try AuditLog.append(actor: "worker", action: "rendition.reused", object: recording, detail: payload.job.stageName, now: now, db)
            }
            try Self.settle(jobs.jobs(owner: job.owner, run: job.run, in: db), db)
        }
    }

    /// Whether everybody whose media went in still allows this purpose.
    static func isAllowed(_ preparation: StagePreparation, _ payload: StagePayload, _ state: ConsentState, _ now: WallTime) -> Bool {
        preparation.members.allSatisfy { member in
            ParticipantID(rawValue: member.participant).map { state.allows($0, member.modality, payload.purpose, at: now) } ?? false
        }
    }

    /// The earliest of the recording's date, that of the consents in it, and that of the output's retention class.
    static func expiry(of output: String, _ preparation: StagePreparation, _ payload: StagePayload, _ record: RecordingRecord, _ state: ConsentState) -> Int64 {
        let consents = state.earliestExpiry(of: preparation.members.compactMap { ParticipantID(rawValue: $0.participant) })?.nanoseconds
        let kept = payload.retentionDays?[output].map { record.startedAt + Int64($0) * 86_400_000_000_000 }
        return [record.expiresAt, consents, kept].compactMap(\.self).min() ?? record.expiresAt
    }

    private func version() async -> String? {
        if let known = versionKnown.withLock({ $0 }) { return known }
        do {
            let version = try await runner.version()
            versionKnown.withLock { $0 = version }
            return version
        } catch {
            recorder.logger.warning("what carries stages out cannot be told: everything is made anew", metadata: ["error": "\(error)"])
            return nil
        }
    }
}
