import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import Logging
import Media
import PacketLog
import Renditions
import SealedFile
import Tap

/// Hands what is recorded over to a live stage, segment by segment. One caller after the other.
actor LiveFeeder {
    /// Why a live rendering is given up.
    struct GivenUp: Error, CustomStringConvertible { var description: String }

    static let beatMs = 250
    /// Consents are looked at as often as the gates' watch does.
    static let beatsPerLook = 2
    /// Segments of each track that go in one round: what is caught up with goes side by side.
    static let segmentsPerRound = 1

    private struct Fed {
        var track: TrackID
        var stream: StreamID
        var folder: URL
        var sent = 0
        var isShared: Bool?
    }

    private let recorder: Recorder
    private let run: LiveRun
    private let session: CaptureSession
    private let purpose: Purpose
    private var tracks: [Fed]
    private var usable: Set<TrackID> = []
    private var isBehind = false
    /// Chunks that need not be made again; handed over first.
    private var kept: [(feed: LiveFeed, path: String?)]
    private let makesPictures: Bool

    init(_ recorder: Recorder, _ run: LiveRun, _ session: CaptureSession, _ purpose: Purpose, _ preparation: LivePreparation, kept: [(made: KeptChunk, origin: WallTime, path: String)]) {
        (self.recorder, self.run, self.session, self.purpose) = (recorder, run, session, purpose)
        let tracks = preparation.tracks
        makesPictures = preparation.order.composite != nil
        self.kept = kept.map { (.kept($0.made), $0.path) }
        self.tracks = tracks.map { Fed(track: $0, stream: $1, folder: recorder.configuration.trackFolder(run.recording.rawValue, $0.rawValue)) }
    }

    func next() async throws -> [(feed: LiveFeed, path: String?)] {
        for _ in 0..<Self.beatsPerLook where !run.isEnded && !isBehind { try await Task.sleep(for: .milliseconds(Self.beatMs)) }
        // Asked first: at the end, all logs are closed already.
        let isEnded = run.isEnded
        let logs = session.logs
        isBehind = false
        var left = 0
        usable = try await recorder.usableTracks(of: run.recording, for: purpose)
        var round = kept
        kept = []
        while makesPictures, let room = try await recorder.room(for: run) { round.append((room.feed, room.path)) }
        for place in tracks.indices {
            guard let standing = logs.standings[tracks[place].stream] else { continue }
            let until = min(standing.closed, tracks[place].sent + Self.segmentsPerRound)
            if until < standing.closed { isBehind = true }
            left = max(left, standing.closed - until)
            while tracks[place].sent < until {
                tracks[place].sent += 1
                let isShared = tracks[place].isShared ?? usable.contains(tracks[place].track)
                tracks[place].isShared = isShared
                round.append((.segment(track: place, number: tracks[place].sent, isShared: isShared), tracks[place].folder.appending(path: TrackLogFiles.segment(tracks[place].sent)).path))
            }
            if !isEnded, until == standing.closed { round.append((.advanced(track: place, to: standing.openSince ?? logs.at), nil)) }
            // Whose track went in must go on to allow it; all is made again without them after the end.
            if tracks[place].isShared == true, !usable.contains(tracks[place].track) { throw GivenUp(description: "somebody's consent changed") }
        }
        run.note(segmentsBehind: left)
        if isEnded, !isBehind { round.append((.finish, nil)) }
        return round
    }
}

extension Recorder {
    /// The tracks that may be used for a purpose now, each of one person alone.
    func usableTracks(of recording: RecordingID, for purpose: Purpose) async throws -> Set<TrackID> {
        let (now, settled) = (clock.now, clock.settled)
        return try await catalog.read { db in
            // What is restricted is kept, and nothing else is done with it.
            guard try db.restriction(of: recording.rawValue, settled: settled) == nil else { return [] }
            let state = try db.consentState(of: recording)
            return Set(try db.streams(of: recording.rawValue, recordedOnly: true).compactMap { stream, people in
                guard people.count == 1, let track = TrackID(rawValue: stream.track), let kind = MediaKind(rawValue: stream.kind), stream.verdict != "erased" else { return nil }
                return Self.allow(people, kind, purpose, state, at: now) ? track : nil
            })
        }
    }

    /// What a rendering that begins now makes of a recording that runs, with a key and a temporary file for each.
    func prepareLive(_ recording: RecordingID) async throws -> (LivePreparation, Purpose) {
        let (record, streams, names) = try await catalog.read { db in
            let record = try RecordingRecord.fetchOne(db, key: recording.rawValue)
            let people = try record.map { try db.participants(of: $0.meeting) } ?? []
            return (record, try db.streams(of: recording.rawValue), Dictionary(people.map { ($0.participant.id, $0.name) }) { first, _ in first })
        }
        guard let record else { throw Self.notFound }
        let pipeline = try pipeline(named: record.pipeline)
        var preparation = LivePreparation(recording, configuration)
        do {
            let erasing = Set(try await withdrawnAndKept(recording).map(\.rawValue))
            for (stream, people) in streams where stream.verdict != "erased" && erasing.isDisjoint(with: people) {
                guard people.count == 1, let track = TrackID(rawValue: stream.track), let id = StreamID(rawValue: stream.id), let kind = MediaKind(rawValue: stream.kind),
                      let format: TrackFormat = Self.decoded(stream.format) else { throw LiveFeeder.GivenUp(description: "a stream of several people, or of nobody") }
                try preparation.add(track, id, kind, format, try await keys.key(KeyStore.track(track)), label: names[people[0]] ?? nil)
            }
            try await preparation.plan(pipeline) { try await self.keys.create(rendition: $0, of: recording, now: self.clock.now) }
        } catch {
            preparation.closeDescriptors()
            await discard(preparation.outputs.values.flatMap(\.self))
            throw error
        }
        return (preparation, pipeline.purpose)
    }

    /// Prepares the order and hands everything over until the recording ends; returns when the child has made what it could.
    func render(_ run: LiveRun) async throws {
        let recording = run.recording
        guard let session = session(of: recording) else { throw LiveFeeder.GivenUp(description: "nothing is captured") }
        var (preparation, purpose) = try await prepareLive(recording)
        defer { preparation.closeDescriptors() }
        guard run.expect(preparation.outputs, labels: preparation.labels) else {
            await discard(preparation.outputs.values.flatMap(\.self))
            return
        }
        let kept = try await keptChunks(recording, preparation, purpose)
        preparation.begin(at: kept.first?.origin)
        let feeder = LiveFeeder(self, run, session, purpose, preparation, kept: kept)
        let (order, descriptors, logger) = (preparation.order, preparation.descriptors, logger)
        try await LiveStage.run(executable: configuration.stageExecutable, order, descriptors: descriptors) {
            do { return try await feeder.next() } catch let reason as LiveFeeder.GivenUp {
                logger.notice("a recording's rendering while it runs is given up", metadata: ["recording": "\(recording)", "reason": "\(reason)"])
                throw reason
            }
        } receive: { message in
            switch message {
            case .made(let job, let result, let tracks): run.made(job, result, tracks)
            case .reached(let job, let from, let to): run.reached(job, from: from, to: to)
            case .chunk(let chunk, let origin): self.keep(chunk, origin: origin, order.composite?.parameters, run)
            case .copied(let pictures): logger.info("pictures that did not change are not made again", metadata: ["recording": "\(recording)", "pictures": "\(pictures)"])
            case .trouble(let why): logger.notice("a recording is rendered after its end, not while it runs", metadata: ["recording": "\(recording)", "reason": "\(why)"])
            }
        }
    }
}
