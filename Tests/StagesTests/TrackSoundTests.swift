import CFFmpeg
import Depacketize
@testable import FFmpeg
import Foundation
import Media
import Renditions
@testable import Stages
import TestSupport
import Testing

@Suite("Sound of tracks")
struct TrackSoundTests {
    /// What a track sounds like from its first unit on, interleaved.
    private func sound(_ units: [AccessUnit], seconds: Double, channels: Int = 1, isChanging: Bool = false, _ change: (inout TrackVerdict) -> Void = { _ in }) throws -> [Float] {
        var verdict = TrackVerdict()
        change(&verdict)
        let start = units[0].time
        let summary = TrackSummary(kind: .audio, codec: units[0].codec, startWall: start, endWall: start + Nanoseconds(seconds: seconds), blanks: [], verdict: verdict)
        let track = try TrackSound(MemoryFile.track(units, isChanging: isChanging), origin: 0, channels: channels, summary: summary)
        var all: [Float] = []
        while all.count < Int(seconds * 48_000) * channels {
            var block = [Float](repeating: 0, count: 48_000 * channels)
            try block.withUnsafeMutableBufferPointer { try track.add(to: $0, start: all.count / channels) }
            all += block
        }
        return Array(all.prefix(Int(seconds * 48_000) * channels))
    }

    private func power(_ samples: ArraySlice<Float>) -> Float { (samples.reduce(0) { $0 + $1 * $1 } / Float(max(1, samples.count))).squareRoot() }

    private func tone(_ hertz: Double, _ rate: Double, _ amplitude: Float = 0.4) -> (Int, Int) -> Float {
        { i, _ in amplitude * Float(sin(2 * .pi * hertz * Double(i) / rate)) }
    }

    /// Share of the power that is a tone of `hertz`.
    private func share(_ samples: ArraySlice<Float>, _ hertz: Double) -> Double {
        var (re, im, all) = (0.0, 0.0, 0.0)
        for (i, sample) in samples.enumerated() {
            let angle = 2 * .pi * hertz * Double(i) / 48_000
            re += Double(sample) * cos(angle)
            im += Double(sample) * sin(angle)
            all += Double(sample * sample)
        }
        return 2 * (re * re + im * im) / Double(samples.count) / max(all, 1e-12)
    }

    /// Where the sound becomes louder than `level`, in samples.
    private func onsets(_ samples: [Float], above level: Float) -> [Int] {
        var (found, loud): ([Int], Int) = ([], -48_000)
        for i in samples.indices where abs(samples[i]) > level {
            if i - loud > 4_800 { found.append(i) }
            loud = i
        }
        return found
    }

    @Test("every codec sounds as it was sent, at its place", arguments: [(Codec.opus, 48_000.0), (.pcmu, 8_000), (.pcma, 8_000), (.g722, 16_000), (.l16, 44_100),
                                                                        (Codec(name: "L16", clockRate: 48_000), 48_000)])
    func codecs(codec: Codec, rate: Double) throws {
        let units = try Coded.sound(codec, seconds: 2) { i, channel in Double(i) < rate ? 0 : tone(1_000, rate)(i, channel) }
        let heard = try sound(units, seconds: 2)
        #expect(share(heard[52_800..<91_200], 1_000) > 0.99)
        #expect(abs(power(heard[52_800..<91_200]) - 0.283) < 0.02)
        #expect(power(heard[0..<47_000]) < 0.002)
        let onset = try #require(onsets(heard, above: 0.1).first)
        #expect(abs(onset - 48_000) < 120)  // 2.5 ms: an eighth of the tone's period, and the codec's own smear
    }

