import FFmpeg
import Media
import Renditions
import SealedFile

extension StageRun {
    /// Most tiles of one picture.
    static let tilesMax = 49

    /// All picture tracks in a grid, H.264, with the mix beside it, in an MP4 that plays while it loads.
    func compose() throws -> StageResult {
        let span = try span()
        let parameters = order.parameters
        let pictures = order.inputs.filter { if case .track(_, let summary) = $0.content { summary.kind != .audio } else { false } }
        guard !pictures.isEmpty else { throw StageFailure(code: .nothingToDo, what: "no picture was recorded") }
        guard pictures.count <= Self.tilesMax else { throw StageFailure(code: .limitExceeded, what: "\(pictures.count) pictures", hint: "at most \(Self.tilesMax) fit a grid") }
        let cells = Tile.grid(pictures.count, width: parameters.width, height: parameters.height)
        let tiles = try zip(pictures, cells).compactMap { input, cell -> Tile? in
            guard case .track(let context, let summary) = input.content else { return nil }
            return try Tile(source(input, context), summary: summary, label: input.label, cell: cell, holdSeconds: parameters.holdSeconds)
        }

        let output = try output()
        let rate = parameters.frameRate
        let head = MovieHead.bytes(seconds: span.duration.seconds, picturesPerSecond: rate)
        let sink = try sink(output, windowBytes: head + 4_096)
        let muxer = try Muxer(sink, as: .mp4, options: ["moov_size": String(head)])
        let encoder = try Encoder.h264(width: parameters.width, height: parameters.height, frameRate: rate, preset: parameters.preset,
                                       constantRateFactor: parameters.constantRateFactor, threads: parameters.threads)
        let stream = try muxer.addStream(encoder)
        let sound = try mixedSound(muxer)
        try muxer.writeHeader()

        let canvas = try Frame.picture(width: parameters.width, height: parameters.height)
        canvas.fill(x: 0, y: 0, width: parameters.width, height: parameters.height, luma: 24)
        let packet = Packet()
        let ticks = Int((span.duration.seconds * Double(rate)).rounded(.up))
        let half = Nanoseconds(count: 500_000_000 / Int64(rate))
        for tick in 0..<ticks {
            let now = span.start + Nanoseconds(count: Int64(tick) * 1_000_000_000 / Int64(rate))
            try canvas.makeWritable()
            for tile in tiles { try tile.draw(on: canvas, now: now, tolerance: half) }
            canvas.pts = Int64(tick)
            try encoder.send(canvas)
            while try encoder.receive(into: packet) {
                packet.duration = 1
                try muxer.write(packet, stream: stream, timeBase: encoder.timeBase)
            }
            try sound?.copy(upTo: Double(tick) / Double(rate))
            progress(Double(tick) / Double(ticks))
        }
        try encoder.drain()
        while try encoder.receive(into: packet) {
            packet.duration = 1
            try muxer.write(packet, stream: stream, timeBase: encoder.timeBase)
        }
        try sound?.copy(upTo: .infinity)
        try muxer.finish()
        let digest = try sink.writer.finish()
        expect(output, .movie(pictures: ticks, frameRate: rate, soundPackets: sound?.copied, depth: .all))
        let duration = Nanoseconds(count: Int64(ticks) * 1_000_000_000 / Int64(rate))
        return StageResult(outputs: [Self.report(digest, start: span.start, duration: duration, frames: ticks, width: parameters.width, height: parameters.height)])
    }

    private func mixedSound(_ muxer: Muxer) throws -> SoundCopy? {
        for input in order.inputs {
            guard case .rendition(let context, let start) = input.content else { continue }
            return try SoundCopy(source(input, context), into: muxer, after: try start - span().start)
        }
        return nil
    }
}

/// Copies the mix's packets beside the picture, without encoding them again.
final class SoundCopy {
    private let demuxer: Demuxer
    private let muxer: Muxer
    private let stream: Demuxer.Stream
    private let target: Int
    private let packet = Packet()
    private var isWaiting = false
    /// Packets that were copied.
    private(set) var copied = 0
    /// How much later than the picture the mix begins, in its time base; 0 unless the two were planned apart.
    private let offset: Int64

    init(_ source: any MediaSource, into muxer: Muxer, after delay: Nanoseconds) throws {
        demuxer = try Demuxer(source, as: .mp4)
        guard let audio = demuxer.streams.first(where: \.isAudio) else { throw StageFailure(code: .damagedInput, what: "a mix without sound") }
        stream = audio
        self.muxer = muxer
        target = try muxer.addStream(copying: audio)
        offset = Int64((delay.seconds / audio.timeBase.value).rounded())
    }

    func copy(upTo seconds: Double) throws {
        while true {
            if !isWaiting {
                guard try demuxer.read(into: packet) else { return }
                isWaiting = packet.streamIndex == stream.index
                packet.pts += offset
                packet.dts += offset
                continue
            }
            guard Double(packet.dts) * stream.timeBase.value <= seconds else { return }
            try muxer.write(packet, stream: target, timeBase: stream.timeBase)
            copied += 1
            isWaiting = false
        }
    }
}
