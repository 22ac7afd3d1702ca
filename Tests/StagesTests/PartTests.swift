import Depacketize
@testable import FFmpeg
import Foundation
import Glibc
import Media
import Renditions
import SealedFile
@testable import Stages
import TestSupport
import Testing

@Suite("Pictures in parts")
struct PartTests {
    private static let recording = RecordingID.random()
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// A sealed file with its key, as a stage gets and gives it.
    private final class Sealed {
        let descriptor: Int32
        let key = DataKey.random()
        let context: SealedContext

        init(_ folder: URL, modality: String, _ bytes: [UInt8]? = nil) throws {
            let name = UUID().uuidString
            descriptor = open(folder.appending(path: name).path, O_RDWR | O_CREAT | O_EXCL, 0o600)
            context = SealedContext(recording: PartTests.recording, object: name, modality: modality, part: "test")
            guard let bytes else { return }
            let writer = try SealedWriter(descriptor: descriptor, key: key, context: context, windowBytes: 0)
            try writer.append(bytes)
            _ = try writer.finish()
        }

        deinit { close(descriptor) }

        var bytes: [UInt8] {
            get throws {
                let reader = try SealedReader(descriptor: descriptor, key: key, context: context)
                return try reader.read(at: 0, count: reader.length)
            }
        }
    }

    /// Three people: one whose picture pauses and changes its size, one who comes late, one all the time at another rate.
    private static func tracks() throws -> [(bytes: [UInt8], summary: TrackSummary)] {
        func moved(_ units: [AccessUnit], _ ms: Int64, every: Int64 = 40) -> [AccessUnit] {
            units.enumerated().map { index, unit in
                var unit = unit
                unit.time = epoch + .milliseconds(ms + Int64(index) * every)
                return unit
            }
        }
        let first = moved(try Coded.pictures(.vp8, 60, width: 160, height: 240) { UInt8(30 + 3 * $0) }, 0) + moved(try Coded.pictures(.vp8, 40) { UInt8(220 - 4 * $0) }, 4_000)
        let second = moved(try Coded.pictures(.vp8, 70) { UInt8(60 + 2 * $0) }, 1_310, every: 61)
        let third = moved(try Coded.pictures(.h264, 60) { UInt8(200 - 2 * $0) }, 0, every: 100)
        return try [(first, [TrackVerdict.Resolution(at: epoch, width: 160, height: 240), .init(at: epoch + .milliseconds(4_000), width: 320, height: 240)]),
                    (second, [.init(at: second[0].time, width: 320, height: 240)]), (third, [.init(at: epoch, width: 320, height: 240)])].map { units, sizes in
            var verdict = TrackVerdict()
            verdict.resolutions = sizes
            return (try MemoryFile.track(units).bytes, TrackSummary(kind: .video, codec: units[0].codec, startWall: units[0].time, endWall: units.last!.time, blanks: [], verdict: verdict))
        }
    }

    private static let frames = 151
    private static let span = WallSpan(start: epoch, end: epoch + .milliseconds(6_001))

    private func order(_ stage: StageKind, _ inputs: [StageInput], _ output: Sealed, lossless: Bool, part: StagePart? = nil, place: Int) -> StageOrder {
        var parameters = StageParameters()
        (parameters.width, parameters.height, parameters.preset, parameters.threads) = (320, 240, "ultrafast", 1)
        parameters.constantRateFactor = lossless ? 0 : 30
        return StageOrder(stage: stage, parameters: parameters, inputs: inputs, outputs: [StageOutput(descriptor: place, key: output.key, context: output.context, container: .mp4)],
                          span: Self.span, part: part)
    }

    private func compose(_ tracks: [(bytes: [UInt8], summary: TrackSummary)], lossless: Bool, _ part: StagePart? = nil) throws -> (Sealed, StageResult) {
        let files = try tracks.map { try Sealed(folder.url, modality: "video", $0.bytes) }
        let inputs = zip(files.indices, zip(files, tracks)).map { place, pair in
            StageInput(descriptors: [place], key: pair.0.key, content: .track(context: pair.0.context, track: pair.1.summary), label: "Person \(place)")
        }
        let kind: StageKind = part == nil ? .compose : .composePart
        let output = try Sealed(folder.url, modality: kind.renditionKind)
        return (output, try StageRun.run(order(kind, inputs, output, lossless: lossless, part: part, place: files.count), descriptors: files.map(\.descriptor) + [output.descriptor]) { _ in })
    }

    private func join(_ parts: [Sealed], lossless: Bool) throws -> (Sealed, StageResult) {
        let inputs = parts.enumerated().map { StageInput(descriptors: [$0], key: $1.key, content: .rendition(context: $1.context, startWall: epoch)) }
        let output = try Sealed(folder.url, modality: "composite")
        return (output, try StageRun.run(order(.compose, inputs, output, lossless: lossless, place: parts.count), descriptors: parts.map(\.descriptor) + [output.descriptor]) { _ in })
    }

    /// Each picture's time in the file and a digest of what is decoded, by another program.
    private func decoded(_ file: Sealed) throws -> [String] {
        let path = folder.url.appending(path: UUID().uuidString + ".mp4").path
        try Data(file.bytes).write(to: URL(filePath: path))
        let (frames, complaints) = try ask("ffmpeg", ["-v", "error", "-xerror", "-i", path, "-f", "framemd5", "-"])
        #expect(complaints == "")
        return frames.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
            let fields = line.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
            return "\(fields[2]) \(fields[5])"
        }
    }

    @Test("made in parts, without loss, every picture is the one that is made in one piece, at its time", arguments: [1, 2, 7, 50, 151])
    func exact(count: Int) throws {
        let tracks = try Self.tracks()
        let whole = try decoded(compose(tracks, lossless: true).0)
        #expect(whole.count == Self.frames && Set(whole).count > 100)
        let parts = try (0..<count).map { try compose(tracks, lossless: true, StagePart(index: $0, count: count)).0 }
        let (joined, result) = try join(parts, lossless: true)
        #expect(try decoded(joined) == whole)
        #expect(result.outputs.map(\.videoFrames) == [Self.frames] && result.outputs.map(\.duration) == [.milliseconds(6_040)])
    }

    @Test("with loss, what is decoded of the whole is what is decoded of its parts; and a part that is made again has the same bytes", arguments: [2, 7])
    func lossy(count: Int) throws {
        let tracks = try Self.tracks()
        let parts = try (0..<count).map { try compose(tracks, lossless: false, StagePart(index: $0, count: count)).0 }
        let digests = { (frames: [String]) in frames.map { $0.split(separator: " ")[1] } }
        #expect(try digests(decoded(join(parts, lossless: false).0)) == parts.flatMap { try digests(decoded($0)) })
        #expect(try compose(tracks, lossless: false, StagePart(index: 1, count: count)).0.bytes == parts[1].bytes)
    }

    @Test("a part that is missing, too short, or of another place is refused")
    func wrong() throws {
        let tracks = try Self.tracks()
        let parts = try (0..<3).map { try compose(tracks, lossless: false, StagePart(index: $0, count: 3)).0 }
        for wrong in [Array(parts.prefix(2)), [parts[0], parts[0], parts[1], parts[2]]] {
            let failure = #expect(throws: StageFailure.self) { try join(wrong, lossless: false) }
            #expect(failure?.code == .damagedInput)
        }
    }
}