    @Test("sound of finished files is decoded whatever its codec, rate and channels",
          arguments: [("aac", 44_100, 2, AV_SAMPLE_FMT_FLTP), ("libmp3lame", 32_000, 1, AV_SAMPLE_FMT_FLTP), ("libvorbis", 22_050, 2, AV_SAMPLE_FMT_FLTP),
                      ("flac", 96_000, 6, AV_SAMPLE_FMT_S16), ("pcm_s16le", 11_025, 1, AV_SAMPLE_FMT_S16), ("libopus", 48_000, 2, AV_SAMPLE_FMT_FLT)], [1, 2])
    func finished(_ codec: (name: String, rate: Int, channels: Int, format: AVSampleFormat), mixed: Int) throws {
        let file = MemoryFile()
        let muxer = try Muxer(file, as: .matroska)
        let encoder = try Encoder(codec.name, Rational(1, Int32(codec.rate)), options: [:]) { context in
            context.sample_rate = Int32(codec.rate)
            context.sample_fmt = codec.format
            context.bit_rate = 128_000
            av_channel_layout_default(&context.ch_layout, Int32(codec.channels))
        }
        let stream = try muxer.addStream(encoder)
        try muxer.writeHeader()
        let size = encoder.frameSamples == 0 ? 1_000 : encoder.frameSamples
        let packet = Packet(), planar = encoder.isPlanar
        func collect() throws { while try encoder.receive(into: packet) { try muxer.write(packet, stream: stream, timeBase: encoder.timeBase) } }
        for block in 0..<3 * codec.rate / size {
            let frame = Frame()
            frame.raw.pointee.nb_samples = Int32(size)
            frame.raw.pointee.format = codec.format.rawValue
            frame.raw.pointee.sample_rate = Int32(codec.rate)
            av_channel_layout_default(&frame.raw.pointee.ch_layout, Int32(codec.channels))
            try check(av_frame_get_buffer(frame.raw, 0), "av_frame_get_buffer")
            for i in 0..<size {
                let place = block * size + i
                let value = place < codec.rate ? 0 : 0.3 * Float(sin(2 * .pi * 1_000 * Double(place) / Double(codec.rate)))
                for channel in 0..<codec.channels {
                    let data = UnsafeMutableRawPointer(frame.raw.pointee.extended_data[planar ? channel : 0]!), slot = planar ? i : i * codec.channels + channel
                    if codec.format == AV_SAMPLE_FMT_S16 { data.storeBytes(of: Int16(value * 32_767), toByteOffset: slot * 2, as: Int16.self) } else { data.storeBytes(of: value, toByteOffset: slot * 4, as: Float.self) }
                }
            }
            frame.pts = Int64(block * size)
            try encoder.send(frame)
            try collect()
        }
        try encoder.drain()
        try collect()
        try muxer.finish()
        let track = try TrackSound(file, origin: 0, channels: mixed)
        var heard = [Float](repeating: 0, count: 2 * 48_000 * mixed)
        try heard.withUnsafeMutableBufferPointer { try track.add(to: $0, start: 0) }
        let left = stride(from: 0, to: heard.count, by: mixed).map { heard[$0] }
        #expect(share(left[52_800..<91_200], 1_000) > 0.98)
        // Five channels and a bass, of which libswresample gives the bass to nobody, and each of the others its part.
        if codec.channels <= 2 { #expect(abs(power(left[52_800..<91_200]) - 0.212) < 0.02) } else { #expect(power(left[52_800..<91_200]) > 0.1) }
        let onset = try #require(onsets(left, above: 0.1).first)
        #expect(abs(onset - 48_000) < 1_800, "\(onset - 48_000) samples")  // MP3's and AAC's own delays, which this file does not tell
    }

    @Test("stereo is averaged into one channel, and one channel sounds alike in both", arguments: [Codec.opus, .l16])
    func channels(codec: Codec) throws {
        let rate = codec.clockRate
        let units = try Coded.sound(codec, seconds: 1, bitrate: 128_000) { i, channel in channel == 0 ? tone(1_000, Double(rate), 0.5)(i, 0) : 0 }
        #expect(abs(power(try sound(units, seconds: 1)[24_000..<43_200]) - 0.177) < 0.02)
        let both = try sound(units, seconds: 1, channels: 2)
        let (left, right) = (stride(from: 0, to: both.count, by: 2).map { both[$0] }, stride(from: 1, to: both.count, by: 2).map { both[$0] })
        #expect(abs(power(left[24_000..<43_200]) - 0.354) < 0.03 && power(right[24_000..<43_200]) < 0.03)
        let mono = try sound(Coded.sound(.pcmu, seconds: 1, tone(1_000, 8_000)), seconds: 1, channels: 2)
        #expect(stride(from: 0, to: mono.count, by: 2).allSatisfy { mono[$0] == mono[$0 + 1] })
        #expect(abs(power(mono[48_000..<86_400]) - 0.283) < 0.02)
    }

    @Test("a clock that is off by up to 500 ppm neither clicks nor moves the sound", arguments: [300.0, -500, 40, 0.5])
    func drift(ppm: Double) throws {
        // One packet of 20 whole periods, again and again; each minute begins with a louder one.
        let codec = Codec(name: "L16", clockRate: 48_000)
        let soft = try Coded.sound(codec, seconds: 0.02, tone(1_000, 48_000, 0.2))[0], loud = try Coded.sound(codec, seconds: 0.02, tone(1_000, 48_000, 0.6))[0]
        let minutes = 11
        let units = (0..<minutes * 3_000).map { i in
            var unit = i % 3_000 == 1_500 ? loud : soft
            unit.time = epoch + Nanoseconds(count: Int64(Double(i) * 20e6 / (1 + ppm * 1e-6)))
            return unit
        }
        let heard = try sound(units, seconds: Double(minutes) * 60 - 1) { $0.driftPPM = ppm }
        let beeps = onsets(heard, above: 0.3)
        #expect(beeps.count == minutes)
        for (i, beep) in beeps.enumerated() {
            let expected = (units[i * 3_000 + 1_500].time - epoch).seconds * 48_000
            #expect(abs(Double(beep) - expected) < 240, "minute \(i): \((Double(beep) - expected) / 48) ms")
        }
        // A tone of 1 kHz, whatever its phase, is what this filter takes away; a click is not.
        let notch = 2 * Float(cos(2 * .pi * 1_000 / 48_000.0))
        var worst: (Float, Int) = (0, 0)
        var near = 0
        for i in 4_800..<heard.count - 4_800 {
            if near < beeps.count, i > beeps[near] + 4_800 { near += 1 }
            if near < beeps.count, i > beeps[near] - 4_800 { continue }
            let rest = abs(heard[i] - notch * heard[i - 1] + heard[i - 2])
            if rest > worst.0 { worst = (rest, i) }
        }
        #expect(worst.0 < 2.5e-4, "at \(Double(worst.1) / 48_000) s")
    }

    @Test("a clock like ours goes straight through: bit by bit what libopus gives")
    func straight() throws {
        let units = try Coded.sound(.opus, seconds: 3, tone(440, 48_000))
        let heard = try sound(units, seconds: 2.9)
        let decoder = try OpusDecoder(channels: 1)
        var scratch = [Float](repeating: 0, count: OpusDecoder.packetSamplesMax), plain: [Float] = []
        for unit in units {
            let count = try #require(unit.payload.withUnsafeBytes { decoder.decode($0, into: &scratch) })
            plain += scratch[..<count]
        }
        #expect(heard == Array(plain.dropFirst(OpusDecoder.preskip).prefix(heard.count)))
    }

    @Test("drift of Opus over talk spurts: sound is at its place in each of them", arguments: [300.0, -500])
    func spurts(ppm: Double) throws {
        let spurt = try Coded.sound(.opus, seconds: 2) { i, _ in i % 96_000 < 48_000 ? 0 : 0.4 * Float(sin(Double(i) * 0.13)) }
        let units = (0..<60).flatMap { round in
            spurt.enumerated().map { i, unit in
                var unit = unit
                unit.time = epoch + Nanoseconds(count: Int64((Double(round) * 3e9 + Double(i) * 20e6) / (1 + ppm * 1e-6)))
                return unit
            }
        }
        let heard = try sound(units, seconds: 179) { $0.driftPPM = ppm }
        let found = onsets(heard, above: 0.15).filter { abs($0 % 144_000 - 48_000) < 9_600 }
        #expect(found.count >= 55)
        for onset in found {
            let round = Double((onset - 24_000) / 144_000)
            #expect(abs(Double(onset) - (round * 144_000 + 48_000) / (1 + ppm * 1e-6)) < 240)
        }
    }

    @Test("one lost packet is made up for, a long gap is silence of its exact length", arguments: [Codec.opus, .pcmu, .g722, Codec(name: "L16", clockRate: 48_000)])
    func gaps(codec: Codec) throws {
        let rate = codec == .g722 ? 16_000.0 : Double(codec.clockRate)
        var units = try Coded.sound(codec, seconds: 4, tone(400, rate))
        units.removeSubrange(100..<150)  // 2 s ... 3 s
        units.removeSubrange(50..<51)  // 1 s ... 1.02 s
        let heard = try sound(units, seconds: 4)
        #expect(power(heard[48_000..<48_960]) > 0.15)
        #expect(power(heard[105_600..<143_000]) < 1e-4)
        #expect(power(heard[144_500..<150_000]) > 0.2)
        // No seam is harder than the tone itself: its steepest step is 0.021.
        let steps = zip(heard[36_000..<60_000], heard[36_001..<60_001]).map { abs($0 - $1) }
        #expect(steps.max()! < 0.06)
    }

    @Test("a packet's copy in the next one is used")
    func redundancy() throws {
        let options = ["fec": "1", "packet_loss": "30", "application": "voip"]
        // The pitch jumps for 20 ms: only the copy knows.
        let whole = try Coded.sound(.opus, seconds: 2, bitrate: 24_000, options: options) { i, _ in 0.4 * Float(sin(Double(i) * ((48_960..<49_920).contains(i) ? 0.2 : 0.04))) }
        #expect(whole.filter { $0.payload.withUnsafeBytes(OpusDecoder.carriesPredecessor) }.count > 20)
        var units = whole
        units.remove(at: 51)
        let (right, heard) = (try sound(whole, seconds: 2), try sound(units, seconds: 2))
        let error = zip(right[48_960..<49_920], heard[48_960..<49_920]).map { $0 - $1 }
        #expect(power(error[...]) < 0.5 * power(right[48_960..<49_920]))
        #expect(power(heard[49_000..<49_900]) > 0.1)
        #expect(!Coded.isFEC(try Coded.sound(.opus, seconds: 1, bitrate: 64_000, tone(440, 48_000))))
    }

    /// A file's packets read one after the other, and how many.
    private final class Counted: PacketReading {
        private let file: FilePackets
        private let index: Index
        private(set) var count = 0
        init(_ source: any MediaSource, _ index: Index) throws { (file, self.index) = (try FilePackets(source, as: .matroska), index) }
        var streams: [Demuxer.Stream] { file.streams }
        func read(into packet: borrowing Packet) throws -> PacketReadiness {
            count += 1
            return try file.read(into: packet)
        }
        func skip(to seconds: Double) throws -> Bool { index == .none ? false : try file.skip(to: index == .poor ? 0 : seconds) }
    }

    /// `poor`: leads to the beginning only.
    private enum Index: CaseIterable { case none, whole, poor }

    @Test("a long silence is not even read, and every sample is what it is when it is", arguments: [Codec.opus, .pcmu])
    func longSilences(codec: Codec) throws {
        let rate = codec == .opus ? 48_000.0 : 8_000
        // Three stretches of a tone of two seconds; between them a minute and half a minute of a muted microphone that goes on sending.
        let heard = [0.0..<2, 62..<64, 94..<96]
        let units = try Coded.sound(codec, seconds: 96) { i, channel in
            heard.contains { $0.contains(Double(i) / rate) } ? self.tone(440, rate)(i, channel) : 0.0004 * Float((i * 7_919) % 13 - 6)
        }
        var verdict = TrackVerdict()
        verdict.silences = [2.1..<61.9, 64.1..<93.9].map { .init(start: epoch + Nanoseconds(seconds: $0.lowerBound), end: epoch + Nanoseconds(seconds: $0.upperBound)) }
        let summary = TrackSummary(kind: .audio, codec: codec, startWall: epoch, endWall: epoch + .seconds(96), blanks: [], verdict: verdict)
        let file = try MemoryFile.track(units)
        let runs = try Index.allCases.map { index in
            let packets = try Counted(file, index)
            let track = try TrackSound(packets, origin: 0, channels: 1, summary: summary)
            var all: [Float] = []
            for second in 0..<96 {
                var block = [Float](repeating: 0, count: 48_000)
                try block.withUnsafeMutableBufferPointer { try track.add(to: $0, start: second * 48_000) }
                all += block
            }
            return (samples: all, count: packets.count)
        }
        #expect(runs[0].samples == runs[1].samples && runs[0].samples == runs[2].samples)
        #expect(heard.allSatisfy { power(runs[1].samples[Int($0.lowerBound * 48_000) + 9_600..<Int($0.upperBound * 48_000) - 9_600]) > 0.2 })
        #expect(runs[0].count >= units.count && runs[1].count < units.count / 4 && runs[2].count < 3 * units.count, "\(runs.map(\.count)) of \(units.count)")
    }

    @Test("what is known to be silent is not decoded, and what follows sounds as if it had been")
    func silences() throws {
        let units = try Coded.sound(.opus, seconds: 4) { i, _ in (48_000..<144_000).contains(i) ? 0.0001 : tone(440, 48_000)(i, 0) }
        let plain = try sound(units, seconds: 4)
        let span = TrackVerdict.Span(start: epoch + .milliseconds(1_100), end: epoch + .milliseconds(2_900))
        let skipped = try sound(units, seconds: 4) { $0.silences = [span] }
        #expect(skipped[54_000..<138_000].allSatisfy { $0 == 0 })
        #expect(skipped[..<52_000] == plain[..<52_000])
        #expect(zip(skipped[140_000...], plain[140_000...]).allSatisfy { abs($0 - $1) < 0.01 })
    }

    @Test("a codec change keeps the sound where it belongs", arguments: [1, 2])
    func codecChange(channels: Int) throws {
        let opus = try Coded.sound(.opus, seconds: 1, tone(1_000, 48_000)), law = try Coded.sound(.pcmu, seconds: 1, tone(1_000, 8_000))
        func moved(_ units: [AccessUnit], _ seconds: Int64) -> [AccessUnit] {
            units.map { unit in
                var unit = unit
                unit.time = unit.time + .seconds(seconds)
                return unit
            }
        }
        let heard = try sound(opus + moved(law, 1) + moved(opus, 2), seconds: 3, channels: channels, isChanging: true)
        for second in 0..<3 { #expect(power(heard[(second * 48_000 + 12_000) * channels..<(second * 48_000 + 42_000) * channels]) > 0.25) }
        // What the first codec's delay cut off its end is missing, no more.
        for place in [47_000, 48_000] { #expect(power(heard[place * channels..<(place + 480) * channels]) > 0.27) }
    }

    @Test("whatever the packets hold, nothing is given out twice and nothing crashes", arguments: 0..<20 as Range<UInt64>)
    func hostile(seed: UInt64) throws {
        var random = Seeded(seed)
        let codec = [Codec.opus, .pcmu, .g722, .l16].randomElement(using: &random)!
        var time = epoch
        let units = (0..<300).map { _ in
            time = time + .milliseconds([20, 20, 20, 0, 1, 61, 90, 2_000].randomElement(using: &random)!)
            return AccessUnit(payload: random.bytes(Int.random(in: 1...400, using: &random)), codec: codec, time: time, duration: .milliseconds(20), isKey: true)
        }
        let heard = try sound(units, seconds: 10, channels: 2) { verdict in
            verdict.driftPPM = [nil, 200].randomElement(using: &random)!
            verdict.silences = [.init(start: epoch + .seconds(3), end: epoch + .seconds(1)), .init(start: epoch + .seconds(4), end: epoch + .seconds(5))]
        }
        #expect(heard.allSatisfy { $0.isFinite })
    }
}

extension Coded {
    static func isFEC(_ units: [AccessUnit]) -> Bool { units.contains { $0.payload.withUnsafeBytes(OpusDecoder.carriesPredecessor) } }
}
