import Catalog
import Consent
import Depacketize
import Foundation
import GRDB
import JobQueue
import Media
import Renditions
import Synchronization
import Tap

extension Recorder {
    public func recording(_ id: RecordingID, as principal: Principal) async throws -> RecordingView { try await view(recordingRecord(id, principal), principal) }

    public func recordings(of meeting: MeetingID, as principal: Principal) async throws -> [RecordingView] {
        try require([.moderator, .platform, .participant], principal)
        guard principal.meeting.map({ $0 == meeting }) ?? true else { throw Self.notFound }
        let (now, settled) = (clock.now.nanoseconds, clock.settled.nanoseconds)
        let records = try await catalog.read { db in
            try RecordingRecord.fetchAll(db, sql: """
                SELECT * FROM recording WHERE meeting = ?1 AND state NOT IN ('expired','erased') AND (expires_at > ?2 OR EXISTS
                  (SELECT 1 FROM restriction WHERE recording = recording.id AND settled_at IS NULL AND lifted_at IS NULL AND until > ?3)) ORDER BY started_at DESC LIMIT 500
                """, arguments: [meeting.rawValue, now, settled])
        }
        var views: [RecordingView] = []
        for record in records { views.append(try await view(record, principal)) }
        return views
    }

    private func view(_ record: RecordingRecord, _ principal: Principal) async throws -> RecordingView {
        let settled = clock.settled
        let (streams, jobs, hold) = try await catalog.read { [jobs] db in
            (try db.streams(of: record.id), try jobs.currentJobs(owner: record.id, in: db), try db.restriction(of: record.id, settled: settled))
        }
        guard let id = RecordingID(rawValue: record.id), let meeting = MeetingID(rawValue: record.meeting), let state = RecordingView.State(rawValue: record.state) else {
            throw Self.notFound
        }
        let snapshot = live.withLock { $0[id] }?.snapshot
        // A participant sees their own streams; who else is in the recording is none of their business here.
        let visible = streams.filter { stream in principal.participant.map { stream.participants.contains($0.rawValue) } ?? true }
        var problems = Self.list(record.problems)
        if let error = snapshot?.storageError { problems.append("packets cannot be written: \(error)") }
        for (stream, _) in visible where StreamID(rawValue: stream.id).flatMap({ snapshot?.health[$0]?.state }) == .undecryptable {
            problems.append("stream \(stream.position + 1) (\(stream.kind)): packets come, but not one authenticates under its a=crypto; \(HealthView.keyHint)")
        }
        return RecordingView(
            id: id, meeting: meeting, state: state, pipeline: record.pipeline, startedAt: WallTime(nanoseconds: record.startedAt).seconds,
            stoppedAt: record.stoppedAt.map { WallTime(nanoseconds: $0).seconds }, expiresAt: WallTime(nanoseconds: record.expiresAt).seconds,
            releasedAt: record.releasedAt.map { WallTime(nanoseconds: $0).seconds },
            streams: visible.compactMap { Self.view($0.stream, $0.participants, snapshot, streams) },
            progress: Self.progress(jobs, streams.map(\.stream)), making: try await making(of: record), problems: problems, restriction: hold.map { Self.view($0, principal) })
    }

    static func list(_ json: String) -> [String] { decoded(json) ?? [] }

    /// What the catalog keeps as JSON was written by us; nil only where it is missing or of another version.
    static func decoded<Value: Decodable>(_ json: String?) -> Value? { json.flatMap { try? JSONDecoder().decode(Value.self, from: Data($0.utf8)) } }

    private static func view(_ stream: StreamRecord, _ participants: [String], _ snapshot: CaptureSession.Snapshot?,
                             _ all: [(stream: StreamRecord, participants: [String])]) -> StreamView? {
        guard let id = StreamID(rawValue: stream.id), let kind = MediaKind(rawValue: stream.kind) else { return nil }
        let counts = snapshot?.streams[id] ?? decoded(stream.statistics) ?? StreamStatistics()
        let endpoints = snapshot == nil ? [] : endpoints(stream).map { EndpointView(address: $0.address, rtpPort: Int($0.rtpPort), rtcpPort: Int($0.rtcpPort)) }
        let unsupported = unsupported(stream)
        return StreamView(
            id: id, participants: participants.compactMap(ParticipantID.init), kind: kind, codec: stream.codec,
            endpoint: endpoints.first, layers: endpoints.count > 1 ? endpoints : nil, unsupported: unsupported.isEmpty ? nil : unsupported,
            recording: snapshot?.open.contains(id) ?? false, packets: counts.packets, droppedByGate: counts.droppedByGate, strangers: counts.strangers,
            malformed: counts.malformed, replayed: counts.replayed, notAuthentic: counts.notAuthentic, kernelDrops: counts.kernelDrops,
            lastPacketAt: counts.lastArrival?.seconds, health: snapshot?.health[id].map { HealthView($0, kind) },
            verdict: verdict(stream, participants, counts, all))
    }

    static func unsupported(_ stream: StreamRecord) -> [String] { (decoded(stream.format) as TrackFormat?).map(unsupported) ?? [] }

