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

    @Test("quiet speech with hard knocks comes to its loudness within 1 LU, and its knocks stay under the true peak")
    func knocks() throws {
        let units = try Coded.sound(.opus, seconds: 24, bitrate: 96_000) { place, _ in
            // Two milliseconds of a loud knock in each second.
            (place % 48_000 < 96 ? 0.9 : 0.02) * sin(Float(place) * 2 * .pi * 440 / 48_000)
        }
        let descriptor = open(folder.url.appending(path: "mix").path, O_RDWR | O_CREAT | O_EXCL, 0o600)
        defer { close(descriptor) }
        let (key, context) = (DataKey.random(), SealedContext(recording: .random(), object: "rendition:a", modality: "mix", part: "sound"))
        var parameters = StageParameters()
        parameters.channels = 1
        let order = LiveOrder.Rendition(job: "mix", parameters: parameters, outputs: [StageOutput(descriptor: 0, key: key, context: context, container: .ogg)])
        let mixer = try LiveMixer(order, origin: epoch, sinks: [SealedSink(descriptor: descriptor, key: key, context: context, windowBytes: 0)])
        let packets = try #require(GrowingPackets(units[0]))
        try mixer.add(packets, from: epoch)
        for (number, unit) in units.enumerated() {
            #expect(packets.append(unit))
            if number % 50 == 49 { try mixer.mix(upTo: unit.time - .seconds(1)) }
        }
        packets.isOver = true
        _ = try mixer.finish(end: epoch + .seconds(24))
        let reader = try SealedReader(descriptor: descriptor, key: key, context: context)
        let (loudness, peak) = try measured(reader.read(at: 0, count: reader.length))
        #expect(abs(loudness - parameters.loudnessLUFS) <= 1 && peak <= parameters.truePeakDB, "\(loudness) LUFS, \(peak) dBTP")
    }
}
