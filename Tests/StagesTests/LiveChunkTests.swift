import Depacketize
import FFmpeg
import Foundation
import Glibc
import Media
import PacketLog
import Renditions
import SealedFile
@testable import Stages
import TestSupport
import Testing

@Suite("Pictures of a recording that runs, set aside and taken up again")
struct LiveChunkTests {
    private static let recording = RecordingID.random()
    private static let rate = 5
    private let folder: TemporaryFolder
    private let anna = TrackID.random(), carla = TrackID.random()

    init() throws { folder = try TemporaryFolder() }

    /// A sealed file; each place that writes or reads it has a descriptor of its own.
    fileprivate final class Sealed {
        let path: String
        let key = DataKey.random()
        let context = SealedContext(recording: LiveChunkTests.recording, object: "rendition:\(UUID())", modality: "composite", part: "chunk")

        init(_ folder: TemporaryFolder) { path = folder.url.appending(path: UUID().uuidString).path }

        var output: StageOutput { StageOutput(descriptor: 0, key: key, context: context, container: .mp4) }

        func opened() throws -> Int32 {
            let descriptor = open(path, O_RDWR | O_CREAT, 0o600)
            try #require(descriptor >= 0)
            return descriptor
        }
    }

    private var parameters: StageParameters {
        var parameters = StageParameters()
        (parameters.width, parameters.height, parameters.frameRate, parameters.preset, parameters.threads, parameters.constantRateFactor) = (320, 240, Self.rate, "veryfast", 1, 28)
        return parameters
    }

    private struct Made {
        var chunks: [(chunk: LiveChunk, file: Sealed)] = []
        var copied = 0
        /// A digest of each decoded picture, by another program.
        var pictures: [String] = []
    }

