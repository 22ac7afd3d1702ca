import Depacketize
import FFmpeg
import Media
import PacketLog
import Renditions
import SealedFile

/// The picture of a recording that still runs: one continuous encode beside the mix's packets, in one MP4.
///
/// The grid has a cell for everybody whose picture has come; it is laid out anew when somebody's first picture does. What an earlier rendering
/// made of the same people is copied, and what is made is set aside for a later one (``ChunkWriter``).
final class LiveComposer {
    /// A cell is there so long before its first picture: then most grids are what they stay from their first picture on.
    static let lead = Nanoseconds.seconds(2)

    private let parameters: StageParameters
    private let origin: WallTime
    private let sink: SealedSink
    private let muxer: Muxer
    private var encoder: Encoder
    private let stream: Int
    private let sound: (writer: SoundWriter, stream: Int)?
    private let canvas: Frame
    private let packet = Packet()
    private var tiles: [(place: Int, track: LiveTrack, tile: Tile, from: WallTime)] = []
    private var shown = 0
    private var tick = 0
    private var kept: [Kept]
    /// Sets aside what is made.
    let chunks: ChunkWriter

    /// A chunk that was made before, and where it is read.
    struct Kept {
        var chunk: LiveChunk
        var file: SealedChunk
    }

    /// `kept` are in their order, from the first picture on; `tell` is told of each chunk that is set aside.
    init(_ rendition: LiveOrder.Rendition, origin: WallTime, sink: SealedSink, sound writer: SoundWriter?, kept: [Kept] = [], tell: @escaping (LiveChunk) throws -> Void = { _ in }) throws {
        (parameters, self.origin, self.sink) = (rendition.parameters, origin, sink)
        let head = MovieHead.live(seconds: LiveRendering.secondsMax, picturesPerSecond: parameters.frameRate)
        muxer = try Muxer(sink, as: .mp4, options: ["moov_size": String(head)])
        encoder = try Self.encoder(parameters)
        chunks = ChunkWriter(encoder, rate: parameters.frameRate, tell: tell)
        self.kept = kept
        stream = try muxer.addStream(encoder)
        if let writer {
            sound = (writer, try muxer.addStream(writer.encoder))
            writer.isKeeping = true
        } else {
            sound = nil
        }
        try muxer.writeHeader()
        canvas = try Frame.picture(width: parameters.width, height: parameters.height)
        canvas.fill(x: 0, y: 0, width: parameters.width, height: parameters.height, luma: 24)
    }

    private static func encoder(_ parameters: StageParameters) throws -> Encoder {
        try Encoder.h264(width: parameters.width, height: parameters.height, frameRate: parameters.frameRate, preset: parameters.preset,
                         constantRateFactor: parameters.constantRateFactor, threads: parameters.threads)
    }

    /// Pictures before this moment are composed.
    var time: WallTime { time(tick) }

    private func time(_ tick: Int) -> WallTime { origin + Nanoseconds(count: Int64(tick) * 1_000_000_000 / Int64(parameters.frameRate)) }

    /// Somebody's first picture has come; `place` is the track's in the order.
    func add(_ track: LiveTrack, at place: Int, _ packets: any PacketReading, _ first: AccessUnit) throws {
        guard tiles.count < StageRun.tilesMax else { throw StageFailure(code: .limitExceeded, what: "more than \(StageRun.tilesMax) pictures") }
        let notes = Tile.Notes(isScreen: track.order.identity.kind == .screen, width: first.width, height: first.height)
        let whole = Tile.Cell(x: 0, y: 0, width: parameters.width, height: parameters.height)
        let tile = try Tile(TrackPictures(packets, startWall: first.time), notes: notes, label: track.order.label, cell: whole, holdSeconds: parameters.holdSeconds)
        tiles.append((place, track, tile, first.time))
        // In the order of the tracks, whoever came first.
        tiles.sort { $0.place < $1.place }
    }

    /// Pictures that were copied and not made.
    private(set) var copied = 0

    /// Composes the second of pictures that comes next, or passes a second of what was made before; false where that does not lie before `limit`.
    /// `isWaiting`: there may be more behind `limit` in a moment.
    func work(upTo limit: WallTime, isWaiting: Bool = true) throws -> Bool {
        if let next = kept.first {
            if tick == next.chunk.ticks.lowerBound, time(next.chunk.ticks.upperBound) > limit {
                // Whoever is in it must have come before it can be told whether it is the one.
                if isWaiting { return false }
                kept = []
            } else if tick > next.chunk.ticks.lowerBound || agrees(next.chunk) {
                try pass(next)
                return true
            } else {
                kept = []
            }
        }
        guard time + .seconds(1) <= limit else { return false }
        let end = time + .seconds(1)
        while time(tick + 1) <= end { try draw() }
        return true
    }

