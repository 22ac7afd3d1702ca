import CFFmpeg
import Depacketize
@testable import FFmpeg
import Foundation
import Media
import Renditions
@testable import Stages
import TestSupport
import Testing

@Suite("Pictures of tracks")
struct PictureTests {
    private static let codecs: [Codec] = [.vp8, .vp9, .h264, .h265, .av1]

    private func luma(_ frame: borrowing Frame, _ x: Int, _ y: Int) -> Int { Int(frame.raw.pointee.data.0![y * Int(frame.raw.pointee.linesize.0) + x]) }

    private func shifted(_ units: [AccessUnit], _ ms: Int64) -> [AccessUnit] {
        units.map { unit in
            var later = unit
            later.time = later.time + .milliseconds(ms)
            return later
        }
    }

    private func tile(_ units: [AccessUnit], cell: Tile.Cell, isChanging: Bool = false, blanks: [WallTime] = [], _ change: (inout TrackVerdict) -> Void = { _ in }) throws -> Tile {
        var verdict = TrackVerdict()
        change(&verdict)
        let summary = TrackSummary(kind: .video, codec: units[0].codec, startWall: epoch, endWall: units.last!.time, blanks: blanks, verdict: verdict)
        return try Tile(MemoryFile.track(units, isChanging: isChanging), summary: summary, label: nil, cell: cell, holdSeconds: 1)
    }

    @Test("each picture is shown from its own time on, whatever the decoder holds back", arguments: codecs)
    func times(codec: Codec) throws {
        let pictures = try TrackPictures(MemoryFile.track(Coded.pictures(codec, 40) { UInt8(40 + 4 * $0) }), startWall: epoch)
        for index in 0..<40 {
            for ms in [0, 39] {
                try pictures.advance(to: epoch + .milliseconds(Int64(40 * index + ms)))
                #expect(pictures.shownTime == epoch + .milliseconds(Int64(40 * index)))
                #expect(abs(luma(pictures.shown, 160, 120) - (40 + 4 * index)) <= 1)
            }
        }
        #expect(pictures.errors == 0)
    }

    @Test("codec and size may change in mid-track", arguments: zip(codecs, codecs.dropFirst() + codecs.prefix(1)))
    func changes(first: Codec, second: Codec) throws {
        let units = try Coded.pictures(first, 10) { _ in 60 } + shifted(Coded.pictures(second, 10, width: 160, height: 240) { _ in 120 }, 400)
            + shifted(Coded.pictures(first, 10, width: 640, height: 360) { _ in 200 }, 800)
        let tile = try tile(units, cell: .init(x: 0, y: 0, width: 320, height: 240), isChanging: true)
        let canvas = try Frame.picture(width: 320, height: 240)
        for (ms, center, edge) in [(380, 60, 60), (400, 120, 24), (780, 120, 24), (800, 200, 200), (1_160, 200, 200)] as [(Int64, Int, Int)] {
            try tile.draw(on: canvas, now: epoch + .milliseconds(ms), tolerance: .zero)
            #expect(abs(luma(canvas, 160, 120) - center) <= 1 && abs(luma(canvas, 8, 120) - edge) <= 1, "at \(ms) ms")
        }
    }

