@testable import Depacketize
import Media
import TestSupport
import Testing

@Suite("Hostile pictures")
struct PictureRobustnessTests {
    static let names = ["vp8", "vp9", "h264", "h265", "av1"]

    private static func streams(_ name: String, _ random: inout Seeded) -> [SentStream] {
        switch name {
        case "vp8": VP8FormatTests.senders.map { $0.send(60, &random) }
        case "vp9": VP9FormatTests.senders.map { $0.send(60, &random) }
        case "h264": [NALSender(hasDisposable: true).send(60, &random)]
        case "h265": [NALSender(standard: .h265).send(60, &random)]
        default: [AV1Sender().send(60, &random)]
        }
    }

    private func feed(_ assembler: inout some VideoAssembler, _ codec: Codec, _ random: inout Seeded, next: (inout Seeded) -> (payload: [UInt8], timestamp: Int64)) -> Int {
        var bytes = 0
        for _ in 0..<20_000 {
            let (payload, timestamp) = next(&random)
            payload.withUnsafeBytes {
                _ = VideoFormats.beginsKeyFrame($0, codec: codec)
                if Bool.random(using: &random) { random.bytes(Int.random(in: 0...30, using: &random)).withUnsafeBytes { assembler.note(dependencies: $0) } }
                let isContiguous = Int.random(in: 0..<8, using: &random) > 0
                bytes += assembler.push($0, timestamp: timestamp, marker: Bool.random(using: &random), isContiguous: isContiguous).reduce(0) { $0 + $1.bytes.count }
            }
            switch Int.random(in: 0..<2_000, using: &random) {
            case 0: assembler.lose()
            case 1: bytes += assembler.finish().count
            default: break
            }
        }
        return bytes
    }

    @Test("neither random payloads nor spoiled good ones nor any time stamp make an assembler crash", arguments: names, 0..<10 as Range<UInt64>)
    func hostile(name: String, seed: UInt64) throws {
        var random = Seeded(seed)
        let codec = Codec(name: name, clockRate: 90_000)
        var assembler = try #require(VideoFormats.assembler(for: codec, parameters: nil))
        if seed < 5 {
            // At most 20 different time stamps in a row, and now and then one at the end of all numbers.
            var timestamp: Int64 = 0
            _ = feed(&assembler, codec, &random) { random in
                if Int.random(in: 0..<4, using: &random) == 0 { timestamp = Bool.random(using: &random) ? timestamp &+ 1 : [Int64.max, .min, 0, -1].randomElement(using: &random)! }
                return (random.bytes(Int.random(in: 0...60, using: &random)), timestamp)
            }
        } else {
            let packets = Self.streams(name, &random).flatMap(\.packets)
            var place = 0
            _ = feed(&assembler, codec, &random) { random in
                place = (place + 1) % packets.count
                var payload = packets[place].payload
                switch Int.random(in: 0..<8, using: &random) {
                case 0: payload.removeLast(Int.random(in: 0...payload.count, using: &random))
                case 1: payload.insert(UInt8.random(in: .min ... .max, using: &random), at: Int.random(in: 0...payload.count, using: &random))
                case 2, 3: payload[Int.random(in: 0..<min(payload.count, 12), using: &random)] = UInt8.random(in: .min ... .max, using: &random)
                default: break
                }
                return (payload, packets[place].timestamp)
            }
        }
    }

    @Test("a frame that never ends is dropped at its maximum, and its memory is bounded", arguments: names)
    func endless(name: String) throws {
        let codec = Codec(name: name, clockRate: 90_000)
        var assembler = try #require(VideoFormats.assembler(for: codec, parameters: nil))
        let middle = [UInt8](repeating: 9, count: 60_000)
        let (begin, next): ([UInt8], [UInt8]) =
            switch name {
            case "vp8": ([0x10], [0x00])
            case "vp9": ([0x08], [0x00])
            case "h264": ([0x7C, 0x85], [0x7C, 0x05])
            case "h265": ([0x62, 1, 0x93], [0x62, 1, 0x13])
            default: ([0x58], [0xD0])
            }
        func push(_ assembler: inout some VideoAssembler, _ payload: [UInt8], _ marker: Bool) -> [VideoFrame] {
            payload.withUnsafeBytes { assembler.push($0, timestamp: 0, marker: marker, isContiguous: true) }
        }
        #expect(push(&assembler, begin + middle, false) == [])
        for _ in 0..<100 { #expect(push(&assembler, next + middle, false) == []) }
        #expect(push(&assembler, next + middle, true) == [])
        #expect(assembler.needsKey)
    }
}