    /// Whether the pictures of a chunk are those that would be made: it goes on from here, everybody who has come by its last picture is in it,
    /// and nobody who has not come at all.
    private func agrees(_ chunk: LiveChunk) -> Bool {
        let come = Set(tiles.map(\.track.id)), due = Set(tiles.filter { $0.from <= time(chunk.ticks.upperBound - 1) }.map(\.track.id))
        return chunk.ticks.lowerBound == tick && !chunk.ticks.isEmpty && due.isSubset(of: chunk.tracks) && chunk.tracks.isSubset(of: come)
    }

    /// Goes a second on in a chunk. What comes in is decoded, since the pictures behind it refer to it; nothing is drawn or encoded. At its end
    /// its packets are copied.
    private func pass(_ kept: Kept) throws {
        tick = min(tick + parameters.frameRate, kept.chunk.ticks.upperBound)
        for one in tiles { try one.tile.pass(to: time(tick - 1)) }
        guard tick == kept.chunk.ticks.upperBound else { return }
        let copy = try PictureCopy(kept.file.source(), into: muxer, stream: stream, rate: parameters.frameRate, at: kept.chunk.ticks)
        try copy.copy(amongEncoded: true) { tick in
            if tick % parameters.frameRate == 0 { try copySound(upTo: Double(tick) / Double(parameters.frameRate)) }
        }
        copied += kept.chunk.ticks.count
        self.kept.removeFirst()
    }

    private func draw() throws {
        let now = time(tick)
        let half = Nanoseconds(count: 500_000_000 / Int64(parameters.frameRate))
        try canvas.makeWritable()
        let there = tiles.filter { $0.from <= now + Self.lead }
        if there.count != shown {
            shown = there.count
            canvas.fill(x: 0, y: 0, width: parameters.width, height: parameters.height, luma: 24)
            for (one, cell) in zip(there, Tile.grid(there.count, width: parameters.width, height: parameters.height)) { try one.tile.move(to: cell) }
        }
        for one in there {
            one.tile.notes.blanks = one.track.blanks
            one.tile.notes.rotations = one.track.verdict.rotations
            try one.tile.draw(on: canvas, now: now, tolerance: half)
        }
        canvas.pts = Int64(tick)
        if chunks.begins(at: tick, showing: Set(there.map(\.track.id))), tick > 0 {
            // Another one, so that the pictures before know nothing of those behind, not even in how many bits they take.
            try encoder.drain()
            try collect()
            encoder = try Self.encoder(parameters)
        }
        tick += 1
        try encoder.send(canvas)
        try collect()
        // A second of each at a time: players read ahead by more, and the index stays small.
        if tick % parameters.frameRate == 0 { try copySound(upTo: Double(tick) / Double(parameters.frameRate)) }
    }

    private func collect() throws {
        while try encoder.receive(into: packet) {
            packet.duration = 1
            try chunks.take(packet)
            try muxer.append(packet, stream: stream, timeBase: encoder.timeBase)
        }
    }

    private func copySound(upTo seconds: Double) throws {
        guard let (writer, place) = sound else { return }
        try writer.copies(upTo: seconds) {
            try muxer.append($0, stream: place, timeBase: writer.encoder.timeBase)
            soundPackets += 1
        }
    }

    /// What the file must turn out to be; known after ``finish(end:)``.
    private(set) var expectation: OutputExpectation?
    private var soundPackets = 0

    func finish(end: WallTime) throws -> StageResult {
        let ticks = Int(((end - origin).seconds * Double(parameters.frameRate)).rounded(.up))
        while tick < ticks { try draw() }
        try encoder.drain()
        try collect()
        try copySound(upTo: .infinity)
        try muxer.finish()
        let digest = try sink.writer.finish()
        expectation = .movie(pictures: ticks, frameRate: parameters.frameRate, soundPackets: sound.map { _ in soundPackets }, depth: .keyPictures)
        let duration = Nanoseconds(count: Int64(ticks) * 1_000_000_000 / Int64(parameters.frameRate))
        return StageResult(outputs: [StageRun.report(digest, start: origin, duration: duration, frames: ticks, width: parameters.width, height: parameters.height)])
    }
}
