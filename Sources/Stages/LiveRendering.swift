import Depacketize
import FFmpeg
import Glibc
import Media
import PacketLog
import Renditions
import SealedFile

/// The whole of a live stage: what is recorded goes in piece by piece, and at its end tracks, mix and composite are there but for the last
/// seconds. Confined to one thread.
///
/// Sound goes first: pictures are composed by ``work()``, a second at a time, while nothing else waits.
public final class LiveRendering {
    /// The index of an MP4 lies in front, and its room is set aside before anybody knows the length. A longer recording is rendered after its end.
    static let secondsMax = 3 * 3_600.0

    private let order: LiveOrder
    private let tracks: [LiveTrack]
    private let mixSinks: [SealedSink]
    private let compositeSink: SealedSink?
    private let waveformSink: SealedSink?
    private let tell: (LiveMessage) throws -> Void
    private let descriptors: [Int32]
    private var mixer: LiveMixer?
    private var composer: LiveComposer?
    private var origin: WallTime?
    private var kept: [LiveComposer.Kept] = []
    /// Rooms that came before there was a composer.
    private var rooms: [ChunkWriter.Room] = []
    private var attached: Set<TrackID> = []
    /// How far it was said that a job is.
    private var told: [String: WallTime] = [:]

    public init(_ order: LiveOrder, descriptors: [Int32], tell: @escaping (LiveMessage) throws -> Void) throws {
        func sink(_ output: StageOutput, windowBytes: Int) throws -> SealedSink {
            guard descriptors.indices.contains(output.descriptor) else { throw StageFailure(code: .protocolViolation, what: "descriptor \(output.descriptor) was not handed over") }
            return try SealedSink(descriptor: descriptors[output.descriptor], key: output.key, context: output.context, windowBytes: windowBytes)
        }
        guard order.tracks.count <= LiveOrder.tracksMax else { throw StageFailure(code: .limitExceeded, what: "\(order.tracks.count) tracks") }
        (self.order, self.descriptors, self.tell) = (order, descriptors, tell)
        // Matroska patches its sizes and its seek head within the first chunk.
        tracks = try order.tracks.map { track in
            LiveTrack(track, try sink(track.output, windowBytes: 1 << 16), isUsed: track.identity.kind == .audio ? order.mix != nil : order.composite != nil)
        }
        mixSinks = try (order.mix?.outputs ?? []).map { try sink($0, windowBytes: $0.container == .mp4 ? MovieHead.live(seconds: Self.secondsMax, picturesPerSecond: 0) + 4_096 : 0) }
        waveformSink = try order.waveform?.outputs.first.map { try sink($0, windowBytes: 0) }
        compositeSink = try order.composite.flatMap { composite in
            try composite.outputs.first.map { try sink($0, windowBytes: MovieHead.live(seconds: Self.secondsMax, picturesPerSecond: composite.parameters.frameRate) + 4_096) }
        }
    }

    /// A beginning that is found as much earlier or later than before is the same: clocks are bent by what is known of them when.
    static let originTolerance = Nanoseconds.milliseconds(40)

    /// Takes what was recorded, with its descriptor, which is closed in the end. False when everything is done or nothing more can be.
    public func take(_ feed: LiveFeed, _ descriptors: [Int32]) throws -> Bool {
        if try takeChunk(feed, descriptors) { return true }
        defer { for descriptor in descriptors { close(descriptor) } }
        switch feed {
        case .room, .kept: throw StageFailure(code: .protocolViolation, what: "a chunk's file with \(descriptors.count) descriptors, or too many of them")
        case .segment(let track, let number, let isShared):
            guard tracks.indices.contains(track), descriptors.count == 1 else { throw StageFailure(code: .protocolViolation, what: "a segment of track \(track) with \(descriptors.count) descriptors") }
            try tracks[track].read(number, descriptors[0], isShared: isShared)
        case .advanced(let track, let time):
            guard tracks.indices.contains(track) else { throw StageFailure(code: .protocolViolation, what: "no track \(track)") }
            try tracks[track].advance(to: time)
        case .finish:
            try finish()
            return false
        }
        if let trouble = tracks.lazy.filter({ $0.isShared != false }).compactMap(\.trouble).first {
            try tell(.trouble(trouble))
            return false
        }
        try mix()
        return true
    }

