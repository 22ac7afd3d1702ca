import Media
import RTP
import TestSupport
import Testing

/// Each parser gets 200,000 inputs: 20 seeds of 10,000. What is checked is that nothing crashes and that no range leaves its bytes.
@Suite("Hostile input")
struct HostileInputTests {
    private static let inputs = 10_000

    /// Random bytes with a beginning that gets past the first checks, most of the time.
    private func each(_ seed: UInt64, max: Int, beginnings: [[UInt8]], _ body: (UnsafeRawBufferPointer) -> Void) {
        var random = Seeded(seed)
        var words = [UInt64](repeating: 0, count: max / 8 + 1)
        for round in 0..<Self.inputs {
            for place in words.indices { words[place] = random.next() }
            let length = Int(random.next() % UInt64(max + 1))
            words.withUnsafeMutableBytes { bytes in
                if round % 4 != 0, !beginnings.isEmpty {
                    let beginning = beginnings[Int(random.next() % UInt64(beginnings.count))]
                    for (place, byte) in beginning.enumerated() where place < max { bytes[place] = byte }
                }
                body(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[..<length]))
            }
        }
    }

    @Test("RTCP", arguments: 0..<20 as Range<UInt64>)
    func rtcp(seed: UInt64) {
        var beginnings: [[UInt8]] = []
        for type in [200, 201, 202, 203, 205, 206] as [UInt8] {
            for length in 0...6 as ClosedRange<UInt8> { beginnings += [[0x81, type, 0, length], [0x84, type, 0, length], [0xA1, type, 0, length]] }
        }
        each(seed, max: 64, beginnings: beginnings) { bytes in
            if let packets = try? RTCPPacket.parse(bytes) { #expect(packets.count <= 16) }
        }
    }

    @Test("header extensions", arguments: 0..<20 as Range<UInt64>)
    func extensions(seed: UInt64) {
        let uris = [HeaderExtensionURI.audioLevel, HeaderExtensionURI.mid, HeaderExtensionURI.rtpStreamID, HeaderExtensionURI.repairedRTPStreamID,
                    HeaderExtensionURI.videoOrientation, HeaderExtensionURI.absoluteCaptureTime]
        let reader = ExtensionReader(Dictionary(uniqueKeysWithValues: zip(1..., uris)))
        let fixed: [UInt8] = [0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]
        var beginnings: [[UInt8]] = []
        for length in 0...7 as ClosedRange<UInt8> { beginnings += [fixed + [0xBE, 0xDE, 0, length], fixed + [0x10, 0, 0, length]] }
        each(seed, max: 48, beginnings: beginnings) { bytes in
            guard let header = try? RTPHeader(bytes) else { return }
            let found = reader.read(header, in: bytes)
            if let degrees = found.rotationDegrees { #expect(degrees % 90 == 0 && degrees < 360) }
            if let repaired = Retransmission.restored(header, in: bytes, apt: 1, ssrc: SSRC(rawValue: 2)) { #expect(repaired.payload.upperBound <= bytes.count) }
        }
    }

    @Test("redundant audio", arguments: 0..<20 as Range<UInt64>)
    func redundancy(seed: UInt64) {
        each(seed, max: 64, beginnings: [[0x80, 0, 0, 4], [0x80, 0, 0, 4, 0xEF, 0, 0, 9], [0x80, 0, 0, 4, 0xEF, 0, 0, 9, 0x6F]]) { bytes in
            guard let blocks = RedundantAudio.blocks(bytes) else { return }
            #expect(blocks.count <= RedundantAudio.blocksMax && blocks.last?.range.upperBound == bytes.count)
            for (block, next) in zip(blocks, blocks.dropFirst()) { #expect(block.range.upperBound == next.range.lowerBound) }
        }
    }

    @Test("telephone events, in any order", arguments: 0..<20 as Range<UInt64>)
    func tones(seed: UInt64) {
        var collector = ToneCollector()
        var (random, time, given) = (Seeded(seed &+ 1), Int64(0), 0)
        each(seed, max: 6, beginnings: [[1], [4, 0x80], [4, 0, 0xFF, 0xFF]]) { bytes in
            switch random.next() % 16 {
            case 0: time = Int64(bitPattern: random.next())
            case 1...8: time &+= Int64(random.next() % 70_000) - 2_000
            default: break
            }
            if collector.push(timestamp: time, payload: bytes, marker: random.next() % 4 == 0) != nil { given += 1 }
        }
        while collector.finish() != nil { given += 1 }
        #expect(given <= Self.inputs)
    }

    @Test("session descriptions", arguments: 0..<20 as Range<UInt64>)
    func descriptions(seed: UInt64) {
        let words = ["v=0", "m=", "audio ", "video ", "5004 ", "RTP/SAVPF ", "UDP/TLS/RTP/SAVPF ", "0 ", "96 ", "300 ", "a=", "rtpmap:", "fmtp:", "crypto:", "1 ", "ssrc-group:", "FID ", "rid:", "simulcast:",
                     "send ", "recv ", "~", ";", ",", "|", ":", "2^", "inline:", "AES_CM_128_HMAC_SHA1_80 ", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e", "c=IN IP4 ", "opus/48000/2", "extmap:",
                     "ptime:", "inactive", "\r\n", "\n", "\u{0}", "\u{301}", "é", " ", "=", "4294967296", "-1"]
        var random = Seeded(seed)
        for _ in 0..<Self.inputs {
            var text = "v=0\nm=audio 5004 RTP/SAVP 0\n"
            for _ in 0..<Int(random.next() % 12) {
                text += words[Int(random.next() % UInt64(words.count))]
                if random.next() % 3 == 0 { text += "\n" }
            }
            if random.next() % 8 == 0 { text = String(text.dropFirst(Int(random.next() % 9))) }
            do {
                let media = try SessionDescription(parsing: text).media
                #expect(!media.isEmpty)
                for one in media { _ = one.trackFormat(kind: .audio) }
            } catch { #expect(!error.description.contains("AQIDBAUG")) }
        }
    }
}
