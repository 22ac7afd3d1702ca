import Catalog
import Consent
import Foundation
import Glibc
import Logging
import Media
import Recorder
import Renditions
import SealedFile
import Synchronization
import Tap
import TestSupport

/// A history played on a real recorder (stores, keys, sealed files, gate, publication) and on the ``Model``, and compared.
///
/// Only the edges are others: packets are given instead of sent, stages run in this process without codecs, the clock stands until it is moved.
actor History {
    struct Person {
        var id: ParticipantID
        var own: Principal
        var guardian: Principal
    }
    struct Take {
        var id: RecordingID
        var streams: [(id: StreamID, track: TrackID, kind: MediaKind)]
        var sequence: UInt16 = 0
        var ssrc: UInt32 = 7
        /// A stage was made to fail: it need not get ready.
        var mayFail = false
    }
    /// What happens inside of the next stage but `skipped`.
    enum Meanwhile { case step(Step), fail, kill(Step.KillPoint) }
    struct Copy {
        var folder: URL
        var model: Model
        var people: [Person]
        var takes: [Take]
    }

    static let moderator = Principal(role: .moderator, subject: "moderator")
    static let platform = Principal(role: .platform, subject: "platform")
    static let operatorPrincipal = Principal(role: .operator, subject: "operator")
    static let start = WallTime(seconds: 1_795_521_600)

    let marks: Marks
    private let base: URL
    private let clock: ServiceClock
    private var folders = 0
    var noticeNumber = 0
    var recorder: Recorder
    var data: URL
    var meeting: MeetingID
    var model = Model()
    var people: [Person] = []
    var takes: [Take] = []
    var oldNames: Set<String> = []
    /// Renditions that were looked at when they were new.
    var seen: Set<String> = []
    private var serial: UInt32 = 0
    private var names = 0
    private var meanwhile: (skipped: Int, what: Meanwhile)?
    private var snapshot: URL?
    private var backup: Copy?

    private(set) var faults: [String] = []
    private(set) var counts: [String: Int] = [:]

    var now: Int64 { clock.now.nanoseconds }

    /// `ground`: an empty data folder, made once.
    init(ground: Ground) async throws {
        base = ground.folder.appending(path: UUID().uuidString.lowercased())
        try FileManager.default.createDirectory(at: base, withIntermediateDirectories: true)
        data = base.appending(path: "data-0")
        marks = ground.marks
        clock = ServiceClock(standingAt: Self.start + .seconds(1))
        try Ground.copy(ground.empty, to: data)
        pipelines = ground.pipelines
        recorder = try Recorder(Self.configuration(data, clock, 0, stages), pipelines: pipelines, logger: Ground.logger)
        meeting = try await recorder.createMeeting(MeetingRequest(), as: Self.moderator).id
        stages.history = self
    }

    private let pipelines: [String: Pipeline]
    private let stages = Stages()

    /// The way from a recorder's stages to the history that it plays in.
    private final class Stages: Sendable {
        private struct Reference: Sendable { weak var history: History? }
        private let reference = Mutex(Reference())
        var history: History? {
            get { reference.withLock { $0.history } }
            set { reference.withLock { $0.history = newValue } }
        }
    }

    private static func configuration(_ data: URL, _ clock: ServiceClock, _ noticeNumber: Int, _ stages: Stages) -> RecorderConfiguration {
        var configuration = Ground.configuration(data, clock)
        configuration.retention.downloadLogDays += noticeNumber
        configuration.stageSubstitute = { order, descriptors in
            guard let history = stages.history else { throw StageRunError.cancelled }
            return try await history.carryOut(order, descriptors)
        }
        return configuration
    }

    private func configuration() -> RecorderConfiguration { Self.configuration(data, clock, noticeNumber, stages) }

    private func open() throws -> Recorder { try Recorder(configuration(), pipelines: pipelines, logger: Ground.logger) }

    func end() async {
        await recorder.shutDown()
        try? FileManager.default.removeItem(at: base)  // its place is in memory or in the build folder
    }

    // MARK: Saying what is wrong

    func fault(_ text: String) { if faults.count < 20 { faults.append(text) } }
    func count(_ what: String, _ number: Int = 1) { if number > 0 { counts[what, default: 0] += number } }

    /// Runs a use case that must end in one of these ways; nil is success.
    @discardableResult
    func expect(_ expected: Set<RecorderError.Code?>, _ what: String, _ body: () async throws -> Void) async -> RecorderError.Code? {
        var found: RecorderError.Code?
        do {
            try await body()
        } catch let error as RecorderError {
            found = error.code
        } catch {
            fault("\(what): \(error)")
            return .unavailable
        }
        count("\(what) \(found?.rawValue ?? "ok")")
        if !expected.contains(found) { fault("\(what): \(found?.rawValue ?? "ok") instead of \(expected.map { $0?.rawValue ?? "ok" }.sorted())") }
        return found
    }

    // MARK: Playing

    /// Plays a step on both, or nothing where there is nobody or nothing to play it with.
    func play(_ step: Step) async throws {
        try clock.advance(by: .milliseconds(1))
        model.noteGates(now)
        try await perform(step)
        model.noteGates(now)
    }

    func place(_ recording: Int) -> Int? { takes.isEmpty ? nil : recording % takes.count }

    private func perform(_ step: Step) async throws {
        switch step {
        case .invite(let isMinor): try await invite(isMinor)
        case .record(let days, let isSoundOnly, let kinds, let mixes): try await record(days, isSoundOnly, kinds, mixes)
        case .speak(let recording, let lateMs): if let place = place(recording) { try await speak(place, lateMs) }
        case .rejoin(let recording): if let place = place(recording) { takes[place].ssrc &+= 1 }
        case .join(let recording, let stream, let person): await presence(recording, stream, person, isJoining: true)
        case .leave(let recording, let stream, let person): await presence(recording, stream, person, isJoining: false)
        case .write(let isSynced): write(isSynced)
        case .give, .refuse, .withdraw: try await decide(step)
        case .pause(let recording): try await control(recording, .pause)
        case .resume(let recording): try await control(recording, .resume)
        case .stop(let recording): try await control(recording, .stop)
        case .release(let recording): try await control(recording, .release)
        case .erase(let recording): try await control(recording, .erase)
        case .work: try await work(nil)
        case .workFailing: try await work((0, .fail))
        case .workWhileWithdrawing(let skipped, let recording, let person, let isErasing):
            try await work((skipped, .step(.withdraw(recording: recording, person: person, by: .own, isErasing: isErasing))))
        case .crashInStage(let skipped, let point): try await work((skipped, .kill(point)))
        case .read(let recording, let rendition): if let place = place(recording) { try await read(place, rendition) }
        case .restrict(let recording, let actor, let person, let days): try await restrict(recording, actor, person, days)
        case .lift(let recording, let actor, let person): try await lift(recording, actor, person)
        case .rename(let person): try await rename(person)
        case .move(let amount): try move(amount)
        case .tidy: try await tidy()
        case .crash(let isTorn): try await crash(isTorn)
        case .changeNotice:
            await recorder.shutDown()
            for place in takes.indices where [.running, .paused].contains(model.recordings[place].phase) { model.write(place, isSynced: true) }
            noticeNumber += 1
            try await reopen(isNoticeChanged: true)
        case .backup: try takeBackup()
        case .restore: try await restore()
        case .check: try await check(isWhole: true)
        }
    }

    private func invite(_ isMinor: Bool) async throws {
        guard people.count < 6 else { return }
        let name = name()
        let invitation = try await recorder.invite(InvitationRequest(name: name, minor: isMinor), to: meeting, as: Self.moderator)
        let id = invitation.participant.id
        people.append(Person(id: id, own: try await recorder.authenticate(token: invitation.token),
                             guardian: Principal(role: .participant, subject: "guardian-\(people.count)", participant: id, meeting: meeting, isGuardian: true)))
        await expect([isMinor ? nil : .conflict], "guardian") { _ = try await recorder.inviteGuardian(of: id, as: Self.moderator) }
        model.minors.append(isMinor)
        model.names.append(name)
        count(isMinor ? "minor" : "adult")
    }

    private func name() -> String {
        names += 1
        return "\(marks.namePrefix)-\(names)-"
    }

    private func record(_ days: Int, _ isSoundOnly: Bool, _ kinds: [[MediaKind]], _ mixes: [[Int]]) async throws {
        guard takes.count < 3, !people.isEmpty else { return }
        var plans: [(people: Set<Int>, kind: MediaKind)] = []
        for (person, own) in kinds.prefix(people.count).enumerated() { plans += own.map { ([person], $0) } }
        plans += mixes.map { (Set($0.map { $0 % people.count }), .audio) }
        guard !plans.isEmpty else { return }
        let requests = plans.enumerated().map { place, plan in
            let port = 5_004 + 2 * place
            let sdp = plan.kind == .audio ? "v=0\nm=audio \(port) RTP/AVP 111\na=rtpmap:111 opus/48000/2\n" : "v=0\nm=video \(port) RTP/AVP 96\na=rtpmap:96 VP8/90000\n"
            return StreamRequest(participants: plan.people.sorted().map { people[$0].id }, kind: plan.kind, sdp: sdp)
        }
        let request = RecordingRequest(pipeline: isSoundOnly ? "audio-only" : "meeting", streams: requests, retentionDays: days)
        let view = try await recorder.createRecording(request, in: meeting, as: Self.moderator)
        let streams = try await recorder.catalog.read { try $0.streams(of: view.id.rawValue) }
        takes.append(Take(id: view.id, streams: zip(view.streams, streams).compactMap { view, stream in TrackID(rawValue: stream.stream.track).map { (view.id, $0, view.kind) } }))
        model.recordings.append(Model.Recording(streams: plans.map { .init(people: $0.people, modality: $0.kind.modality) }, end: now + Int64(days) * 86_400 * 1_000_000_000))
        count("recording")
        count("mixed source", mixes.count)
    }

    private func speak(_ place: Int, _ lateMs: Int64) async throws {
        // Housekeeping runs twice a second; a second passes here.
        try await tidy()
        guard let session = recorder.session(of: takes[place].id) else { return }
        let arrival = clock.now - .milliseconds(lateMs)
        var passed = (0, 0)
        for stream in takes[place].streams.indices {
            for number in 0..<3 {
                serial += 1
                let mark = Marks.mark(recording: place, stream: stream, serial: serial)
                takes[place].sequence &+= 1
                // The second is no packet of this stream: another payload type.
                let type: UInt8 = number == 1 ? 77 : takes[place].streams[stream].kind == .audio ? 111 : 96
                session.deliver(rtp(takes[place].sequence, serial, payloadType: type, ssrc: takes[place].ssrc, payload: marks.payload(mark)), to: takes[place].streams[stream].id, arrival: arrival)
                guard number != 1 else { continue }
                if model.deliver(mark, place, stream, arrival: arrival.nanoseconds, now) { passed.0 += 1 } else { passed.1 += 1 }
            }
            model.recordings[place].streams[stream].hasBacklog = lateMs > 0 && model.recordings[place].streams[stream].hasBacklog
        }
        if lateMs == 0 { session.endBacklog() }
        count("packets that must be kept", passed.0)
        count("packets that must not", passed.1)
        try clock.advance(by: .seconds(1))
    }

    private func write(_ isSynced: Bool) {
        for place in takes.indices {
            guard let session = recorder.session(of: takes[place].id) else { continue }
            session.writeDelivered(isSyncing: isSynced)
            model.write(place, isSynced: isSynced)
        }
    }

    private func control(_ recording: Int, _ command: RecordingCommand) async throws {
        guard let place = place(recording) else { return }
        let (found, now) = (model.recordings[place], now)
        let expected: Set<RecorderError.Code?> = switch command {
        case _ where found.isOver(now): [.gone]
        case _ where [.resume, .release, .erase].contains(command) && found.isHeld(now): [.restricted]
        case .pause: [found.phase == .running ? nil : .conflict]
        case .resume: [found.phase == .paused ? nil : .conflict]
        case .stop: [found.phase == .stopped ? .conflict : nil]
        case .release: found.phase != .stopped ? [.conflict] : found.isReleased ? [nil] : [nil, .conflict]
        case .erase: [.gone]
        }
        let id = takes[place].id
        let code = await expect(expected, command.rawValue) { _ = try await recorder.control(id, command, as: Self.moderator) }
        if command == .erase, !found.isHeld(now) { model.recordings[place].end(now) }
        guard code == nil else { return }
        switch command {
        case .pause: model.recordings[place].phase = .paused
        case .resume: model.recordings[place].phase = .running
        case .stop:
            model.write(place, isSynced: true)
            model.recordings[place].phase = .stopped
            model.recordings[place].carryOut(now)
        case .release: model.recordings[place].isReleased = true
        case .erase: break
        }
    }

    func tidy() async throws {
        await recorder.tidy()
        model.settle(now)
    }

    private func move(_ amount: Step.Amount) throws {
        let step: Int64? = switch amount {
        case .milliseconds(let count): count * 1_000_000
        case .days(let count): count * 86_400 * 1_000_000_000
        // One nanosecond, and the millisecond of the next step.
        case .justBeforeEnd(let recording): place(recording).map { model.recordings[$0].end - now - 1_000_001 }
        case .toEnd(let recording): place(recording).map { model.recordings[$0].end - now - 1_000_000 }
        }
        guard let step, step > 0 else { return }
        try clock.advance(by: Nanoseconds(count: step))
    }

    private func rename(_ person: Int) async throws {
        guard !people.isEmpty else { return }
        let place = person % people.count
        let (old, new) = (model.names[place], name())
        await expect([nil], "rename") { _ = try await recorder.rename(people[place].id, NameRequest(name: new), as: people[place].own) }
        model.names[place] = new
        oldNames.insert(old)
    }

    // MARK: Stages

    private func work(_ meanwhile: (skipped: Int, what: Meanwhile)?) async throws {
        // What failed before is tried again.
        try clock.advance(by: .seconds(400))
        try await tidy()
        self.meanwhile = meanwhile
        // Not more often than there can be stages: a queue that never ends must not hang this.
        await StageWorker(recorder: recorder).runDue()
        let wasKilled = snapshot != nil
        let isPlain = meanwhile == nil
        self.meanwhile = nil
        if let snapshot {
            self.snapshot = nil
            try await moveInto(snapshot)
            for place in model.recordings.indices { model.recordings[place].crash(isTorn: false) }
            try await reopen()
            await StageWorker(recorder: recorder).rescue()
        }
        count(wasKilled ? "killed in a stage" : isPlain ? "worked" : "worked with disturbance")
        guard isPlain else { return try await lookAtNew(isComplete: false) }
        for (place, take) in takes.enumerated() where !take.mayFail {
            let found = model.recordings[place]
            guard found.phase == .stopped, !found.isHeld(now) else { continue }
            let state = try await recorder.recording(take.id, as: Self.moderator).state
            if state != .ready { fault("recording \(place) is \(state) after its stages") }
        }
        try await lookAtNew(isComplete: true)
    }

    /// One stage, and what happens while it runs.
    private func carryOut(_ order: StageOrder, _ descriptors: [Int32]) async throws -> StageResult {
        count("stage \(order.stage.rawValue)")
        guard let due = meanwhile else { return try StandIn.run(order, descriptors) }
        guard due.skipped == 0 else {
            meanwhile = (due.skipped - 1, due.what)
            return try StandIn.run(order, descriptors)
        }
        meanwhile = nil
        switch due.what {
        case .step(let step):
            let result = try StandIn.run(order, descriptors)
            // What was published before is judged by what people had said then.
            try await lookAtNew(isComplete: false)
            // Somebody else's request: a stage that is cancelled by it does not cancel it.
            try await Task { try await self.perform(step) }.value
            return result
        case .fail:
            noteFailure()
            throw StageRunError.died("made to fail")
        case .kill(let point):
            try kill(point, order, descriptors)
            throw StageRunError.died("killed")
        }
    }

    private func noteFailure() { for place in takes.indices { takes[place].mayFail = true } }

    /// The data folder as a kill of stage and server would leave it.
    private func kill(_ point: Step.KillPoint, _ order: StageOrder, _ descriptors: [Int32]) throws {
        if point != .halfWritten { _ = try StandIn.run(order, descriptors) } else {
            for output in order.outputs { try DescriptorIO.write(Array(repeating: 1, count: 100), at: 0, descriptors[output.descriptor]) }
        }
        let copy = nextFolder()
        try Ground.copy(data, to: copy)
        snapshot = copy
        count("kill \(point)")
        guard point == .renamed else { return }
        for output in order.outputs {
            let open = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(descriptors[output.descriptor])")
            let folder = copy.appending(path: "recordings/\(output.context.recording)/artifacts")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            let source = copy.appending(path: "tmp/\(URL(filePath: open).lastPathComponent)").path
            let target = folder.appending(path: "\(output.context.object.split(separator: ":")[1]).sealed").path
            if Glibc.rename(source, target) != 0 { fault("the snapshot has no \(source)") }
        }
    }

    // MARK: Restarts

    private func nextFolder() -> URL {
        folders += 1
        return base.appending(path: "data-\(folders)")
    }

    /// Ends the recorder, whose folder goes, and goes on in another.
    private func moveInto(_ folder: URL) async throws {
        await recorder.shutDown()
        try FileManager.default.removeItem(at: data)
        data = folder
    }

    private func reopen(isNoticeChanged: Bool = false) async throws {
        recorder = try open()
        try await recorder.recover()
        for place in model.recordings.indices {
            if isNoticeChanged, [.running, .paused].contains(model.recordings[place].phase) { model.recordings[place].yes = [:] }
            model.recordings[place].carryOut(now)
        }
        model.noteGates(now, isNew: true)
    }

    private func crash(_ isTorn: Bool) async throws {
        let copy = nextFolder()
        try Ground.copy(data, to: copy)
        if isTorn { try await tear(copy) }
        try await moveInto(copy)
        for place in model.recordings.indices { model.recordings[place].crash(isTorn: isTorn) }
        try await reopen()
    }

    private func takeBackup() throws {
        let folder = nextFolder()
        if let backup { try FileManager.default.removeItem(at: backup.folder) }
        let summary = try Backup.take(of: data, to: folder, now: clock.now)
        backup = Copy(folder: summary.folder, model: model, people: people, takes: takes)
    }

    private func restore() async throws {
        guard let backup else { return }
        await recorder.shutDown()
        let target = nextFolder()
        var restore = Restore(backup: backup.folder, keys: nil, data: target, rootKey: data.appending(path: "root.key"), ledger: data.appending(path: ErasureLedger.fileName),
                              isWithoutLedger: false, configuration: configuration())
        restore.configuration.pipelines = Checkout.pipelines
        _ = try await restore.run(logger: Ground.logger)
        try FileManager.default.removeItem(at: data)
        data = target
        model = model.restored(backup.model, at: now)
        let failed = takes.contains(where: \.mayFail)
        (people, takes) = (backup.people, backup.takes)
        // A name that was corrected since is what it was.
        oldNames = []
        if failed { noteFailure() }
        try await reopen()
        count("restored")
    }
}
