import Depacketize
import FFmpeg
import Media
import Renditions

/// One participant's picture track and its place on the canvas.
final class Tile {
    private let pictures: TrackPictures
    private let scaler = Scaler()
    /// What is known of the track; that of a track that grows is set anew.
    var notes: Notes
    private let holdSeconds: Double
    /// A picture in its cell's size, to be turned.
    private var unturned: UnturnedPicture?
    private let text: String
    private var label: TextLabel
    private var cell: Cell
    private var drawn: Drawn = .nothing

    struct Cell: Hashable {
        var x, y, width, height: Int
    }

    struct Notes {
        var isScreen: Bool
        /// Of the first picture, in pixels.
        var width: Int?
        var height: Int?
        /// Moments from which on the placeholder is shown until the next picture.
        var blanks: [WallTime] = []
        var rotations: [TrackVerdict.Rotation] = []
        /// Where they are known beforehand.
        var resolutions: [TrackVerdict.Resolution] = []
    }

    private enum Drawn: Equatable { case nothing, placeholder, picture(WallTime) }

    /// `from`: the first moment that will be drawn.
    convenience init(_ source: any MediaSource, summary: TrackSummary, label: String?, cell: Cell, holdSeconds: Double, from: WallTime? = nil) throws {
        let size = summary.verdict.resolutions.first
        let notes = Notes(isScreen: summary.kind == .screen, width: size?.width, height: size?.height, blanks: summary.blanks, rotations: summary.verdict.rotations,
                          resolutions: summary.verdict.resolutions)
        try self.init(TrackPictures(source, startWall: summary.startWall, from: from), notes: notes, label: label, cell: cell, holdSeconds: holdSeconds)
    }

    init(_ pictures: TrackPictures, notes: Notes, label: String?, cell: Cell, holdSeconds: Double) throws {
        (self.pictures, self.notes, self.cell, self.holdSeconds) = (pictures, notes, cell, holdSeconds)
        text = label ?? ""
        self.label = try Self.label(text, notes, cell)
    }

    /// At most 7 % of the picture: a label must not hide what somebody shows.
    private static func label(_ text: String, _ notes: Notes, _ cell: Cell) throws -> TextLabel {
        let picture = fitted(notes.width ?? 4, notes.height ?? 3, into: cell)
        return try TextLabel(text.isEmpty ? " " : text, maxWidth: max(64, cell.width), height: max(14, picture.height * 7 / 200 * 2))
    }

    /// Takes another place on a canvas that is empty there.
    func move(to cell: Cell) throws {
        guard cell != self.cell || drawn != .nothing else { return }
        self.cell = cell
        label = try Self.label(text, notes, cell)
        (drawn, lastBox) = (.nothing, nil)
    }

    /// Goes to `now` without drawing.
    func pass(to now: WallTime) throws { try pictures.advance(to: now) }

    /// Brings the tile to `now` (a picture up to `tolerance` later is taken too); draws only what changed.
    func draw(on canvas: borrowing Frame, now: WallTime, tolerance: Nanoseconds) throws {
        try pictures.advance(to: now + tolerance)
        let shownTime = pictures.shownTime
        let blank = notes.blanks.last { $0 <= now }
        var visible = false
        if let shownTime {
            visible = blank.map { $0 < shownTime } ?? true
            if !notes.isScreen, (now - shownTime).seconds > holdSeconds { visible = false }
        }
        let wanted: Drawn = visible ? shownTime.map { .picture($0) } ?? .placeholder : .placeholder
        guard wanted != drawn else { return }
        let wasPicture = if case .picture = drawn { true } else { false }
        drawn = wanted
        var box = cell
        if visible {
            let turn = rotation(at: shownTime)
            let isAcross = turn % 180 != 0
            let (width, height) = (pictures.shown.width, pictures.shown.height)
            box = Self.fitted(isAcross ? height : width, isAcross ? width : height, into: cell)
            if !wasPicture || box != lastBox { canvas.fill(x: cell.x, y: cell.y, width: cell.width, height: cell.height, luma: 24) }
            if turn == 0 {
                try scaler.scale(pictures.shown, into: canvas, x: box.x, y: box.y, width: box.width, height: box.height)
            } else {
                try drawTurned(on: canvas, box, turn)
            }
            lastBox = box
        } else {
            canvas.fill(x: cell.x, y: cell.y, width: cell.width, height: cell.height, luma: 40)
            box = placeBox(at: now) ?? lastBox ?? cell
        }
        if !text.isEmpty {
            canvas.copy(label.frame, width: min(label.width, box.width), toX: box.x, y: box.y + box.height - label.frame.height)
        }
    }

    private var lastBox: Cell?

    /// Where a picture of the track's would be at `now`, if one came; so that the name stays where it was while there is none.
    private func placeBox(at now: WallTime) -> Cell? {
        guard let size = notes.resolutions.last(where: { $0.at <= now }) else { return nil }
        let isAcross = rotation(at: now) % 180 != 0
        return Self.fitted(isAcross ? size.height : size.width, isAcross ? size.width : size.height, into: cell)
    }

    /// Degrees clockwise, as the sender's camera was held then.
    private func rotation(at time: WallTime?) -> Int {
        guard let time, let last = notes.rotations.last(where: { $0.at <= time }) else { return 0 }
        return [90, 180, 270].contains(last.degrees) ? last.degrees : 0
    }

    /// Scaled first, since that leaves the fewest pixels to be turned.
    private func drawTurned(on canvas: borrowing Frame, _ box: Cell, _ turn: Int) throws {
        let (width, height) = turn == 180 ? (box.width, box.height) : (box.height, box.width)
        if unturned?.frame.width != width || unturned?.frame.height != height { unturned = try UnturnedPicture(width: width, height: height) }
        guard let unturned else { return }
        try scaler.scale(pictures.shown, into: unturned.frame, x: 0, y: 0, width: width, height: height)
        canvas.copy(unturned.frame, turnedClockwise: turn, toX: box.x, y: box.y)
    }

    private final class UnturnedPicture {
        let frame: Frame
        init(width: Int, height: Int) throws { frame = try Frame.picture(width: width, height: height) }
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
