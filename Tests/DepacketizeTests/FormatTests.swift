@testable import Depacketize
import Media
import TestSupport
import Testing

@Suite("Payload formats")
struct FormatTests {
    static let opus: [([UInt8], Int?)] = [
        ([0x78, 0], 960), ([0x00], 480), ([0x18], 2_880), ([0x80], 120), ([0xF9], 1_920), ([0x7B, 3], 2_880), ([0xFB, 6], 5_760), ([0xFB, 7], nil), ([0x03], nil), ([0x03, 0], nil), ([], nil),
    ]

    @Test("an Opus packet's length stands in its first bytes (RFC 6716 section 3.1)", arguments: opus)
    func opusLength(packet: [UInt8], samples: Int?) { packet.withUnsafeBytes { #expect(OpusFormat.samples($0) == samples) } }

    /// A key frame of 320x240 (RFC 6386 section 9.1) and what follows one.
    static let key: [UInt8] = [0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0, 9, 9]
    static let delta: [UInt8] = [0x11, 0, 0, 5, 5]

    private func push(_ assembler: inout VP8Assembler, _ payload: [UInt8], _ time: Int64, marker: Bool = true, contiguous: Bool = true) -> VideoFrame? {
        payload.withUnsafeBytes { assembler.push($0, timestamp: time, marker: marker, isContiguous: contiguous) }.last
    }

    @Test("a frame comes out when its last packet is there, whole and with its size")
    func frame() {
        var assembler = VP8Assembler()
        #expect(push(&assembler, [0x10] + Self.key.prefix(6), 0, marker: false) == nil)
        let frame = push(&assembler, [0x00] + Self.key.dropFirst(6), 0)
        #expect(frame?.bytes == Self.key)
        #expect([frame?.width, frame?.height] == [320, 240])
        #expect(frame?.isKey == true)
    }

    @Test("the extended descriptor is skipped to the byte (RFC 7741 section 4.2)")
    func descriptor() {
        let all: [UInt8] = [0x90, 0xF0, 0x81, 0x02, 7, 0x20] + Self.key
        let found = all.withUnsafeBytes { VP8Descriptor($0) }
        #expect(found?.start == 6)
        #expect(found?.pictureID == 0x102)
        for cut in 0..<6 { #expect(Array(all.prefix(cut)).withUnsafeBytes { VP8Descriptor($0) } == nil) }
    }

    @Test("a frame without its marker is ended by the next one in direct succession, and by nothing else")
    func noMarker() {
        var assembler = VP8Assembler()
        func bytes(_ payload: [UInt8], _ time: Int64, contiguous: Bool = true) -> [[UInt8]] {
            payload.withUnsafeBytes { assembler.push($0, timestamp: time, marker: false, isContiguous: contiguous) }.map(\.bytes)
        }
        #expect(bytes([0x10] + Self.key, 0) == [])
        #expect(bytes([0x10] + Self.delta, 1) == [Self.key])
        #expect(bytes([0x10] + Self.delta, 2, contiguous: false) == [])
        #expect(assembler.dropped == 1)
    }

    @Test("after a loss nothing comes out until the next key frame")
    func loss() {
        var assembler = VP8Assembler()
        #expect(push(&assembler, [0x10] + Self.delta, 0) == nil)
        #expect(push(&assembler, [0x10] + Self.key, 1) != nil)
        #expect(push(&assembler, [0x10] + Self.delta, 2) != nil)
        #expect(push(&assembler, [0x10] + Self.delta, 4, contiguous: false) == nil)
        #expect(push(&assembler, [0x10] + Self.delta, 5) == nil)
        #expect(push(&assembler, [0x10] + Self.key, 6) != nil)
    }

    @Test("random payloads never crash the assembler", arguments: 0..<10 as Range<UInt64>)
    func fuzz(seed: UInt64) {
        var random = Seeded(seed)
        var assembler = VP8Assembler()
        for i in 0..<2_000 { _ = push(&assembler, random.bytes(Int.random(in: 0...40, using: &random)), Int64(i / 3), marker: Bool.random(using: &random), contiguous: i % 7 != 0) }
    }
}
