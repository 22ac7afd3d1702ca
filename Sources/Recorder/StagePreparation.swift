import Catalog
import Consent
import Depacketize
import Foundation
import Glibc
import GRDB
import JobQueue
import Logging
import Media
import PacketLog
import Renditions
import SealedFile

/// Everything one run of a stage needs, opened: its order and descriptors, and what becomes of its outputs.
struct StagePreparation: Sendable {
    var order: StageOrder
    var descriptors: [Int32] = []
    var outputs: [Output] = []
    /// Whose media goes in.
    var members: [Member] = []
    /// What goes in, as its fingerprint wants it; nil where something has none.
    var sources: [Ingredients.Source]? = []
    var fingerprint: String?
    /// Of a composite and its parts: that of all its pictures.
    var pictureFingerprint: String?
    /// It is a part of pictures that an earlier version has already.
    var isCovered = false
    /// The renditions that are there already and would come out the same.
    var reusable: [String]?

    struct Output: Sendable {
        /// The rendition's id, or the track's.
        var id: String
        var temporary: URL
        var final: URL
        var name: String
        var keyID: String?
    }

    struct Member: Hashable, Sendable {
        var participant: String
        var modality: Modality
    }

    func closeDescriptors() { for descriptor in descriptors { close(descriptor) } }

    mutating func open(_ path: String, _ flags: Int32) throws -> Int {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            if errno == ENOSPC || errno == EDQUOT { throw SealedFileError.system(call: "open", errno: errno) }
            throw RecorderError(.storage, "a file of the recording cannot be opened: \(String(cString: strerror(errno)))")
        }
        descriptors.append(descriptor)
        return descriptors.count - 1
    }
}

extension StageWork {
    /// `made`: the outputs are there already, and nothing is made for them.
    func prepare(_ payload: StagePayload, _ lease: Lease, made: [StagePreparation.Output]? = nil, mayReuse: Bool = true, opensOutputs: Bool = true) async throws -> StagePreparation {
        let recording = payload.recording
        let (streams, state, names) = try await recorder.catalog.read { db in
            let record = try RecordingRecord.fetchOne(db, key: recording.rawValue)
            let people = try record.map { try db.participants(of: $0.meeting) } ?? []
            return (try db.streams(of: recording.rawValue, recordedOnly: true), try db.consentState(of: recording), Dictionary(people.map { ($0.participant.id, $0.name) }) { first, _ in first })
        }
        var preparation = StagePreparation(order: StageOrder(stage: payload.job.kind, parameters: payload.job.parameters, inputs: [], outputs: [], span: nil, part: payload.job.part))
        do {
            if let track = payload.job.track {
                guard let (stream, people) = streams.first(where: { $0.stream.track == track.rawValue }) else { throw Recorder.notFound }
                if stream.source != nil, !Recorder.mayRecord(stream, people, state, at: recorder.clock.now) {
                    throw StageRunError.failed(StageFailure(code: .nothingToDo, what: "not everybody in the file consents"))
                }
                try await prepareTrack(stream, track, recording, lease, &preparation)
            } else {
                let now = recorder.clock.now
                // Only what may be used for this pipeline's purpose goes in, asked now and not when the meeting ended.
                let usable = streams.filter { stream, people in
                    guard stream.summary != nil, let kind = MediaKind(rawValue: stream.kind) else { return false }
                    return Recorder.allow(people, kind, payload.purpose, state, at: now)
                }
                try await prepareInputs(payload, usable, names, &preparation)
                if mayReuse, made == nil { try await lookForReusable(payload, &preparation) }
                if let made {
                    preparation.outputs = made
                } else if preparation.reusable == nil, !preparation.isCovered, opensOutputs {
                    try await prepareOutputs(payload, lease, &preparation)
                }
            }
        } catch {
            preparation.closeDescriptors()
            // Of several outputs the first may have its key and file already.
            if made == nil, !preparation.outputs.isEmpty { await Task.detached { [self, preparation] in await discard(preparation) }.value }
            throw error
        }
        return preparation
    }

