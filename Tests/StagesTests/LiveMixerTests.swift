import Depacketize
import Foundation
import Glibc
import Media
import Renditions
import SealedFile
@testable import Stages
import TestSupport
import Testing

@Suite("A mix of a recording that still runs")
struct LiveMixerTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    /// As FFmpeg's `ebur128` filter measures them, which shares no code with ours: LUFS, and true peak in dBTP.
    private func measured(_ bytes: [UInt8]) throws -> (loudness: Double, peak: Double) {
        let file = folder.url.appending(path: UUID().uuidString)
        try Data(bytes).write(to: file)
        let (ffmpeg, pipe) = (Process(), Pipe())
        ffmpeg.executableURL = URL(filePath: "/usr/bin/ffmpeg")
        ffmpeg.arguments = ["-hide_banner", "-nostats", "-i", file.path, "-af", "ebur128=peak=true:framelog=verbose", "-f", "null", "-"]
        ffmpeg.standardError = pipe
        try ffmpeg.run()
        let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        ffmpeg.waitUntilExit()
        func figure(_ pattern: Regex<(Substring, Substring)>) throws -> Double { try #require(said.matches(of: pattern).last.flatMap { Double($0.1) }, "\(said)") }
        return (try figure(/I: +(-?[0-9.]+) LUFS/), try figure(/Peak: +(-?[0-9.]+) dBFS/))
    }

    private final class Sealed {
        let descriptor: Int32
        let key = DataKey.random()
        let context = SealedContext(recording: .random(), object: "rendition:a", modality: "mix", part: "sound")

        init(_ folder: TemporaryFolder, _ bytes: [UInt8]? = nil) throws {
            descriptor = open(folder.url.appending(path: UUID().uuidString).path, O_RDWR | O_CREAT | O_EXCL, 0o600)
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

        func output(_ place: Int) -> StageOutput { StageOutput(descriptor: place, key: key, context: context, container: .ogg) }
    }

    @Test("peaks of a mix that is made live are those of its file, but for what its codec changes")
    func peaks() throws {
        // A bell every second, each higher than the one before.
        let units = try Coded.sound(.opus, seconds: 20, bitrate: 96_000) { place, _ in
            let (second, within) = (place / 48_000, Float(place % 48_000) / 48_000)
            return (0.02 + 0.04 * Float(second)) * exp(-6 * within) * sin(Float(place) * 2 * .pi * 440 / 48_000)
        }
        let end = epoch + .milliseconds(20_000)
        var parameters = StageParameters()
        parameters.channels = 2
        let (mix, live, ordinary) = (try Sealed(folder), try Sealed(folder), try Sealed(folder))
        let sound = StageOutput(descriptor: 0, key: mix.key, context: mix.context, container: .mp4)
        let sink = try SealedSink(descriptor: mix.descriptor, key: mix.key, context: mix.context, windowBytes: MovieHead.live(seconds: LiveRendering.secondsMax, picturesPerSecond: 0) + 4_096)
        let mixer = try LiveMixer(LiveOrder.Rendition(job: "mix", parameters: parameters, outputs: [sound]), origin: epoch, sinks: [sink], peaksPerSecond: 10)
        let packets = try #require(GrowingPackets(units[0]))
        try mixer.add(packets, from: epoch)
        for unit in units { #expect(packets.append(unit)) }
        packets.isOver = true
        try mixer.mix(upTo: end)
        _ = try mixer.finish(end: end)
        let made = try #require(try mixer.finish(peaks: SealedSink(descriptor: live.descriptor, key: live.key, context: live.context, windowBytes: 0)))
        let output = StageOutput(descriptor: 0, key: live.key, context: live.context, container: .json)
        #expect(try Verification(output: output, descriptor: live.descriptor, bytes: made.result.outputs[0].bytes) { _ in }.ends(of: made.expectation).packets == 200)
        let order = StageOrder(stage: .waveform, parameters: parameters, inputs: [StageInput(descriptors: [0], key: mix.key, content: .rendition(context: mix.context, startWall: epoch))],
                               outputs: [StageOutput(descriptor: 1, key: ordinary.key, context: ordinary.context, container: .json)], span: WallSpan(start: epoch, end: end))
        _ = try StageRun.run(order, descriptors: [mix.descriptor, ordinary.descriptor]) { _ in }
        struct Waveform: Decodable, Equatable {
            var version, channels, sample_rate, samples_per_pixel, bits, length: Int
            var data: [Int]
        }
        var (mine, its) = (try JSONDecoder().decode(Waveform.self, from: Data(live.bytes)), try JSONDecoder().decode(Waveform.self, from: Data(ordinary.bytes)))
        #expect(zip(mine.data, its.data).map { abs($0 - $1) }.max() ?? .max <= 4 && its.data.max() ?? 0 > 40, "\(zip(mine.data, its.data).map { $0 - $1 })")
        // A decoder gives the whole of the last packet.
        #expect(mine.length == 200 && (200...201).contains(its.length))
        (mine.data, its.data, its.length) = ([], [], 200)
        #expect(mine == its)
    }

    @Test("quiet sound with hard knocks becomes as loud as an ordinary mix makes it, within 1 LU, and both stay under their true peak")
    func knocks() throws {
        let units = try Coded.sound(.opus, seconds: 24, bitrate: 96_000) { place, _ in
            // Two milliseconds of a loud knock in each second.
            (place % 48_000 < 96 ? 0.9 : 0.02) * sin(Float(place) * 2 * .pi * 440 / 48_000)
        }
        let span = WallSpan(start: epoch, end: epoch + .seconds(24))
        var parameters = StageParameters()
        parameters.channels = 1
        let live = try Sealed(folder)
        let mixer = try LiveMixer(LiveOrder.Rendition(job: "mix", parameters: parameters, outputs: [live.output(0)]), origin: epoch,
                                  sinks: [SealedSink(descriptor: live.descriptor, key: live.key, context: live.context, windowBytes: 0)])
        let packets = try #require(GrowingPackets(units[0]))
        try mixer.add(packets, from: epoch)
        for (number, unit) in units.enumerated() {
            #expect(packets.append(unit))
            if number % 50 == 49 { try mixer.mix(upTo: unit.time - .seconds(1)) }
        }
        packets.isOver = true
        _ = try mixer.finish(end: span.end)

        let track = try Sealed(folder, MemoryFile.track(units).bytes), ordinary = try Sealed(folder)
        let summary = TrackSummary(kind: .audio, codec: .opus, startWall: epoch, endWall: span.end, blanks: [], verdict: TrackVerdict())
        let order = StageOrder(stage: .mix, parameters: parameters, inputs: [StageInput(descriptors: [0], key: track.key, content: .track(context: track.context, track: summary))],
                               outputs: [ordinary.output(1)], span: span)
        _ = try StageRun.run(order, descriptors: [track.descriptor, ordinary.descriptor]) { _ in }
        let (made, usual) = (try measured(live.bytes), try measured(ordinary.bytes))
        #expect(abs(made.loudness - usual.loudness) <= 1, "\(made) \(usual)")
        #expect(made.peak <= parameters.truePeakDB && usual.peak <= parameters.truePeakDB && made.peak > -6, "\(made) \(usual)")
    }
}
