import FFmpeg
@testable import Stages
import TestSupport
import Testing

@Suite("Parts of the stages")
struct StagesTests {
    @Test("the limiter keeps every sample below its ceiling, and leaves quiet sound as it was", arguments: 0..<6 as Range<UInt64>)
    func limiter(seed: UInt64) {
        var random = Seeded(seed)
        var limiter = PeakLimiter(ceiling: 0.5, channels: 1)
        let loud = (0..<20_000).map { i in Float.random(in: -1...1, using: &random) * (i % 5_000 < 300 ? 2 : 0.2) }
        var out: [Float] = []
        for start in stride(from: 0, to: loud.count, by: 700) {
            var block = Array(loud[start..<min(start + 700, loud.count)])
            limiter.process(&block)
            out += block
        }
        #expect(out.allSatisfy { abs($0) <= 0.5001 })
        #expect(zip(out[3_000..<4_500], loud[(3_000 - PeakLimiter.delay)...]).allSatisfy { abs($0 - $1) < 1e-4 })
        var calm = PeakLimiter(ceiling: 0.5, channels: 2)
        var quiet = (0..<2_000).map { Float($0) / 10_000 }
        let before = quiet
        calm.process(&quiet)
        #expect(Array(quiet.dropFirst(PeakLimiter.delay * 2)) == Array(before.dropLast(PeakLimiter.delay * 2)))
    }

    @Test("a grid has room for everybody, without overlaps, in even pixels", arguments: 1...49)
    func grid(count: Int) {
        let cells = Tile.grid(count, width: 1280, height: 720)
        #expect(cells.count == count)
        for cell in cells {
            #expect(cell.x % 2 == 0 && cell.y % 2 == 0 && cell.width % 2 == 0 && cell.height % 2 == 0)
            #expect(cell.x + cell.width <= 1280 && cell.y + cell.height <= 720 && cell.width > 100)
            #expect(cells.filter { $0.x < cell.x + cell.width && cell.x < $0.x + $0.width && $0.y < cell.y + cell.height && cell.y < $0.y + $0.height }.count == 1)
        }
    }

    @Test("a picture keeps its shape within its cell")
    func fitted() {
        let cell = Tile.Cell(x: 640, y: 0, width: 640, height: 720)
        #expect(Tile.fitted(320, 240, into: cell) == Tile.Cell(x: 640, y: 120, width: 640, height: 480))
        #expect(Tile.fitted(240, 320, into: cell) == Tile.Cell(x: 690, y: 0, width: 540, height: 720))
        #expect(Tile.fitted(0, 0, into: cell).width >= 2)
    }

    @Test("peaks are the lowest and highest sample of each stretch")
    func peaks() {
        var peaks = Peaks(samplesPerPoint: 4)
        var samples: [Float] = [0, 0.5, -1, 0.25, 1, 1]
        samples.withUnsafeMutableBufferPointer { peaks.add($0) }
        #expect(String(decoding: peaks.json(), as: UTF8.self) == #"{"version":2,"channels":1,"sample_rate":48000,"samples_per_pixel":4,"bits":8,"length":2,"data":[-127,64,0,127]}"#)
    }

    @Test("labels of any text are drawn and never wider than their place",
          arguments: ["Anna", "", "it's: 50%, \\ [x];'", "Ünïcödé 😀", "שלום", String(repeating: "long ", count: 60), "a\nb\u{0}c", "%{pts}"])
    func labels(text: String) throws {
        let label = try TextLabel(text.isEmpty ? " " : text, maxWidth: 200, height: 24)
        #expect(label.width <= 200 && label.width % 2 == 0)
        #expect((label.frame.width, label.frame.height) == (200, 24))
    }
}
