import Depacketize
import FFmpeg
import Foundation
import Media
import Renditions
import SealedFile
@testable import Stages
import TestSupport
import Testing

@Suite("Tracks out of finished files")
struct FileTrackTests {
    private let folder: TemporaryFolder
    private let key = DataKey.random()
    private let context = SealedContext(recording: .random(), object: "track:a", modality: "audio", part: "matroska")
    private let start = WallTime(seconds: 1_000)

    init() throws { folder = try TemporaryFolder() }

    /// Carries out the stage on `bytes`; gives back what it says, and the sealed file's plaintext.
    private func remux(_ bytes: [UInt8], _ container: FileContainer, _ kind: MediaKind) throws -> (result: StageResult, plaintext: [UInt8]) {
        let (source, target) = (folder.url.appending(path: "source"), folder.url.appending(path: "target"))
        try Data(bytes).write(to: source)
        let descriptors = [open(source.path, O_RDONLY), open(target.path, O_RDWR | O_CREAT | O_TRUNC, 0o600)]
        defer { for descriptor in descriptors { close(descriptor) } }
        let order = StageOrder(stage: .depacketize, parameters: StageParameters(), inputs: [StageInput(descriptors: [0], key: key, content: .file(container: container, kind: kind, start: start))],
                               outputs: [StageOutput(descriptor: 1, key: key, context: context, container: .matroska)], span: nil)
        let result = try StageRun.run(order, descriptors: descriptors) { _ in }
        let sealed = try SealedSource(descriptor: descriptors[1], key: key, context: context)
        var plaintext = [UInt8](repeating: 0, count: sealed.length)
        _ = try plaintext.withUnsafeMutableBytes { try sealed.read(at: 0, into: $0) }
        return (result, plaintext)
    }

    /// Payloads and times (ms) of the only stream of a kind, and how many streams there are.
    private func packets(_ bytes: [UInt8], _ container: Demuxer.Container, _ kind: MediaKind) throws -> (list: [(bytes: [UInt8], ms: Double)], streams: Int) {
        let demuxer = try Demuxer(MemorySink(bytes), as: container)
        let stream = try #require(demuxer.streams.first { kind == .audio ? $0.isAudio : $0.isVideo })
        var list: [(bytes: [UInt8], ms: Double)] = []
        let packet = Packet()
        while try demuxer.read(into: packet) {
            if packet.streamIndex == stream.index { list.append((Array(packet.bytes), Double(packet.pts) * stream.timeBase.value * 1_000)) }
        }
        return (list, demuxer.streams.count)
    }

