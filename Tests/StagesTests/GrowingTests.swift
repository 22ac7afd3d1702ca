import Depacketize
import FFmpeg
import Foundation
import Media
@testable import Stages
import Testing

@Suite("Packets of a track that grows")
struct GrowingTests {
    private func sound(_ units: [AccessUnit], _ packets: any PacketReading, seconds: Int, before each: (Int) -> Void = { _ in }) throws -> [Float] {
        let track = try TrackSound(packets, origin: 480, channels: 1)
        var all: [Float] = []
        for second in 0..<seconds {
            each(second)
            var block = [Float](repeating: 0, count: 48_000)
            try block.withUnsafeMutableBufferPointer { try track.add(to: $0, start: second * 48_000) }
            all += block
        }
        return all
    }

    @Test("sound that comes second by second is laid where that of the file is", arguments: [Codec.opus, .pcmu])
    func laid(codec: Codec) throws {
        let whole = try Coded.sound(codec, seconds: 6) { place, _ in 0.3 * sin(Float(place) * 2 * .pi * 440 / (codec.name == "opus" ? 48_000 : 8_000)) }
        // Somebody is silent for a second and a half, without sending.
        let units = whole.filter { $0.time < epoch + .seconds(3) || $0.time >= epoch + .milliseconds(4_500) }
        let file = try sound(units, FilePackets(MemoryFile.track(units), as: .matroska), seconds: 7)
        let packets = try #require(GrowingPackets(units[0]))
        var given = 0
        let growing = try sound(units, packets, seconds: 7) { second in
            // One second ahead, as the mix has it.
            while given < units.count, units[given].time < epoch + .seconds(Int64(second) + 2) {
                #expect(packets.append(units[given]))
                given += 1
            }
            packets.isOver = given == units.count
        }
        #expect(zip(file, growing).map { abs($0 - $1) }.max() ?? 1 < 1e-3)
        #expect(growing.map(abs).max() ?? 0 > 0.2)
    }

    @Test("pictures that come second by second are shown as those of the file are", arguments: [Codec.vp8, .h264])
    func shown(codec: Codec) throws {
        let units = try Coded.pictures(codec, 60) { UInt8(40 + 3 * $0) }
        let file = try TrackPictures(MemoryFile.track(units), startWall: units[0].time)
        let packets = try #require(GrowingPackets(units[0]))
        let growing = try TrackPictures(packets, startWall: units[0].time)
        var given = 0
        for tick in 0..<60 {
            let now = units[0].time + .milliseconds(Int64(tick) * 40)
            while given < units.count, units[given].time < now + .seconds(1) {
                #expect(packets.append(units[given]))
                given += 1
            }
            try file.advance(to: now)
            try growing.advance(to: now)
            // The file's times are milliseconds.
            let difference = try #require(growing.shownTime) - #require(file.shownTime)
            #expect(abs(difference.milliseconds) <= 1, "\(tick)")
        }
    }

    @Test("another codec is refused, and so is a beginning that is none")
    func refused() throws {
        let opus = try Coded.sound(.opus, seconds: 0.1) { _, _ in 0.1 }, pcmu = try Coded.sound(.pcmu, seconds: 0.1) { _, _ in 0.1 }
        #expect(try #require(GrowingPackets(opus[0])).append(pcmu[0]) == false)
        let pictures = try Coded.pictures(.vp8, 3) { UInt8(40 + 4 * $0) }
        #expect(GrowingPackets(pictures[1]) == nil)
    }
}