    /// Takes the file of a chunk, and its descriptor with it; false where that is not what has come.
    private func takeChunk(_ feed: LiveFeed, _ descriptors: [Int32]) throws -> Bool {
        guard descriptors.count == 1, kept.count < LiveChunk.most, rooms.count < LiveChunk.most else { return false }
        switch feed {
        case .room(let output):
            let room = ChunkWriter.Room(output, descriptors[0])
            if let composer { composer.chunks.add(room) } else { rooms.append(room) }
        case .kept(let made): kept.append(.init(chunk: made.chunk, file: SealedChunk(owning: descriptors[0], key: made.key, context: made.context)))
        default: return false
        }
        return true
    }

    /// Composes the next second of pictures that is ready; false where there is none.
    public func work() throws -> Bool {
        guard let composer, let limit = limit() else { return false }
        return try work(composer, upTo: limit, isWaiting: !isBehind)
    }

    private func work(_ composer: LiveComposer, upTo limit: WallTime, isWaiting: Bool) throws -> Bool {
        let copied = composer.copied
        guard try composer.work(upTo: limit, isWaiting: isWaiting) else { return false }
        if composer.copied > copied { try tell(.copied(pictures: composer.copied)) }
        try tellReached(order.composite, composer.time)
        return true
    }

    /// So many pictures wait that they are composed before anything else is taken: a recording is being caught up with.
    public var isBehind: Bool { tracks.contains { !$0.isSound && $0.packets?.hasMany == true } }

    private func tellReached(_ rendition: LiveOrder.Rendition?, _ time: WallTime) throws {
        guard let rendition, let origin, time >= (told[rendition.job] ?? origin) + .seconds(1) else { return }
        told[rendition.job] = time
        try tell(.reached(job: rendition.job, from: origin, to: time))
    }

    private var shared: [LiveTrack] { tracks.filter { $0.isShared == true } }

    /// Everything before this moment has come out of all tracks.
    private func settledUpTo() -> WallTime? {
        let all = tracks.filter { $0.isShared != false }.map(\.settledUpTo)
        return all.contains(nil) ? nil : all.compactMap(\.self).min()
    }

    /// So far the recording lasts for certain: behind the last unit of all it may be over, however long ago that came.
    private func lastsUpTo(_ settled: WallTime) -> WallTime { min(settled, shared.compactMap(\.latest).max() ?? settled) }

    /// Pictures may be composed up to here.
    private func limit() -> WallTime? {
        guard let settled = settledUpTo() else { return nil }
        return order.soundOfComposite == nil ? lastsUpTo(settled) : mixer.map { min(settled, $0.mixedUpTo) }
    }

    private func mix() throws {
        guard let settled = settledUpTo() else { return }
        if let origin, (settled - origin).seconds > Self.secondsMax { throw StageFailure(code: .limitExceeded, what: "longer than there is room for its index") }
        try begin(before: settled)
        try attach()
        try mixer?.mix(upTo: lastsUpTo(settled))
        for track in tracks { track.writtenUpTo = mixer?.mixedUpTo }
        if let mixer { try tellReached(order.mix, mixer.mixedUpTo) }
    }