    @Test("a picture is turned as its sender said, and its shape with it", arguments: [0, 90, 180, 270, 45])
    func rotation(degrees: Int) throws {
        // Bright in the upper left quarter.
        var units = try Coded.pictures(.h264, 1)
        let encoder = try Encoder.h264(width: 320, height: 240, frameRate: 25, preset: "ultrafast", constantRateFactor: 10, threads: 1)
        let frame = try Frame.picture(width: 320, height: 240), packet = Packet()
        frame.fill(x: 0, y: 0, width: 320, height: 240, luma: 50)
        frame.fill(x: 0, y: 0, width: 160, height: 120, luma: 200)
        frame.pts = 0
        try encoder.send(frame)
        try encoder.drain()
        while try encoder.receive(into: packet) {
            let sets = UnsafeBufferPointer(start: encoder.context.pointee.extradata, count: Int(encoder.context.pointee.extradata_size))
            units = [0, 1].map { AccessUnit(payload: Array(sets) + Array(packet.bytes), codec: .h264, time: epoch + .milliseconds(40 * $0), isKey: true, width: 320, height: 240) }
        }
        let tile = try tile(units, cell: .init(x: 0, y: 0, width: 240, height: 240)) { $0.rotations = [.init(at: epoch + .milliseconds(20), degrees: degrees), .init(at: epoch + .seconds(2), degrees: 180)] }
        let canvas = try Frame.picture(width: 240, height: 240)
        canvas.fill(x: 0, y: 0, width: 240, height: 240, luma: 24)
        func quarters() -> [Bool] { [(100, 100), (140, 100), (140, 140), (100, 140)].map { luma(canvas, $0.0, $0.1) > 150 } }
        try tile.draw(on: canvas, now: epoch, tolerance: .zero)
        #expect(quarters() == [true, false, false, false])
        try tile.draw(on: canvas, now: epoch + .milliseconds(40), tolerance: .zero)
        let turns = degrees == 45 ? 0 : degrees / 90
        #expect(quarters() == (0..<4).map { $0 == turns })
        // 4:3 leaves bars above and below, 3:4 beside.
        #expect((luma(canvas, 120, 8) == 24) == (turns % 2 == 0) && (luma(canvas, 8, 120) == 24) == (turns % 2 == 1))
    }

    @Test("after a damaged picture the last good one stays until the next key picture", arguments: [Codec.h264, .h265, .av1], 0..<4 as Range<UInt64>)
    func damage(codec: Codec, seed: UInt64) throws {
        var random = Seeded(seed)
        let clean = try Coded.pictures(codec, 40, width: 160, height: 128) { _ in nil }
        let keys = clean.indices.filter { clean[$0].isKey }
        let hit = Int.random(in: 3...20, using: &random)
        var units = clean
        // A unit that ends too early. (VP8 and VP9 decoders take the rest for zeroes, as they take any wrong bits.)
        units[hit].payload.removeLast(units[hit].payload.count * Int.random(in: 40...90, using: &random) / 100)
        let whole = try TrackPictures(MemoryFile.track(clean), startWall: epoch), pictures = try TrackPictures(MemoryFile.track(units), startWall: epoch)
        for index in 0..<40 {
            let now = epoch + .milliseconds(Int64(40 * index))
            try whole.advance(to: now)
            try pictures.advance(to: now)
            let time = try #require(pictures.shownTime)
            if time == whole.shownTime {
                guard (0..<40).allSatisfy({ luma(whole.shown, $0 * 4, $0 * 3) == luma(pictures.shown, $0 * 4, $0 * 3) }) else {
                    Issue.record("a broken picture at \(index), \(hit) was hit")
                    return
                }
            } else {
                #expect(time < epoch + .milliseconds(Int64(40 * hit)))
            }
        }
        #expect(codec == .av1 || pictures.errors > 0)  // an OBU that ends too early does not even come into the file
        if let next = keys.first(where: { $0 > hit }) { #expect(pictures.shownTime! >= epoch + .milliseconds(Int64(40 * next))) }
    }

    @Test("what is no picture at all neither crashes nor shows", arguments: codecs, 0..<4 as Range<UInt64>)
    func hostile(codec: Codec, seed: UInt64) throws {
        var random = Seeded(seed)
        var units = try Coded.pictures(codec, 12, width: 160, height: 128) { _ in nil }
        for i in units.indices.dropFirst() {
            for _ in 0..<Int.random(in: 0...6, using: &random) where !units[i].payload.isEmpty {
                units[i].payload[Int.random(in: units[i].payload.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Bool.random(using: &random) { units[i].payload = random.bytes(Int.random(in: 1...2_000, using: &random)) }
        }
        let tile = try tile(units, cell: .init(x: 0, y: 0, width: 64, height: 48))
        let canvas = try Frame.picture(width: 64, height: 48)
        for index in 0..<40 { try tile.draw(on: canvas, now: epoch + .milliseconds(Int64(40 * index)), tolerance: .zero) }
    }

    @Test("all decoders that tracks need are there")
    func decoders() { #expect(Decoder.missing == []) }
}