    @Test("one modality is copied packet for packet with its times, and nothing of the other is in the track", arguments: [MediaKind.audio, .video])
    func copied(kind: MediaKind) throws {
        let bytes = try FinishedFile.make(.mp4)
        let (result, plaintext) = try remux(bytes, .mp4, kind)
        let (source, made) = (try packets(bytes, .mp4, kind), try packets(plaintext, .matroska, kind))
        #expect(made.streams == 1 && source.streams == 2)
        // The edit list cuts out the encoder's run-up, which is before 0.
        let wanted = source.list.filter { $0.ms >= 0 }
        let isSame = made.list.map(\.bytes) == wanted.map(\.bytes)
        #expect(isSame)
        let origin = try #require(wanted.first?.ms)
        #expect(zip(made.list, wanted).allSatisfy { abs($0.ms - ($1.ms - origin)) <= 1 })
        let other = try packets(bytes, .mp4, kind == .audio ? .video : .audio)
        #expect(other.list.allSatisfy { $0.bytes.count < 24 || Data(plaintext).range(of: Data($0.bytes)) == nil })
        let track = try #require(result.track)
        #expect(track.codec == (kind == .audio ? Codec(name: "aac", clockRate: 48_000) : Codec(name: "h264", clockRate: 90_000)))
        #expect(track.verdict.clock == "file" && track.verdict.accessUnits == wanted.count && track.verdict.lost == 0)
        #expect(abs((track.startWall - start).milliseconds - origin) < 0.1)
        #expect(abs((track.endWall - track.startWall).seconds - 2) < 0.05)
        if kind == .video { #expect(track.verdict.resolutions == [.init(at: start, width: FinishedFile.width, height: FinishedFile.height)] && track.verdict.keyFrames == 1) }
    }

    @Test("what is heard in an Opus file stays where it was, whatever its pre-skip")
    func opus() throws {
        let bytes = try FinishedFile.make(.ogg, picture: false)
        let (result, plaintext) = try remux(bytes, .ogg, .audio)
        let (source, made) = (try packets(bytes, .ogg, .audio).list, try packets(plaintext, .matroska, .audio).list)
        let isSame = made.map(\.bytes) == source.map(\.bytes)
        #expect(isSame)
        #expect(zip(made, source).allSatisfy { abs($0.ms - $1.ms) <= 1 })
        #expect(abs((try #require(result.track).startWall - start).milliseconds) < 0.1)
    }

    @Test("a WAV is taken sample for sample")
    func wav() throws {
        let bytes = FinishedFile.wav(samples: 12_000)
        let (result, plaintext) = try remux(bytes, .wav, .audio)
        let isSame = try packets(plaintext, .matroska, .audio).list.flatMap(\.bytes) == Array(bytes.dropFirst(44))
        #expect(isSame)
        #expect(result.track?.codec == Codec(name: "pcm_s16le", clockRate: 8_000))
        #expect(result.track?.endWall == start + .milliseconds(1_500))
    }

    @Test("a file without the modality, without an index, of another kind, or a playlist in disguise is refused in words")
    func refused() throws {
        let bytes = try FinishedFile.make(.ogg, picture: false)
        func failure(_ bytes: [UInt8], _ container: FileContainer, _ kind: MediaKind) -> StageFailure? {
            do { _ = try remux(bytes, container, kind) } catch { return error as? StageFailure }
            return nil
        }
        #expect(failure(bytes, .ogg, .video)?.code == .nothingToDo)
        #expect(failure(bytes, .mp4, .audio)?.code == .unsupportedCodec)
        #expect(failure(Array(try FinishedFile.make(.mp4).prefix(3_000)), .mp4, .audio)?.code == .unsupportedCodec)
        let secret = folder.url.appending(path: "secret.wav")
        try Data(FinishedFile.wav(samples: 8_000)).write(to: secret)
        for container in FileContainer.allCases {
            #expect(failure(Array("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n\(secret.path)\n#EXT-X-ENDLIST\n".utf8), container, .audio)?.code == .unsupportedCodec)
        }
    }

    @Test("mutilated files give a track or words, never a crash", arguments: 0..<24 as Range<UInt64>)
    func fuzz(seed: UInt64) throws {
        var random = Seeded(seed)
        let (container, kind): (FileContainer, MediaKind) = [(.mp4, .audio), (.mp4, .video), (.ogg, .audio), (.matroska, .video)][Int(seed % 4)]
        var bytes = try FinishedFile.make(container == .mp4 ? .mp4 : container == .ogg ? .ogg : .matroska, picture: container != .ogg)
        for _ in 0..<Int.random(in: 1...30, using: &random) { bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
        if seed % 3 == 0 { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random)) }
        do { _ = try remux(bytes, container, kind) } catch { #expect(error is StageFailure) }
    }

    /// Matroska with these streams, and a packet of the first at each of `ms`.
    private func matroska(_ streams: [CodedStream], ms: [Int64]) throws -> [UInt8] {
        let sink = MemorySink()
        let muxer = try Muxer(sink, as: .matroska)
        for stream in streams { _ = try muxer.addStream(stream) }
        try muxer.writeHeader()
        let packet = Packet()
        for time in ms {
            try [UInt8](repeating: 0xFC, count: 8).withUnsafeBytes { try packet.fill($0) }
            (packet.pts, packet.dts, packet.duration, packet.isKey) = (time, time, 20, true)
            try muxer.append(packet, stream: 0, timeBase: Rational(1, 1_000))
        }
        try muxer.finish()
        return sink.bytes
    }

    @Test("a file beyond the limits of streams, pixels or length is refused in words")
    func limits() throws {
        func failure(_ bytes: [UInt8], _ kind: MediaKind) -> StageFailure? {
            do { _ = try remux(bytes, .matroska, kind) } catch { return error as? StageFailure }
            return nil
        }
        let sound = CodedStream(.opus, sampleRate: 48_000, channels: 1)
        #expect(failure(try matroska([sound], ms: [0, 20]), .audio) == nil)
        let streams = failure(try matroska([CodedStream](repeating: sound, count: ForeignFile.streamsMax + 1), ms: [0, 20]), .audio)
        #expect(streams?.code == .limitExceeded && streams?.what.contains("more than 32 streams") == true)
        #expect(failure(try matroska([sound], ms: [0, 25 * 3_600_000]), .audio)?.what == "the file is longer than a day")
        let large = failure(try matroska([CodedStream(.vp8, width: 8_192, height: 8_192)], ms: [0]), .video)
        #expect(large?.what == "pictures of no known size, or of more than 9437184 pixels", "\(String(describing: large))")
    }
}
