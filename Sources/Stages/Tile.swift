import Depacketize
import FFmpeg
import Media
import Renditions

/// One participant's picture track and its place on the canvas.
final class Tile {
    private let demuxer: Demuxer
    private let decoder: Decoder
    private let stream: Demuxer.Stream
    private let scaler = Scaler()
    private let summary: TrackSummary
    private let holdSeconds: Double
    private let packet = Packet()
    private let decoded = Frame()
    /// The newest decoded picture whose time has come.
    private let shown = Frame()
    private var shownTime: WallTime?
    private let label: TextLabel
    private var hasLabel: Bool
    private let cell: Cell
    private var waiting: WallTime?
    private var isOver = false
    private var drawn: Drawn = .nothing
    /// Packets that could not be decoded.
    private(set) var errors = 0

    struct Cell: Hashable {
        var x, y, width, height: Int
    }

    private enum Drawn: Equatable { case nothing, placeholder, picture(WallTime) }

    init(_ source: any MediaSource, summary: TrackSummary, label: String?, cell: Cell, holdSeconds: Double) throws {
        demuxer = try Demuxer(source, as: .matroska)
        guard let video = demuxer.streams.first(where: \.isVideo) else { throw StageFailure(code: .damagedInput, what: "a picture track without pictures") }
        stream = video
        decoder = try Decoder(video)
        (self.summary, self.cell, self.holdSeconds) = (summary, cell, holdSeconds)
        let text = label ?? ""
        hasLabel = !text.isEmpty
        // At most 7 % of the picture: a label must not hide what somebody shows.
        let size = summary.verdict.resolutions.first
        let picture = Self.fitted(size?.width ?? 4, size?.height ?? 3, into: cell)
        self.label = try TextLabel(text.isEmpty ? " " : text, maxWidth: max(64, cell.width), height: max(14, picture.height * 7 / 200 * 2))
    }

    /// Brings the tile to `now` (a picture up to `tolerance` later is taken too); draws only what changed.
    func draw(on canvas: borrowing Frame, now: WallTime, tolerance: Nanoseconds) throws {
        try advance(to: now + tolerance)
        let blank = summary.blanks.last { $0 <= now }
        var visible = false
        if let shownTime {
            visible = blank.map { $0 < shownTime } ?? true
            if summary.kind != .screen, (now - shownTime).seconds > holdSeconds { visible = false }
        }
        let wanted: Drawn = visible ? shownTime.map { .picture($0) } ?? .placeholder : .placeholder
        guard wanted != drawn else { return }
        let wasPicture = if case .picture = drawn { true } else { false }
        drawn = wanted
        var box = cell
        if visible {
            box = Self.fitted(shown.width, shown.height, into: cell)
            if !wasPicture || box != lastBox { canvas.fill(x: cell.x, y: cell.y, width: cell.width, height: cell.height, luma: 24) }
            try scaler.scale(shown, into: canvas, x: box.x, y: box.y, width: box.width, height: box.height)
            lastBox = box
        } else {
            canvas.fill(x: cell.x, y: cell.y, width: cell.width, height: cell.height, luma: 40)
            if let lastBox { box = lastBox }
        }
        if hasLabel {
            canvas.copy(label.frame, width: min(label.width, box.width), toX: box.x, y: box.y + box.height - label.frame.height)
        }
    }

    private var lastBox: Cell?

    /// Decodes up to the last picture at or before `limit`.
    private func advance(to limit: WallTime) throws {
        while !isOver {
            if waiting == nil {
                guard try demuxer.read(into: packet) else {
                    isOver = true
                    return
                }
                guard packet.streamIndex == stream.index, packet.hasTime else { continue }
                waiting = summary.startWall + Nanoseconds(seconds: Double(packet.pts) * stream.timeBase.value)
            }
            guard let time = waiting, time <= limit else { return }
            waiting = nil
            do {
                try decoder.send(packet)
                while try decoder.receive(into: decoded) {
                    shown.swap(decoded)
                    shownTime = time
                }
            } catch {
                errors += 1  // the picture before stays until a good one comes
            }
        }
    }

    /// The largest place of the picture's shape within a cell, in even pixels, in the middle.
    static func fitted(_ width: Int, _ height: Int, into cell: Cell) -> Cell {
        let scale = min(Double(cell.width) / Double(max(width, 1)), Double(cell.height) / Double(max(height, 1)))
        let (w, h) = (max(2, Int(Double(width) * scale) / 2 * 2), max(2, Int(Double(height) * scale) / 2 * 2))
        return Cell(x: cell.x + (cell.width - w) / 4 * 2, y: cell.y + (cell.height - h) / 4 * 2, width: w, height: h)
    }

    /// The cells of a grid of `count` tiles: as many columns as the square root asks for.
    static func grid(_ count: Int, width: Int, height: Int) -> [Cell] {
        var columns = 1
        while columns * columns < count { columns += 1 }
        let rows = (count + columns - 1) / columns
        let (w, h) = (width / columns / 2 * 2, height / rows / 2 * 2)
        return (0..<count).map { Cell(x: $0 % columns * w, y: $0 / columns * h, width: w, height: h) }
    }
}