    /// Presentation time 0 is the first of all, once it is sure that nothing earlier comes.
    private func begin(before settled: WallTime) throws {
        guard origin == nil, let first = shared.compactMap({ $0.first?.time }).min(), first < settled else { return }
        let known = order.origin.flatMap { abs(($0 - first).count) <= Self.originTolerance.count ? $0 : nil }
        if known == nil { kept = [] }
        let origin = known ?? first
        self.origin = origin
        if let mix = order.mix { mixer = try LiveMixer(mix, origin: origin, sinks: mixSinks, peaksPerSecond: order.waveform?.parameters.peaksPerSecond) }
        guard let composite = order.composite, let compositeSink else { return }
        let composer = try LiveComposer(composite, origin: origin, sink: compositeSink, sound: order.soundOfComposite.flatMap { mixer?.writer($0) }, kept: kept) { [tell] in
            try tell(.chunk($0, origin: origin))
        }
        for room in rooms { composer.chunks.add(room) }
        (self.composer, kept, rooms) = (composer, [], [])
    }

    private func attach() throws {
        guard origin != nil else { return }
        for (place, track) in tracks.enumerated() where track.isShared == true && !attached.contains(track.id) {
            guard let packets = track.packets, let first = track.first else { continue }
            attached.insert(track.id)
            if track.isSound { try mixer?.add(packets, from: first.time) } else { try composer?.add(track, at: place, packets, first) }
        }
    }

    private func finish() throws {
        var made: Set<TrackID> = []
        for track in tracks {
            guard let result = try track.finish() else {
                if track.isShared != false, let trouble = track.trouble { return try tell(.trouble(trouble)) }
                continue
            }
            made.insert(track.id)
            try tell(.made(job: track.order.job, verified(result, [track.order.output], [track.expectation]), tracks: [track.id]))
        }
        try begin(before: WallTime(nanoseconds: .max))
        try attach()
        guard let end = shared.compactMap(\.end).max() else { return }
        let sounds = shared.filter { $0.isSound && made.contains($0.id) }.map(\.id), pictures = shared.filter { !$0.isSound && made.contains($0.id) }.map(\.id)
        if let mixer, let mix = order.mix, !sounds.isEmpty {
            try tell(.made(job: mix.job, verified(mixer.finish(end: end), mix.outputs, mixer.expectations), tracks: sounds))
            if let waveform = order.waveform, let waveformSink, let made = try mixer.finish(peaks: waveformSink) {
                try tell(.made(job: waveform.job, verified(made.result, waveform.outputs, [made.expectation]), tracks: []))
            }
        }
        if let composer, let composite = order.composite, !pictures.isEmpty, !sounds.isEmpty || order.soundOfComposite == nil {
            while try work(composer, upTo: end, isWaiting: false) {}
            try tell(.made(job: composite.job, verified(composer.finish(end: end), composite.outputs, [composer.expectation]), tracks: pictures))
        }
    }

    /// The result with what each file was found to be. Files of hours are looked at by their ends, so that this takes no longer for them.
    private func verified(_ result: StageResult, _ outputs: [StageOutput], _ expectations: [OutputExpectation?]) throws -> StageResult {
        var result = result
        for (place, output) in outputs.enumerated() {
            guard result.outputs.indices.contains(place), expectations.indices.contains(place), let expectation = expectations[place] else {
                throw StageFailure(code: .protocolViolation, what: "an output that says nothing of what it must turn out to be")
            }
            let verification = Verification(output: output, descriptor: descriptors[output.descriptor], bytes: result.outputs[place].bytes) { _ in }
            result.outputs[place].verified = try verification.ends(of: expectation)
        }
        return result
    }
}

extension MovieHead {
    /// The same where sound is alone, in chunks of a megabyte, or a second of pictures and a second of sound follow each other: sizes (4 bytes a
    /// sample), picture times (8), and two chunks (20 each) a second.
    static func live(seconds: Double, picturesPerSecond: Int) -> Int {
        let perSecond = 47.0 * 4 + (picturesPerSecond > 0 ? Double(picturesPerSecond) * 12 + 48 : 0)
        return 16_384 + Int(seconds * perSecond * 1.05)
    }
}