    private func prepareTrack(_ stream: StreamRecord, _ track: TrackID, _ recording: RecordingID, _ lease: Lease, _ preparation: inout StagePreparation) async throws {
        guard let kind = MediaKind(rawValue: stream.kind), let format: TrackFormat = Recorder.decoded(stream.format) else { throw Recorder.notFound }
        let key = try await recorder.keys.key(KeyStore.track(track))
        if let file: ImportedFile = Recorder.decoded(stream.source) {
            let place = try preparation.open(source: file)
            preparation.order.inputs = [StageInput(descriptors: [place], key: key, content: .file(container: file.container, kind: kind, start: file.start))]
        } else {
            let folder = recorder.configuration.trackFolder(recording.rawValue, stream.track)
            let numbers = try await BlockingWork.run { try TrackLogFolder.segments(folder.path) }
            var places: [Int] = []
            for number in numbers { places.append(try preparation.open(folder.appending(path: TrackLogFiles.segment(number)).path, O_RDONLY)) }
            preparation.order.inputs = [StageInput(descriptors: places, key: key, content: .packetLog(
                identity: TrackLogIdentity(recording: recording, track: track, kind: kind), format: format, segments: numbers))]
        }
        let output = output(recording, id: track.rawValue, name: "track", lease, keyID: nil)
        let place = try preparation.open(output.temporary.path, O_RDWR | O_CREAT | O_TRUNC)
        preparation.outputs = [output]
        preparation.order.outputs = [StageOutput(descriptor: place, key: key, context: Self.trackContext(recording, track, kind), container: .matroska)]
    }

    static func trackContext(_ recording: RecordingID, _ track: TrackID, _ kind: MediaKind) -> SealedContext {
        SealedContext(recording: recording, object: KeyStore.track(track), modality: kind.rawValue, part: "matroska")
    }

    private func output(_ recording: RecordingID, id: String, name: String, _ lease: Lease, keyID: String?) -> StagePreparation.Output {
        StagePreparation.Output(id: id, temporary: recorder.configuration.temporary.appending(path: "\(lease.job).\(lease.token).\(name)"),
                                final: recorder.configuration.artifact(recording.rawValue, id), name: name, keyID: keyID)
    }

    private func prepareInputs(_ payload: StagePayload, _ usable: [(stream: StreamRecord, participants: [String])], _ names: [String: String?],
                               _ preparation: inout StagePreparation) async throws {
        let recording = payload.recording
        let summaries = usable.compactMap { Recorder.decoded($0.stream.summary) as TrackSummary? }
        if let start = summaries.map(\.startWall).min(), let end = summaries.map(\.endWall).max() { preparation.order.span = WallSpan(start: start, end: end) }
        var members: Set<StagePreparation.Member> = []
        for input in payload.job.inputs {
            switch input {
            case .tracks(_, let kind):
                // Only a picture shows the name.
                let isDrawn = [.compose, .composePart].contains(payload.job.kind)
                for track in Self.sources(usable, [kind], names) {
                    let place = try preparation.open(recorder.configuration.artifact(recording.rawValue, track.id.rawValue).path, O_RDONLY)
                    preparation.order.inputs.append(StageInput(
                        descriptors: [place], key: try await recorder.keys.key(KeyStore.track(track.id)),
                        content: .track(context: Self.trackContext(recording, track.id, kind), track: track.summary),
                        participant: track.people.count == 1 ? ParticipantID(rawValue: track.people[0]) : nil, label: isDrawn ? track.label : nil))
                    members.formUnion(track.people.map { .init(participant: $0, modality: kind.modality) })
                    preparation.sources?.append(track.source(isLabelled: isDrawn))
                }
            case .parts(let stage, let output, let kinds, let count):
                let tracks = Self.sources(usable, kinds, names).map { $0.source(isLabelled: true) }
                try await prepareParts(payload, stage, output, tracks, count, &preparation, &members)
            case .output(let stage, let name):
                guard let made: RenditionRecord = try await recorder.catalog.read({ db in
                    try RenditionRecord.fetchOne(db, sql: "SELECT * FROM rendition WHERE recording = ? AND stage = ? AND output = ? AND state = 'ready'", arguments: [recording.rawValue, stage, name])
                }), let id = RenditionID(rawValue: made.id) else { continue }
                try await open(made, id, &preparation, &members)
                if let fingerprint = made.fingerprint { preparation.sources?.append(.rendition(fingerprint: fingerprint, output: name, start: WallTime(nanoseconds: made.startWall))) } else { preparation.sources = nil }
            }
        }
        preparation.members = members.sorted { ($0.participant, $0.modality.rawValue) < ($1.participant, $1.modality.rawValue) }
    }

    /// Another stage's output as an input, and whose media is in it.
    func open(_ made: RenditionRecord, _ id: RenditionID, _ preparation: inout StagePreparation, _ members: inout Set<StagePreparation.Member>) async throws {
        guard let recording = RecordingID(rawValue: made.recording) else { throw Recorder.notFound }
        let place = try preparation.open(recorder.configuration.artifact(made.recording, made.id).path, O_RDONLY)
        preparation.order.inputs.append(StageInput(
            descriptors: [place], key: try await recorder.keys.key(KeyStore.rendition(id)),
            content: .rendition(context: SealedContext(recording: recording, object: KeyStore.rendition(id), modality: made.kind, part: made.output),
                                startWall: WallTime(nanoseconds: made.startWall))))
        let below = try await recorder.catalog.read { db in
            try db.membership(of: made.id).compactMap { entry in Modality(rawValue: entry.modality).map { StagePreparation.Member(participant: entry.participant, modality: $0) } }
        }
        members.formUnion(below)
    }

