import Depacketize
import FFmpeg
import Foundation
import Glibc
import Media
import Renditions
import SealedFile
@testable import Stages
import TestSupport
import Testing

@Suite("Verification of what was written")
struct VerificationTests {
    private let folder: TemporaryFolder
    private let key = DataKey.random()
    private let context = SealedContext(recording: .random(), object: "rendition:a", modality: "composite", part: "picture")

    init() throws { folder = try TemporaryFolder() }

    /// Seals `plaintext`, has `harm` done to the file, and verifies it.
    private func verify(_ plaintext: [UInt8], _ container: StageOutput.Container, _ expectation: OutputExpectation, harm: (Int32) throws -> Void = { _ in }) throws -> OutputVerification {
        let descriptor = open(folder.path + "/file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        let writer = try SealedWriter(descriptor: descriptor, key: key, context: context)
        try writer.append(plaintext)
        _ = try writer.finish()
        try harm(descriptor)
        let output = StageOutput(descriptor: 0, key: key, context: context, container: container)
        return try Verification(output: output, descriptor: descriptor, bytes: Int64(plaintext.count)) { _ in }.check(expectation)
    }

    private func why(_ body: () throws -> OutputVerification) -> StageFailure.Code? {
        do {
            _ = try body()
            return nil
        } catch {
            return (error as? StageFailure)?.code
        }
    }

    /// Packets of the file's sound, as a demuxer counts them.
    private func soundPackets(_ bytes: [UInt8], _ container: Demuxer.Container) throws -> Int {
        let demuxer = try Demuxer(MemorySink(bytes), as: container)
        let streams = demuxer.streams
        let sound = try #require(streams.first { $0.isAudio })
        let packet = Packet()
        var count = 0
        while try demuxer.read(into: packet) { count += packet.streamIndex == sound.index ? 1 : 0 }
        return count
    }

    @Test("a whole film passes with its figures; one picture more or less, or at another rate, does not", arguments: [OutputExpectation.Depth.all, .keyPictures])
    func film(depth: OutputExpectation.Depth) throws {
        let bytes = try FinishedFile.make(.mp4)
        let sound = try soundPackets(bytes, .mp4)
        let found = try verify(bytes, .mp4, .movie(pictures: 50, frameRate: 25, soundPackets: sound, depth: depth))
        #expect(found.packets == 50 + sound && found.pictures == (depth == .all ? 50 : 1))
        #expect(abs((found.samples ?? 0) - 96_000) <= 2_048)
        for pictures in [49, 51] { #expect(why { try verify(bytes, .mp4, .movie(pictures: pictures, frameRate: 25, soundPackets: sound, depth: depth)) } == .notVerified) }
        #expect(why { try verify(bytes, .mp4, .movie(pictures: 50, frameRate: 30, soundPackets: sound, depth: depth)) } == .notVerified)
        #expect(why { try verify(bytes, .mp4, .movie(pictures: 50, frameRate: 25, soundPackets: sound - 1, depth: depth)) } == .notVerified)
        #expect(why { try verify(bytes, .mp4, .movie(pictures: 50, frameRate: 25, soundPackets: nil, depth: depth)) } == .notVerified)
    }

    @Test("sound passes up to a frame of its codec", arguments: [StageOutput.Container.mp4, .ogg])
    func sound(container: StageOutput.Container) throws {
        let bytes = try FinishedFile.make(container == .mp4 ? .mp4 : .ogg, picture: false)
        let packets = try soundPackets(bytes, container == .mp4 ? .mp4 : .ogg)
        let found = try verify(bytes, container, .sound(packets: packets, samples: 96_000))
        #expect(found.packets == packets && abs((found.samples ?? 0) - 96_000) <= 1_024)
        #expect(why { try verify(bytes, container, .sound(packets: packets, samples: 96_000 + 2_049)) } == .notVerified)
        #expect(why { try verify(bytes, container, .sound(packets: packets + 1, samples: 96_000)) } == .notVerified)
    }

    @Test("a byte that changed on the disk, a cut file and another key are found, wherever they are", arguments: [60, 5_000, -20])
    func harmed(place: Int) throws {
        let bytes = try FinishedFile.make(.mp4)
        let expectation = OutputExpectation.movie(pictures: 50, frameRate: 25, soundPackets: try soundPackets(bytes, .mp4), depth: .all)
        #expect(why { try verify(bytes, .mp4, expectation) { try flip($0, at: place < 0 ? DescriptorIO.size($0) + place : place) } } == .notVerified)
        #expect(why { try verify(bytes, .mp4, expectation) { try cut($0, to: DescriptorIO.size($0) / 2) } } == .notVerified)
    }

    private func flip(_ descriptor: Int32, at place: Int) throws {
        let byte = try DescriptorIO.read(1, at: place, descriptor)
        try DescriptorIO.write([byte[0] ^ 1], at: place, descriptor)
    }

    private func cut(_ descriptor: Int32, to bytes: Int) throws {
        guard ftruncate(descriptor, off_t(bytes)) == 0 else { throw SealedFileError.system(call: "ftruncate", errno: errno) }
    }

    @Test("a chunk that no player would look at is authenticated all the same")
    func unread() throws {
        // Behind the film a box that a demuxer goes past.
        let rest = 200_000
        let bytes = try FinishedFile.make(.mp4) + withUnsafeBytes(of: UInt32(rest + 8).bigEndian, Array.init) + Array("free".utf8) + [UInt8](repeating: 0, count: rest)
        let expectation = OutputExpectation.movie(pictures: 50, frameRate: 25, soundPackets: try soundPackets(bytes, .mp4), depth: .keyPictures)
        _ = try verify(bytes, .mp4, expectation)
        #expect(why { try verify(bytes, .mp4, expectation) { try flip($0, at: 100_000) } } == .notVerified)
    }

    @Test("a picture that does not decode is found although every packet is there")
    func undecodable() throws {
        var bytes = try FinishedFile.make(.mp4)
        let sound = try soundPackets(bytes, .mp4)
        // Noise over the middle of the media data, behind its head.
        let data = try #require(Data(bytes).range(of: Data("mdat".utf8))).upperBound
        var random = Seeded(3)
        for place in data + 700..<data + 900 { bytes[place] = random.next() % 2 == 0 ? 0xFF : 0x13 }
        #expect(why { try verify(bytes, .mp4, .movie(pictures: 50, frameRate: 25, soundPackets: sound, depth: .all)) } == .notVerified)
    }

    @Test("peaks are read as a player reads them")
    func peaks() throws {
        var peaks = Peaks(samplesPerPoint: 4)
        var samples = [Float](repeating: 0.5, count: 10)
        samples.withUnsafeMutableBufferPointer { peaks.add($0) }
        let json = peaks.json()
        #expect(try verify(json, .json, .peaks(points: 3)) == OutputVerification(packets: 3))
        #expect(why { try verify(json, .json, .peaks(points: 4)) } == .notVerified)
        #expect(why { try verify(Array(json.dropLast()), .json, .peaks(points: 3)) } == .notVerified)
    }

    @Test("a still picture is decoded, and has the size that was wanted")
    func still() throws {
        let encoder = try Encoder.jpeg(width: 64, height: 48)
        let picture = try Frame.picture(width: 64, height: 48, format: .yuvj420p)
        picture.fill(x: 0, y: 0, width: 64, height: 48, luma: 90)
        try encoder.send(picture)
        try encoder.drain()
        let packet = Packet()
        #expect(try encoder.receive(into: packet))
        let bytes = Array(packet.bytes)
        #expect(try verify(bytes, .jpeg, .still(width: 64, height: 48)) == OutputVerification(packets: 1, pictures: 1))
        #expect(why { try verify(bytes, .jpeg, .still(width: 64, height: 46)) } == .notVerified)
        #expect(why { try verify([UInt8](repeating: 7, count: 900), .jpeg, .still(width: 64, height: 48)) } == .notVerified)
    }

    @Test("a track's packets are counted to the last")
    func track() throws {
        let bytes = try FinishedFile.make(.matroska, picture: false)
        let packets = try soundPackets(bytes, .matroska)
        #expect(try verify(bytes, .matroska, .track(packets: packets, last: .milliseconds(2_000))).packets == packets)
        #expect(why { try verify(bytes, .matroska, .track(packets: packets + 1, last: .milliseconds(2_000))) } == .notVerified)
        #expect(why { try verify(bytes, .matroska, .track(packets: packets, last: .milliseconds(3_000))) } == .notVerified)
    }

    @Test("a track is found whole by its structure and its seal: whatever byte of it changes on the disk, and whatever was not written as planned",
          arguments: [60, 5_000, 150_000, -20])
    func harmedTrack(place: Int) throws {
        let units = try Coded.pictures(.vp8, 150, width: 640, height: 480) { UInt8(truncatingIfNeeded: 90 + $0) }
        let bytes = try MemoryFile.track(units.map { unit in
            var unit = unit
            // Chunks in the middle of blocks, where no structure is.
            unit.payload += [UInt8](repeating: 7, count: 70_000)
            return unit
        }).bytes
        let expectation = OutputExpectation.track(packets: 150, last: units[149].time - units[0].time)
        #expect(try verify(bytes, .matroska, expectation).packets == 150)
        #expect(why { try verify(bytes, .matroska, expectation) { try flip($0, at: place < 0 ? DescriptorIO.size($0) + place : place) } } == .notVerified)
        #expect(why { try verify(bytes, .matroska, expectation) { try cut($0, to: DescriptorIO.size($0) / 2) } } == .notVerified)
        #expect(why { try verify(bytes, .matroska, .track(packets: 149, last: units[149].time - units[0].time)) } == .notVerified)
        // Sealed as it is, but a cluster was lost when it was written.
        let cluster = try #require(Data(bytes).range(of: Data([0x1F, 0x43, 0xB6, 0x75]), options: .backwards)).lowerBound
        #expect(why { try verify(Array(bytes[..<cluster]), .matroska, expectation) } == .notVerified)
    }

    @Test("pictures in another order than that of time are a fault of a log's track, and none of a finished file's")
    func order() throws {
        let bytes = try FinishedFile.make(.matroska)
        let outline = try MatroskaOutline(MemorySink(bytes))
        let last = Nanoseconds.milliseconds(outline.lastMs)
        #expect(try verify(bytes, .matroska, .track(packets: outline.packets, last: last, isInOrder: false)).packets == outline.packets)
        #expect(why { try verify(bytes, .matroska, .track(packets: outline.packets, last: last)) } == .notVerified)
    }
}
