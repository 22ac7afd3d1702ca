import FFmpeg
import Glibc
import Media
import Renditions
import SealedFile

/// Sets the pictures of a composite that is made while its recording runs aside, chunk by chunk, each in a file and under a key of its own.
///
/// A chunk ends where somebody comes into the picture, or after ``seconds``. Each is encoded by an encoder of its own, all with the same
/// parameters. Where there is no room a chunk becomes longer, and beyond ``secondsMax`` no more are made.
final class ChunkWriter {
    static let seconds = 60
    /// Within so much of a chunk somebody who comes is taken into it: at a meeting's beginning they all come.
    static let secondsMin = 10
    static let secondsMax = 300

    /// An empty file.
    final class Room {
        let output: StageOutput
        let descriptor: Int32
        init(_ output: StageOutput, _ descriptor: Int32) { (self.output, self.descriptor) = (output, descriptor) }
        deinit { close(descriptor) }
    }

    private final class Chunk {
        let start: Int
        var tracks: Set<TrackID>
        let room: Room
        var file: (sink: SealedSink, muxer: Muxer, stream: Int)?
        init(_ start: Int, _ tracks: Set<TrackID>, _ room: Room) { (self.start, self.tracks, self.room) = (start, tracks, room) }
    }

    private let encoder: Encoder
    private let rate: Int
    private let tell: (LiveChunk) throws -> Void
    private var rooms: [Room] = []
    /// Those whose pictures went into the encoder; the first is the one that packets come out of.
    private var chunks: [Chunk] = []
    private var shown: Set<TrackID> = []
    private var isOver = false

    init(_ encoder: Encoder, rate: Int, tell: @escaping (LiveChunk) throws -> Void) { (self.encoder, self.rate, self.tell) = (encoder, rate, tell) }

    func add(_ room: Room) { if !isOver { rooms.append(room) } }

    /// Before each picture that goes into the encoder, in order: whether it begins a chunk, and goes into another.
    func begins(at tick: Int, showing tracks: Set<TrackID>) -> Bool {
        guard !isOver else { return false }
        defer { shown = tracks }
        guard let last = chunks.last else { return begin(tick, tracks) }
        let age = tick - last.start
        if age >= Self.seconds * rate || age >= Self.secondsMin * rate && tracks != shown, begin(tick, tracks) { return true }
        last.tracks.formUnion(tracks)
        if age >= Self.secondsMax * rate { end() }
        return false
    }

    private func begin(_ tick: Int, _ tracks: Set<TrackID>) -> Bool {
        guard !rooms.isEmpty else {
            // A chunk has to follow another.
            if chunks.isEmpty { end() }
            return false
        }
        chunks.append(Chunk(tick, tracks, rooms.removeFirst()))
        return true
    }

    private func end() {
        isOver = true
        (rooms, chunks) = ([], [])
    }

    /// Takes a packet as it came out of the encoder, in its time base; it is as it was afterwards.
    func take(_ packet: borrowing Packet) throws {
        if packet.isKey, let next = chunks.first(where: { $0.file == nil }), packet.pts == next.start {
            if chunks.count > 1, let done = chunks.first, done.file != nil { try finish(done, upTo: next.start) }
            try open(next)
        }
        guard let chunk = chunks.first, let file = chunk.file else { return }
        let (pts, dts, duration) = (packet.pts, packet.dts, packet.duration)
        defer { (packet.pts, packet.dts, packet.duration) = (pts, dts, duration) }
        packet.pts = pts - Int64(chunk.start)
        packet.dts = dts - Int64(chunk.start)
        try file.muxer.append(packet, stream: file.stream, timeBase: encoder.timeBase)
    }

    private func open(_ chunk: Chunk) throws {
        let head = MovieHead.live(seconds: Double(Self.secondsMax + Self.seconds), picturesPerSecond: rate)
        let output = chunk.room.output
        let sink = try SealedSink(descriptor: chunk.room.descriptor, key: output.key, context: output.context, windowBytes: head + 4_096)
        let muxer = try Muxer(sink, as: .mp4, options: ["moov_size": String(head)])
        chunk.file = (sink, muxer, try muxer.addStream(encoder))
        try muxer.writeHeader()
    }

    private func finish(_ chunk: Chunk, upTo end: Int) throws {
        try chunk.file?.muxer.finish()
        try chunk.file?.sink.writer.close()
        chunks.removeFirst()
        try tell(LiveChunk(ticks: chunk.start..<end, tracks: chunk.tracks))
    }
}