    private func prepareOutputs(_ payload: StagePayload, _ lease: Lease, _ preparation: inout StagePreparation) async throws {
        let recording = payload.recording
        for output in payload.job.outputs {
            let id = RenditionID.random()
            let key = try await recorder.keys.create(rendition: id, of: recording, now: recorder.clock.now)
            let made = self.output(recording, id: id.rawValue, name: output.name, lease, keyID: KeyStore.rendition(id))
            preparation.outputs.append(made)
            let place = try preparation.open(made.temporary.path, O_RDWR | O_CREAT | O_EXCL)
            preparation.order.outputs.append(StageOutput(
                descriptor: place, key: key, context: SealedContext(recording: recording, object: KeyStore.rendition(id), modality: payload.job.kind.renditionKind, part: output.name),
                container: output.container))
        }
    }

    /// Puts finished outputs in their place and enters them, in one transaction that asks lease, consent and expiry again. Not cancellable.
    ///
    /// The fence comes before what is shared: who has lost the lease replaces nothing of a successor's. Killed between files and commit, the
    /// files are there and the job runs again. What no reader of the stage's read back is not published. Throws ``LeaseLost``.
    /// `isMadeLive`: the attempt only entered what was made before it.
    func publish(_ result: StageResult, _ preparation: StagePreparation, _ payload: StagePayload, _ job: Job, isMadeLive: Bool = false) async throws {
        guard result.outputs.count == preparation.outputs.count else {
            throw StageRunError.failed(StageFailure(code: .protocolViolation, what: "the stage reported \(result.outputs.count) outputs of \(preparation.outputs.count)"))
        }
        guard result.outputs.allSatisfy({ $0.verified != nil }) else {
            throw StageRunError.failed(StageFailure(code: .protocolViolation, what: "the stage did not read back what it wrote"))
        }
        // A rendition's name is this attempt's own: nobody knows it before the transaction, so its file is put there, durably, while nobody waits.
        // A track's is that of all its attempts, and only the holder of the lease may replace it.
        let isTrack = payload.job.track != nil
        if !isTrack { try await BlockingWork.run { try preparation.outputs.forEach(Self.place) } }
        let now = recorder.clock.now
        let (isKept, superseded) = try await recorder.catalog.write { [jobs = recorder.jobs] db in
            guard try jobs.complete(job.lease, now: now, in: db) else { throw LeaseLost() }
            if isTrack { try preparation.outputs.forEach(Self.place) }
            let superseded = try payload.job.track == nil ? Self.supersede(preparation, payload, db) : []
            let isKept = try payload.job.track != nil ? Self.enter(track: result, payload, db) : Self.enter(renditions: result, preparation, payload, isMadeLive ? nil : job.startedAt, now, db)
            if !isKept { try Self.restore(superseded, db) }
            try Self.settle(jobs.jobs(owner: job.owner, run: job.run, in: db), db)
            return (isKept, isKept ? superseded : [])
        }
        if !isKept { await discard(preparation) }
        do {
            if isKept { try await removeWithoutKey(preparation) }
            // The new version is there and verified: the one before it goes, key first. What is interrupted here is done at the next start.
            try await recorder.shred(superseded, of: payload.recording)
        } catch {
            // What was entered stands: to discard it now would take the keys of what is ready.
            recorder.logger.error("an erased track's file or a superseded rendition is still there", metadata: ["recording": "\(payload.recording)", "error": "\(error)"])
        }
        guard isTrack, isKept else { return }
        do {
            try await recorder.divide(payload.recording, run: job.run)
        } catch {
            recorder.logger.warning("a picture could not be divided into parts, and comes in one piece", metadata: ["recording": "\(payload.recording)", "error": "\(error)"])
        }
    }

    private static func place(_ output: StagePreparation.Output) throws {
        let folder = output.final.deletingLastPathComponent()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        guard rename(output.temporary.path, output.final.path) == 0 else { throw SealedFileError.system(call: "rename", errno: errno) }
        try DescriptorIO.syncDirectory(folder.path)
    }