    /// One line for each job; parts of a picture are one together.
    private static func progress(_ jobs: [Job], _ streams: [StreamRecord]) -> [StageProgressView] {
        let partKind = StageWorker.kind(of: .composePart)
        let parts = Dictionary(grouping: jobs.filter { $0.kind == partKind }) { String($0.name.split(separator: "/")[0]) }
        var told: Set<String> = []
        return jobs.compactMap { job in
            guard job.kind == partKind else { return view(job, streams) }
            let stage = String(job.name.split(separator: "/")[0])
            guard told.insert(stage).inserted, let all = parts[stage] else { return nil }
            let views = all.map { view($0, streams) }
            // The first that is not done speaks for all.
            let worst = all.firstIndex { $0.state.isDead } ?? all.firstIndex { $0.state == .running } ?? all.firstIndex { $0.state != .done } ?? 0
            let done = zip(all, views).reduce(0) { $0 + ($1.0.state == .done ? 1 : $1.1.progress) } / Double(all.count)
            return StageProgressView(stage: "\(stage), \(all.count) parts", state: views[worst].state, progress: done, attempts: views[worst].attempts, error: views[worst].error)
        }
    }

    private static func view(_ job: Job, _ streams: [StreamRecord]) -> StageProgressView {
        let track = job.name.split(separator: "/").dropFirst().first.map(String.init)
        let place = track.flatMap { track in streams.first { $0.track == track } }
        let name = place.map { "track \($0.position + 1) (\($0.kind))" } ?? job.name
        return StageProgressView(stage: name, state: job.state.rawValue, progress: job.progress, attempts: job.standing.errors + job.standing.crashes + job.standing.losses + (job.standing.token > 0 ? 1 : 0),
                                 error: job.standing.reason)
    }

    public func timeline(of recording: RecordingID, as principal: Principal) async throws -> TimelineView {
        try require([.moderator], principal)
        let record = try await recordingRecord(recording, principal)
        let (streams, people, events) = try await catalog.read { db in
            (try db.streams(of: record.id), try db.participants(of: record.meeting), try db.consentEvents(of: recording))
        }
        let names = Dictionary(people.map { ($0.participant.id, $0.name) }) { first, _ in first }
        let summaries = streams.compactMap { stream, participants -> (TrackSummary, [String])? in
            (Self.decoded(stream.summary) as TrackSummary?).map { ($0, participants) }
        }
        let end = summaries.map(\.0.endWall).max() ?? WallTime(nanoseconds: record.stoppedAt ?? record.startedAt)
        let start = summaries.map(\.0.startWall).min() ?? WallTime(nanoseconds: record.startedAt)
        let shown = Set(summaries.flatMap(\.1))
        return TimelineView(startWall: start.seconds, endWall: end.seconds, people: people.compactMap { person, _ in
            guard shown.contains(person.id), let id = ParticipantID(rawValue: person.id) else { return nil }
            let own = summaries.filter { $0.1.contains(person.id) }.map(\.0)
            return TimelineView.Person(
                participant: id, name: names[person.id] ?? nil,
                speech: own.filter { $0.kind == .audio }.flatMap { $0.verdict.speech.map { [$0.start.seconds, $0.end.seconds] } },
                picture: own.filter { $0.kind != .audio }.flatMap { Self.present($0) },
                consented: Self.consented(id, events, start, end))
        })
    }

    /// The stretches in which a track has anything: from first to last, less its gaps.
    private static func present(_ summary: TrackSummary) -> [[Double]] {
        var spans: [[Double]] = []
        var from = summary.startWall
        for gap in summary.verdict.gaps {
            spans.append([from.seconds, gap.start.seconds])
            from = gap.end
        }
        return spans + [[from.seconds, summary.endWall.seconds]]
    }

    private static func consented(_ participant: ParticipantID, _ events: [ConsentEvent], _ start: WallTime, _ end: WallTime) -> [[Double]] {
        var spans: [[Double]] = []
        var since: WallTime?
        for event in events where event.participant == participant && event.kind != .requested {
            if event.kind == .given || event.kind == .reconfirmed {
                since = since ?? max(event.occurredAt, start)
            } else if let from = since {
                spans.append([from.seconds, event.occurredAt.seconds])
                since = nil
            }
        }
        if let from = since { spans.append([from.seconds, end.seconds]) }
        return spans
    }
}

extension StreamStatistics {
    /// What went wrong before the packet log, in words.
    var defects: [String] {
        var list: [String] = []
        if kernelDrops > 0 { list.append("\(kernelDrops) packets dropped by this machine's kernel") }
        if overflow + lostToStorage > 0 { list.append("\(overflow + lostToStorage) packets could not be written") }
        if notAuthentic > 0, packets + droppedByGate == 0 {
            list.append("not one of \(notAuthentic) packets authenticated under the key of the SDP's a=crypto; \(HealthView.keyHint)")
        } else if notAuthentic > 0 {
            list.append("\(notAuthentic) packets did not authenticate under the key of the SDP's a=crypto")
        }
        return list
    }
}

extension HealthView {
    static let keyHint = "send the suite and key that the sender really uses (a=crypto), or RTP/AVP where it sends in the clear"

    init(_ report: StreamHealth.Report, _ kind: MediaKind) {
        let state: State, hint: String?
        switch report.state {
        case .waiting: (state, hint) = (.waiting, nil)
        case .good: (state, hint) = (.good, nil)
        case .lossy: (state, hint) = (.lossy, "look at the network between the conference and this machine")
        case .silent: (state, hint) = (.silent, "look whether the conference still forwards this stream, or the person muted themself")
        case .noKeyFrame: (state, hint) = (.noKeyFrame, "let the conference heed key-frame requests (RTCP), or have its encoder send key frames by itself")
        case .undecryptable: (state, hint) = (.undecryptable, Self.keyHint)
        }
        self.init(state: state, lossPercent: report.lossPercent, bitrate: report.bitrate, packetsPerSecond: report.packetsPerSecond,
                  keyFrameAge: kind == .audio ? nil : report.keyFrameAge, hint: hint)
    }
}
