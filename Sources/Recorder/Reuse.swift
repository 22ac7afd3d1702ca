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

    /// Finds the fingerprint, and what is there with it.
    func lookForReusable(_ payload: StagePayload, _ preparation: inout StagePreparation) async throws {
        try await fingerprint(payload, &preparation)
        preparation.reusable = try await reusable(payload, preparation)
        guard payload.job.part != nil, preparation.reusable == nil, let pictures = preparation.pictureFingerprint else { return }
        preparation.isCovered = try await recorder.catalog.read { try Self.whole(pictures, payload.recording, payload.job.stageName, $0) } != nil
    }

    /// Nil where it cannot be known; then the stage runs.
    private func fingerprint(_ payload: StagePayload, _ preparation: inout StagePreparation) async throws {
        guard let sources = preparation.sources, let version = await version() else { return }
        let job = payload.job
        func ingredients(_ stage: StageKind, _ outputs: [Pipeline.Output], _ inputs: [Ingredients.Source]) -> Ingredients {
            Ingredients(version: version, stage: stage, parameters: job.parameters, outputs: outputs, purpose: payload.purpose, span: preparation.order.span, inputs: inputs)
        }
        if let part = job.part {
            var pictures = ingredients(.composePart, [], sources)
            pictures.parts = part.count
            preparation.pictureFingerprint = pictures.fingerprint
            pictures.part = part.index
            preparation.fingerprint = pictures.fingerprint
        } else {
            preparation.fingerprint = ingredients(job.kind, job.outputs, sources).fingerprint
        }
    }

    /// The whole that has these pictures already, beside another mix perhaps.
    private static func whole(_ pictures: String, _ recording: RecordingID, _ stage: String, _ db: Database) throws -> RenditionRecord? {
        try RenditionRecord.fetchOne(db, sql: "SELECT * FROM rendition WHERE recording = ? AND stage = ? AND picture_fingerprint = ? AND state = 'ready'",
                                     arguments: [recording.rawValue, stage, pictures])
    }

    /// The parts of a picture as inputs; or the version that has the same pictures. Throws where one is missing or was made of something else:
    /// what is put together is of one piece.
    func prepareParts(_ payload: StagePayload, _ stage: String, _ output: String, _ tracks: [Ingredients.Source], _ count: Int,
                      _ preparation: inout StagePreparation, _ members: inout Set<StagePreparation.Member>) async throws {
        var pictures = version(of: payload, tracks, preparation.order.span, await version())
        pictures?.parts = count
        let whole = pictures?.fingerprint
        preparation.pictureFingerprint = whole
        let expected = (0..<count).map { index in
            pictures?.part = index
            return pictures?.fingerprint
        }
        let (parts, same) = try await recorder.catalog.read { db in
            let parts = try (0..<count).compactMap { index in
                try RenditionRecord.fetchOne(db, sql: "SELECT * FROM rendition WHERE recording = ? AND stage = ? AND output = ? AND kind = ? AND state = 'ready'",
                                             arguments: [payload.recording.rawValue, stage, StagePart(index: index, count: count).output(of: output), StageKind.partKind])
            }
            return (parts, try whole.flatMap { try Self.whole($0, payload.recording, stage, db) })
        }
        let isWhole = parts.count == count && parts.map(\.fingerprint) == expected
        guard isWhole || same != nil else { throw StageRunError.failed(StageFailure(code: .damagedInput, what: "a part of the picture is missing, or was made of something else")) }
        for made in isWhole ? parts : [same].compactMap(\.self) {
            guard let id = RenditionID(rawValue: made.id) else { throw Recorder.notFound }
            try await open(made, id, &preparation, &members)
        }
        if let whole { preparation.sources?.append(.rendition(fingerprint: whole, output: output, start: preparation.order.span?.start ?? WallTime(nanoseconds: 0))) } else { preparation.sources = nil }
    }

    private func version(of payload: StagePayload, _ tracks: [Ingredients.Source], _ span: WallSpan?, _ version: String?) -> Ingredients? {
        version.map { Ingredients(version: $0, stage: .composePart, parameters: payload.job.parameters, outputs: [], purpose: payload.purpose, span: span, inputs: tracks) }
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
        do {
            let preparation = try await prepare(payload, Lease(job: .random(), token: 0), opensOutputs: false)
            preparation.closeDescriptors()
            return preparation.reusable != nil
        } catch StageRunError.failed(_) {
            // What it reads is not there.
            return false
        }
    }

    /// Completes the job of a part that an earlier version has. Throws ``LeaseLost``, ``ReuseLost``.
    func skip(_ preparation: StagePreparation, _ payload: StagePayload, _ job: Job) async throws {
        let now = recorder.clock.now
        try await recorder.catalog.write { [jobs = recorder.jobs] db in
            guard try jobs.complete(job.lease, now: now, in: db) else { throw LeaseLost() }
            guard let pictures = preparation.pictureFingerprint, try Self.whole(pictures, payload.recording, payload.job.stageName, db) != nil else { throw ReuseLost() }
            try Self.settle(jobs.jobs(owner: job.owner, run: job.run, in: db), db)
        }
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