    /// Somebody's pictures from a moment on, all of one brightness.
    private func pictures(_ track: TrackID, from second: Int64, to end: Int64, luma: UInt8) throws -> (track: LiveTrack, packets: GrowingPackets, first: AccessUnit) {
        let units = try Coded.pictures(.vp8, Int(end - second) * Self.rate) { UInt8(Int(luma) + $0 % 7) }.enumerated().map { index, unit in
            var unit = unit
            unit.time = epoch + .seconds(second) + .milliseconds(Int64(index * 1_000 / Self.rate))
            return unit
        }
        let own = Sealed(folder)
        let order = LiveOrder.Track(job: "track", identity: TrackLogIdentity(recording: Self.recording, track: track, kind: .video), format: TrackFormat(kind: .video, codecs: [96: .vp8]),
                                    key: own.key, label: "Person", output: own.output)
        let live = LiveTrack(order, try SealedSink(descriptor: own.opened(), key: own.key, context: own.context, windowBytes: 1 << 16), isUsed: true)
        let packets = try #require(GrowingPackets(units[0]))
        for unit in units { #expect(packets.append(unit)) }
        packets.isOver = true
        return (live, packets, units[0])
    }

    /// Composes what was seen of some people in `seconds`, with so many rooms.
    private func compose(_ people: [(track: LiveTrack, packets: GrowingPackets, first: AccessUnit)], seconds: Int64, rooms count: Int = 3, kept: [(chunk: LiveChunk, file: Sealed)] = []) throws -> Made {
        let whole = Sealed(folder), rooms = (0..<count).map { _ in Sealed(folder) }
        let descriptor = try whole.opened()
        defer { close(descriptor) }
        var chunks: [LiveChunk] = []
        let sink = try SealedSink(descriptor: descriptor, key: whole.key, context: whole.context, windowBytes: MovieHead.live(seconds: LiveRendering.secondsMax, picturesPerSecond: Self.rate) + 4_096)
        let composer = try LiveComposer(LiveOrder.Rendition(job: "composite", parameters: parameters, outputs: [whole.output]), origin: epoch, sink: sink, sound: nil,
                                        kept: kept.map { .init(chunk: $0.chunk, file: SealedChunk(owning: try $0.file.opened(), key: $0.file.key, context: $0.file.context)) }) { chunks.append($0) }
        for room in rooms { composer.chunks.add(.init(room.output, try room.opened())) }
        for (place, one) in people.enumerated() { try composer.add(one.track, at: place, one.packets, one.first) }
        let end = epoch + .seconds(seconds)
        while try composer.work(upTo: end, isWaiting: false) {}
        let result = try composer.finish(end: end)
        _ = try Verification(output: whole.output, descriptor: descriptor, bytes: result.outputs[0].bytes) { _ in }.check(try #require(composer.expectation))
        let reader = try SealedReader(descriptor: descriptor, key: whole.key, context: whole.context)
        let pictures = try decoded(reader.read(at: 0, count: reader.length))
        #expect(pictures.count == Int(seconds) * Self.rate)
        return Made(chunks: Array(zip(chunks, rooms)), copied: composer.copied, pictures: pictures)
    }

    private func decoded(_ bytes: [UInt8]) throws -> [String] {
        let file = folder.url.appending(path: UUID().uuidString)
        try Data(bytes).write(to: file)
        let (output, complaints) = try ask("ffmpeg", ["-v", "error", "-xerror", "-i", file.path, "-f", "framehash", "-hash", "md5", "-"])
        #expect(complaints == "")
        return output.split(separator: "\n").filter { !$0.hasPrefix("#") }.compactMap { $0.split(separator: ",").last.map { $0.trimmingCharacters(in: .whitespaces) } }
    }

    @Test("who comes ends a chunk; without them, what lies before them is copied as it was made, and the rest made anew")
    func taken() throws {
        let both = try compose([pictures(anna, from: 0, to: 30, luma: 60), pictures(carla, from: 14, to: 30, luma: 160)], seconds: 30)
        // A cell is there two seconds before its first picture; what is not ended by another is not set aside.
        #expect(both.chunks.map(\.chunk) == [LiveChunk(ticks: 0..<60, tracks: [anna])])
        // Who it is that comes leaves no trace in what lies before.
        let other = try compose([pictures(anna, from: 0, to: 30, luma: 60), pictures(.random(), from: 14, to: 30, luma: 30)], seconds: 30)
        #expect(other.pictures.prefix(60) == both.pictures.prefix(60) && other.pictures != both.pictures)
        // Brighter, so that it shows what was made when.
        func others() throws -> [(track: LiveTrack, packets: GrowingPackets, first: AccessUnit)] { [try pictures(anna, from: 0, to: 30, luma: 90), try pictures(.random(), from: 28, to: 30, luma: 90)] }
        let brighter = try compose(others(), seconds: 30)
        let again = try compose(others(), seconds: 30, kept: both.chunks)
        #expect(again.copied == 60 && brighter.copied == 0)
        #expect(again.pictures.prefix(60) == both.pictures.prefix(60) && Set(again.pictures.prefix(60)).isDisjoint(with: brighter.pictures))
        #expect(Set(again.pictures.dropFirst(60)).isDisjoint(with: both.pictures))
        // What is made anew is set aside behind what was copied.
        #expect(again.chunks.map(\.chunk) == [LiveChunk(ticks: 60..<130, tracks: [anna])] && brighter.chunks.map(\.chunk) == [LiveChunk(ticks: 0..<130, tracks: [anna])])
    }

    @Test("a chunk in which somebody is who does not come, or is not who does, or that has another place, is made anew")
    func refused() throws {
        let made = try compose([pictures(anna, from: 0, to: 14, luma: 60), pictures(carla, from: 13, to: 14, luma: 60)], seconds: 14)
        let (chunk, file) = try #require(made.chunks.first)
        #expect(chunk == LiveChunk(ticks: 0..<55, tracks: [anna]))
        for other in [LiveChunk(ticks: chunk.ticks, tracks: [anna, carla]), LiveChunk(ticks: chunk.ticks, tracks: [carla]), LiveChunk(ticks: 5..<55, tracks: [anna]), LiveChunk(ticks: 0..<0, tracks: [anna])] {
            #expect(try compose([pictures(anna, from: 0, to: 14, luma: 60)], seconds: 14, kept: [(other, file)]).copied == 0, "\(other)")
        }
        #expect(try compose([pictures(anna, from: 0, to: 14, luma: 60), pictures(carla, from: 3, to: 14, luma: 60)], seconds: 14, kept: made.chunks).copied == 0)
        // It is longer than all there is.
        #expect(try compose([pictures(anna, from: 0, to: 10, luma: 60)], seconds: 10, kept: made.chunks).copied == 0)
        #expect(throws: SealedFileError.self) { try compose([pictures(anna, from: 0, to: 14, luma: 60)], seconds: 14, kept: [(chunk, try Sealed(folder, copying: file))]) }
    }

    @Test("chunks follow each other: whoever comes within ten seconds is taken in, the longest has a minute; without room it becomes longer, and none is begun behind a gap")
    func follow() throws {
        func chunks(rooms: Int, late: Bool = false, seconds: Int, _ come: [(second: Int, track: TrackID)]) throws -> [LiveChunk] {
            func encoder() throws -> Encoder { try Encoder.h264(width: 64, height: 64, frameRate: Self.rate, preset: "ultrafast", constantRateFactor: 40, threads: 1) }
            var current = try encoder()
            var made: [LiveChunk] = []
            let writer = ChunkWriter(current, rate: Self.rate) { made.append($0) }
            let frame = try Frame.picture(width: 64, height: 64), packet = Packet()
            func end() throws {
                try current.drain()
                while try current.receive(into: packet) { try writer.take(packet) }
            }
            for tick in 0..<seconds * Self.rate {
                for _ in 0..<(tick == (late ? 10 : 0) ? rooms : 0) {
                    let room = Sealed(folder)
                    writer.add(.init(room.output, try room.opened()))
                }
                try frame.makeWritable()
                frame.fill(x: 0, y: 0, width: 64, height: 64, luma: UInt8(tick % 200))
                frame.pts = Int64(tick)
                if writer.begins(at: tick, showing: Set(come.filter { $0.second * Self.rate <= tick }.map(\.track))) {
                    try end()
                    current = try encoder()
                }
                try current.send(frame)
                while try current.receive(into: packet) { try writer.take(packet) }
            }
            try end()
            return made
        }
        let bert = TrackID.random()
        let come = [(0, anna), (4, bert), (25, carla)].map { (second: $0.0, track: $0.1) }
        #expect(try chunks(rooms: 8, seconds: 150, come) == [LiveChunk(ticks: 0..<125, tracks: [anna, bert]), LiveChunk(ticks: 125..<425, tracks: [anna, bert, carla]),
                                                            LiveChunk(ticks: 425..<725, tracks: [anna, bert, carla])])
        // The last one is written into when it ends; a third has no room.
        #expect(try chunks(rooms: 2, seconds: 400, come) == [LiveChunk(ticks: 0..<125, tracks: [anna, bert])])
        #expect(try chunks(rooms: 8, late: true, seconds: 150, come) == [])
    }
}

private extension LiveChunkTests.Sealed {
    /// The same bytes, said to be another file.
    convenience init(_ folder: TemporaryFolder, copying other: LiveChunkTests.Sealed) throws {
        self.init(folder)
        try FileManager.default.copyItem(atPath: other.path, toPath: path)
    }
}
