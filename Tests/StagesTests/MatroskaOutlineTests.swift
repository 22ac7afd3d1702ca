import Depacketize
@testable import FFmpeg
import Foundation
import Media
import SealedFile
@testable import Stages
import TestSupport
import Testing

@Suite("Structure of track files")
struct MatroskaOutlineTests {
    private static func demuxed(_ bytes: [UInt8]) throws -> (packets: Int, lastMs: Int64) {
        let demuxer = try Demuxer(MemorySink(bytes), as: .matroska)
        let packet = Packet()
        var (count, last): (Int, Int64) = (0, .min)
        while try demuxer.read(into: packet) { (count, last) = (count + 1, max(last, packet.pts)) }
        return (count, last)
    }

    /// The place of the first element of this name from `start` on.
    private static func place(of id: [UInt8], in bytes: [UInt8], from start: Int = 0) throws -> Int {
        try #require(Data(bytes[start...]).range(of: Data(id))).lowerBound + start
    }

    /// The place of the last byte of the number that an element of this name holds.
    private static func number(_ id: [UInt8], in bytes: [UInt8], from start: Int) throws -> Int {
        let place = try place(of: id, in: bytes, from: start) + id.count
        return place + Int(bytes[place] & 0x7F)
    }

    private func fault(_ bytes: [UInt8]) -> String? {
        do {
            _ = try MatroskaOutline(MemorySink(bytes))
            return nil
        } catch {
            return (error as? MatroskaOutline.Fault)?.description ?? "another error: \(error)"
        }
    }

    @Test("of every codec it counts the packets that a demuxer finds, and their last time", arguments: [Codec.opus, .pcmu, .g722, .vp8, .vp9, .h264, .h265, .av1])
    func counts(codec: Codec) throws {
        let units = codec.isSound ? try Coded.sound(codec, seconds: 12) { i, _ in 0.3 * sin(Float(i) * 0.13) } : try Coded.pictures(codec, 60, luma: { _ in nil })
        let bytes = try MemoryFile.track(units).bytes
        let (outline, found) = (try MatroskaOutline(MemorySink(bytes)), try Self.demuxed(bytes))
        #expect(outline.packets == units.count && outline.packets == found.packets)
        // A demuxer takes the decoder's delay off.
        #expect(abs(outline.lastMs - found.lastMs) <= (codec == .opus ? 7 : 0) && outline.isInOrder && outline.indexed > 0)
    }

    @Test("of a track whose codec changes it counts all streams")
    func change() throws {
        var units = try Coded.pictures(.vp8, 20, luma: { _ in nil })
        let later = try Coded.pictures(.h264, 20, luma: { _ in nil })
        units += later.map { unit in
            var unit = unit
            unit.time = unit.time + .seconds(30)
            return unit
        }
        let outline = try MatroskaOutline(MemorySink(MemoryFile.track(units, isChanging: true).bytes))
        #expect(outline.packets == 40 && outline.isInOrder && outline.indexed >= 2)
    }

    @Test("groups, checksums and pictures that are predicted from later ones are read as well")
    func foreign() throws {
        let bytes = try FinishedFile.make(.matroska)
        let outline = try MatroskaOutline(MemorySink(bytes))
        #expect(try outline.packets == Self.demuxed(bytes).packets && outline.indexed > 0 && !outline.isInOrder)
    }

    @Test("an index, a seek head, a cluster or a segment that leads somewhere else is found, and so is a file that ends too soon")
    func wrong() throws {
        let bytes = try MemoryFile.track(Coded.pictures(.vp8, 60, luma: { _ in nil })).bytes
        #expect(fault(bytes) == nil)
        func changed(_ place: Int, _ change: (inout UInt8) -> Void) -> String? {
            var copy = bytes
            change(&copy[place])
            return fault(copy)
        }
        let cluster = try Self.place(of: [0x1F, 0x43, 0xB6, 0x75], in: bytes)
        // Behind it: the seek head names the cues as well.
        let cues = try Self.place(of: [0x1C, 0x53, 0xBB, 0x6B], in: bytes, from: cluster)
        let cue = try Self.place(of: [0xB3], in: bytes, from: cues)
        for id in [0xB3, 0xF7, 0xF1, 0xF0] as [UInt8] {
            let place = try Self.number([id], in: bytes, from: cue)
            #expect(changed(place) { $0 ^= 1 } != nil, "a cue's element \(id)")
        }
        let seek = try Self.number([0x53, 0xAC], in: bytes, from: 0)
        #expect(changed(seek) { $0 ^= 1 } != nil)
        let sizeBytes = bytes[cluster + 4].leadingZeroBitCount + 1
        for change in [1, -1] { #expect(changed(cluster + 3 + sizeBytes) { $0 = $0 &+ UInt8(truncatingIfNeeded: change) } != nil) }
        #expect(fault(Array(bytes.dropLast()))?.contains("segment") == true || fault(Array(bytes.dropLast()))?.contains("longer") == true)
        #expect(fault(bytes + [0xEC, 0x80])?.contains("segment ends") == true)
    }

    @Test("what is no Matroska at all, or was changed anywhere, is read to an end or refused", arguments: 0..<300 as Range<UInt64>)
    func hostile(seed: UInt64) throws {
        var random = Seeded(seed)
        var bytes = seed % 3 == 0 ? random.bytes(Int.random(in: 0...400, using: &random)) : Self.sample
        for _ in 0..<Int.random(in: 1...8, using: &random) where !bytes.isEmpty { bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
        if seed % 5 == 0 { bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random))) }
        do { _ = try MatroskaOutline(MemorySink(bytes)) } catch { #expect(error is MatroskaOutline.Fault) }
    }

    private static let sample: [UInt8] = (try? MemoryFile.track(Coded.pictures(.vp8, 6, luma: { _ in nil })).bytes) ?? []
}