    /// The versions that those about to be entered take the place of.
    private static func supersede(_ preparation: StagePreparation, _ payload: StagePayload, _ db: Database) throws -> [String] {
        // Parts are put together: they have done their duty.
        let parts = payload.job.kind != .compose ? [] : try String.fetchAll(db, sql: "UPDATE rendition SET state = 'erased' WHERE recording = ? AND stage = ? AND kind = ? AND state = 'ready' RETURNING id",
                                                                            arguments: [payload.recording.rawValue, payload.job.stageName, StageKind.partKind])
        return try parts + preparation.outputs.flatMap { output in
            try String.fetchAll(db, sql: "UPDATE rendition SET state = 'erased' WHERE recording = ? AND stage = ? AND output = ? AND state = 'ready' RETURNING id",
                                arguments: [payload.recording.rawValue, payload.job.stageName, output.name])
        }
    }

    private static func restore(_ renditions: [String], _ db: Database) throws {
        for id in renditions { try db.execute(sql: "UPDATE rendition SET state = 'ready' WHERE id = ?", arguments: [id]) }
    }

    private static func enter(track result: StageResult, _ payload: StagePayload, _ db: Database) throws -> Bool {
        guard let summary = result.track, let output = result.outputs.first, let track = payload.job.track else { return false }
        let isWhole = summary.verdict.isWhole
        try db.execute(sql: "UPDATE stream SET summary = ?, verdict = ?, file = ?, bytes = ?, sha256 = ? WHERE track = ? AND verdict IS NOT 'erased'", arguments: [
            String(decoding: try JSONEncoder().encode(summary), as: UTF8.self), isWhole ? "complete" : "defects", "artifacts/\(track).sealed", output.bytes,
            output.ciphertextSHA256, track.rawValue,
        ])
        guard db.changesCount == 1 else { return false }
        // Which codec a finished file has, only its demuxer knew.
        if let codec = summary.codec { try db.execute(sql: "UPDATE stream SET codec = ? WHERE track = ? AND codec = 'file'", arguments: [codec.description, track.rawValue]) }
        return true
    }

    /// False where somebody withdrew, or the recording ended, while the stage ran: then nothing is published. `started`: when it began to be made.
    private static func enter(renditions result: StageResult, _ preparation: StagePreparation, _ payload: StagePayload, _ started: WallTime?, _ now: WallTime, _ db: Database) throws -> Bool {
        let recording = payload.recording
        guard let record = try RecordingRecord.fetchOne(db, key: recording.rawValue), record.state == "processing", record.expiresAt > now.nanoseconds else { return false }
        let state = try db.consentState(of: recording)
        guard Self.isAllowed(preparation, payload, state, now) else { return false }
        for (output, report) in zip(preparation.outputs, result.outputs) {
            guard let container = payload.job.outputs.first(where: { $0.name == output.name })?.container, let sha256 = report.ciphertextSHA256 else { return false }
            try db.insert(RenditionRecord(
                id: output.id, recording: recording.rawValue, stage: payload.job.stageName, kind: payload.job.kind.renditionKind, output: output.name, container: container.rawValue,
                purpose: payload.purpose.rawValue, bytes: report.bytes, sha256: sha256, startWall: report.startWall.nanoseconds,
                duration: report.duration.count, width: report.width, height: report.height, loudness: report.loudnessLUFS, state: "ready", createdAt: now.nanoseconds,
                expiresAt: Self.expiry(of: output.name, preparation, payload, record, state), fingerprint: preparation.fingerprint,
                pictureFingerprint: payload.job.kind == .compose ? preparation.pictureFingerprint : nil,
                madeSeconds: payload.job.isInParts ? nil : started.map { (now - $0).seconds }), members: preparation.members.map { ($0.participant, $0.modality.rawValue) })
        }
        guard payload.job.part == nil else { return true }
        try AuditLog.append(actor: "worker", action: "rendition.made", object: recording.rawValue, detail: payload.job.stageName, now: now, db)
        return true
    }

    /// A track that was erased while its stage ran leaves no file: its key went before its files, so whoever puts one there later sees it.
    private func removeWithoutKey(_ preparation: StagePreparation) async throws {
        for output in preparation.outputs where output.keyID == nil {
            guard let track = TrackID(rawValue: output.id) else { continue }
            do { _ = try await recorder.keys.fingerprint(KeyStore.track(track)) } catch is KeyStore.Missing { try Recorder.remove(output.final) }
        }
    }

    /// Removes what a run that came to nothing left: files first here, since nobody could read them yet; then their keys.
    func discard(_ preparation: StagePreparation) async {
        for output in preparation.outputs {
            unlink(output.temporary.path)
            if output.keyID != nil { unlink(output.final.path) }
        }
        do {
            _ = try await recorder.keys.destroy(preparation.outputs.compactMap(\.keyID))
            try await removeWithoutKey(preparation)
        } catch {
            recorder.logger.error("the keys of a discarded rendition are still there", metadata: ["error": "\(error)"])
        }
    }
}
