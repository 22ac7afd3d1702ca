import FFmpeg
import Media
import Renditions

/// The grid of a recording's pictures, encoded from one tick of its frame rate to another.
///
/// A stretch that begins in the middle decodes each track from its last key frame on and draws what an uninterrupted run would have drawn:
/// nothing of a tile depends on what was drawn before.
final class Composer {
    private let tiles: [Tile]
    private let canvas: Frame
    private let start: WallTime
    private let rate: Int
    let encoder: Encoder
    private let packet = Packet()

    init(_ run: StageRun, from tick: Int) throws {
        let parameters = run.order.parameters
        start = try run.span().start
        rate = parameters.frameRate
        let pictures = run.order.inputs.filter { if case .track(_, let summary) = $0.content { summary.kind != .audio } else { false } }
        guard !pictures.isEmpty else { throw StageFailure(code: .nothingToDo, what: "no picture was recorded") }
        guard pictures.count <= StageRun.tilesMax else {
            throw StageFailure(code: .limitExceeded, what: "\(pictures.count) pictures", hint: "at most \(StageRun.tilesMax) fit a grid")
        }
        let cells = Tile.grid(pictures.count, width: parameters.width, height: parameters.height)
        let begin = Self.time(tick, rate, start)
        tiles = try zip(pictures, cells).compactMap { input, cell -> Tile? in
            guard case .track(let context, let summary) = input.content else { return nil }
            return try Tile(run.source(input, context), summary: summary, label: input.label, cell: cell, holdSeconds: parameters.holdSeconds, from: tick > 0 ? begin : nil)
        }
        encoder = try Encoder.h264(width: parameters.width, height: parameters.height, frameRate: rate, preset: parameters.preset,
                                   constantRateFactor: parameters.constantRateFactor, threads: parameters.threads)
        canvas = try Frame.picture(width: parameters.width, height: parameters.height)
        canvas.fill(x: 0, y: 0, width: parameters.width, height: parameters.height, luma: 24)
    }

    private static func time(_ tick: Int, _ rate: Int, _ start: WallTime) -> WallTime { start + Nanoseconds(count: Int64(tick) * 1_000_000_000 / Int64(rate)) }

    /// Encodes `ticks`; `write` gets each packet, with times counted from the first of them in ticks, and `each` each tick when it is in the encoder.
    func encode(_ ticks: Range<Int>, write: (borrowing Packet) throws -> Void, each: (Int) throws -> Void) throws {
        let half = Nanoseconds(count: 500_000_000 / Int64(rate))
        func collect() throws {
            while try encoder.receive(into: packet) {
                packet.duration = 1
                try write(packet)
            }
        }
        for tick in ticks {
            try canvas.makeWritable()
            for tile in tiles { try tile.draw(on: canvas, now: Self.time(tick, rate, start), tolerance: half) }
            canvas.pts = Int64(tick - ticks.lowerBound)
            try encoder.send(canvas)
            try collect()
            try each(tick)
        }
        try encoder.drain()
        try collect()
    }
}
