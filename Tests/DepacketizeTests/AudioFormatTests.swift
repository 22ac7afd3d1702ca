@testable import Depacketize
import Media
import TestSupport
import Testing

@Suite("Sound formats")
struct AudioFormatTests {
    private func with<Result>(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) -> Result) -> Result { bytes.withUnsafeBytes { body($0) } }
    private static func bytes(_ count: Int) -> [UInt8] { Array(repeating: 0, count: count) }

    /// Framing of RFC 6716 section 3.2 and what section 3.4 forbids; 0x78 is CELT with frames of 20 ms, 0x18 SILK with frames of 60 ms.
    static let framing: [(String, [UInt8], Int?)] = [
        ("one frame", [0x78] + bytes(1_275), 960), ("R2: one frame of 1,276 bytes", [0x78] + bytes(1_276), nil),
        ("two equal frames", [0x79, 1, 2, 3, 4], 1_920), ("R3: two frames that cannot be equal", [0x79, 1, 2, 3], nil), ("R2: two frames of 1,276 bytes", [0x79] + bytes(2_552), nil),
        ("two frames, the first of 2 bytes", [0x7A, 2, 8, 8, 9], 1_920), ("R4: a first frame longer than the packet", [0x7A, 3, 8, 8], nil), ("R4: no length", [0x7A], nil),
        ("two bytes of length: 252 + 4", [0x7A, 252, 1] + bytes(256), 1_920), ("one of two bytes of length", [0x7A, 252], nil), ("R2: a second frame of 1,276 bytes", [0x7A, 0] + bytes(1_276), nil),
        ("three equal frames", [0x7B, 3, 1, 2, 3], 2_880), ("R6: three frames that cannot be equal", [0x7B, 3, 1, 2], nil), ("R5: no frame", [0x7B, 0], nil), ("R5: more than 120 ms", [0x7B, 7, 1, 2, 3, 4, 5, 6, 7], nil),
        ("48 frames of 2.5 ms", [0xE3, 48] + bytes(48), 5_760), ("49 frames", [0xE3, 49] + bytes(49), nil),
        ("padding", [0x7B, 0x41, 2, 7, 0, 0], 960), ("padding longer than the packet", [0x7B, 0x41, 4, 7, 0, 0], nil), ("no length of padding", [0x7B, 0x41], nil),
        ("254 and one byte of padding", [0x7B, 0x41, 255, 1] + bytes(255), 960), ("padding that never ends", [0x7B, 0x41] + Array(repeating: 255, count: 600), nil),
        ("frames of their own lengths", [0x7B, 0x83, 1, 2, 8, 9, 9, 7], 2_880), ("R7: lengths beyond the packet", [0x7B, 0x83, 1, 5, 8, 9, 9], nil), ("R7: a missing length", [0x7B, 0x83, 1], nil),
        ("one frame of its own length", [0x18 | 3, 0x81, 9], 2_880), ("nothing", [], nil),
    ]

    @Test("an Opus packet whose frames do not fit is refused", arguments: framing)
    func opusFraming(name: String, packet: [UInt8], samples: Int?) {
        #expect(with(packet, OpusFormat.samples) == samples)
        #expect(with(packet) { AudioFormats.duration(of: $0, codec: .opus) } == samples.map { Nanoseconds(count: Int64($0) * 1_000_000_000 / 48_000) })
    }

    /// The redundancy flag: behind one activity flag per 20 ms, for the middle and then for the side channel (RFC 6716 section 4.2.3).
    static let redundant: [(String, [UInt8], Int?)] = [
        ("SILK mono 20 ms", [0x08, 0b0100_0000], 960), ("only active", [0x08, 0b1011_1111], nil), ("SILK mono 10 ms", [0x00, 0b0100_0000], 480),
        ("40 ms", [0x10, 0b0010_0000], 1_920), ("40 ms, both active", [0x10, 0b1101_1111], nil), ("60 ms", [0x18, 0b0001_0000], 2_880), ("60 ms, all active", [0x18, 0b1110_1111], nil),
        ("stereo, middle", [0x0C, 0b0100_0000], 960), ("stereo, side", [0x0C, 0b0001_0000], 960), ("stereo, neither", [0x0C, 0b1010_1111], nil),
        ("stereo 60 ms, side", [0x1C, 0b0000_0001], 2_880), ("stereo 40 ms, side", [0x14, 0b0000_0100], 1_920), ("mono, where a side flag would stand", [0x08, 0b0001_0000], nil),
        ("hybrid", [0x78 & 0x60 | 0x08, 0b0100_0000], 960), ("hybrid 10 ms", [0x60, 0b0100_0000], 480), ("CELT", [0x80 | 0x18, 0xFF], nil),
        ("two frames, the first has it", [0x09, 0x40, 0x00], 960), ("two frames, the second has it", [0x09, 0x00, 0x40], nil), ("two frames of their own lengths", [0x0A, 1, 0x40, 0], 960),
        ("three frames and padding", [0x0B, 0x43, 1, 0x40, 0, 0, 0xFF], 960), ("three frames of their own lengths", [0x0B, 0x83, 1, 1, 0x40, 0, 0], 960), ("an empty frame", [0x08], nil),
        ("an empty first frame", [0x0A, 0, 0xFF], nil), ("no packet", [0x09, 0x40], nil), ("nothing", [], nil),
    ]

    @Test("whether an Opus packet restores the one before stands in its first frame's first bits", arguments: redundant)
    func redundancy(name: String, packet: [UInt8], samples: Int?) {
        #expect(with(packet, OpusFormat.redundantSamples) == samples)
        #expect(with(packet, OpusFormat.carriesRedundancy) == (samples != nil))
    }

    @Test("an Opus packet says its channels, and silence that is not sent is one or two bytes")
    func contents() {
        #expect([[0x78, 1], [0x7C, 1], []].map { with($0, OpusFormat.channels) } == [1, 2, nil])
        #expect([[], [0x78], [0x78, 1], [0x78, 1, 2]].map { with($0, OpusFormat.isDTX) } == [false, true, true, false])
    }

    static let durations: [(String, Int, Int, Int, Int64?)] = [
        ("PCMU", 8_000, 1, 160, 20_000_000), ("PCMA", 8_000, 1, 320, 40_000_000), ("PCMA", 8_000, 1, 8_000, 1_000_000_000), ("PCMA", 8_000, 1, 8_001, nil), ("PCMU", 16_000, 1, 160, 10_000_000),
        ("PCMU", 8_000, 2, 160, 10_000_000), ("PCMU", 8_000, 2, 161, nil), ("PCMU", 8_000, 1, 0, nil), ("PCMU", 8_000, 1, 1, 125_000), ("G722", 8_000, 1, 160, 20_000_000), ("G722", 16_000, 1, 160, 20_000_000),
        ("L16", 44_100, 2, 1_764, 10_000_000), ("L16", 48_000, 1, 1_920, 20_000_000), ("L16", 48_000, 2, 1_922, nil), ("L16", 44_100, 1, 2, 22_675), ("L16", 8_000, 1, 16_002, nil),
        ("GSM", 8_000, 1, 33, nil), ("CN", 8_000, 1, 1, nil), ("PCMU", 0, 1, 160, nil), ("PCMU", 8_000, 0, 160, nil), ("L16", .max, .max, 160, nil),
    ]

    @Test("how long a packet's sound is says its payload", arguments: durations)
    func duration(name: String, rate: Int, channels: Int, count: Int, nanoseconds: Int64?) {
        #expect(with(Self.bytes(count)) { AudioFormats.duration(of: $0, codec: Codec(name: name, clockRate: rate, channels: channels)) } == nanoseconds.map { Nanoseconds(count: $0) })
    }

    @Test("what is carried beside media is no media")
    func kinds() {
        func codecs(_ names: String...) -> [Codec] { names.map { Codec(name: $0, clockRate: 8_000) } }
        let (media, beside) = (codecs("PCMU", "PCMA", "G722", "L16") + [.opus], codecs("CN", "telephone-event", "red", "rtx", "ulpfec", "flexfec-03"))
        #expect(media.allSatisfy { AudioFormats.isSupported($0) && !AudioFormats.isAuxiliary($0) })
        #expect(beside.allSatisfy { AudioFormats.isAuxiliary($0) && !AudioFormats.isSupported($0) })
        #expect((codecs("GSM", "opus") + [.vp8]).allSatisfy { !AudioFormats.isAuxiliary($0) && !AudioFormats.isSupported($0) })
    }

    @Test("a packet that is cut anywhere never gives a frame beyond its end")
    func truncated() {
        for whole in [[0x0B, 0x83, 1, 1, 0x40, 0, 0], [0x0B, 0x43, 1, 0x40, 0, 0, 0xFF], [0x0A, 1, 0x40, 0]] as [[UInt8]] {
            for cut in 0...whole.count {
                if let packet = with(Array(whole.prefix(cut)), OpusPacket.init) { #expect(packet.firstFrame.upperBound <= cut) }
            }
        }
    }

    @Test("200,000 random payloads of every codec: no crash, no length beyond its limit", arguments: 0..<20 as Range<UInt64>)
    func hostile(seed: UInt64) {
        var random = Seeded(seed)
        let codecs = [Codec.opus, .opus, .opus, .opus] + ["PCMU", "G722", "L16"].map { Codec(name: $0, clockRate: 8_000, channels: 2) }
        var words = [UInt64](repeating: 0, count: 8)
        for _ in 0..<10_000 {
            for place in words.indices { words[place] = random.next() }
            let (length, codec) = (Int(random.next() % 65), codecs[Int(random.next() % UInt64(codecs.count))])
            words.withUnsafeMutableBytes { all in
                if random.next() % 2 == 0 { all[0] |= 3 }  // code 3 has the most to say
                let payload = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(all)[..<length])
                if let duration = AudioFormats.duration(of: payload, codec: codec) {
                    #expect(duration > .zero && duration <= (codec == .opus ? .milliseconds(120) : .seconds(1)))
                }
                if let packet = OpusPacket(payload) { #expect(packet.firstFrame.upperBound <= length) }
                _ = OpusFormat.redundantSamples(payload)
            }
        }
    }
}
