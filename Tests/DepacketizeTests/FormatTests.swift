@testable import Depacketize
import TestSupport
import Testing

@Suite("Payload formats")
struct FormatTests {
    static let opus: [([UInt8], Int?)] = [
        ([0x78, 0], 960), ([0x00], 480), ([0x18], 2_880), ([0x80], 120), ([0xF9], 1_920), ([0x7B, 3], 2_880), ([0xFB, 6], 5_760), ([0xFB, 7], nil), ([0x03], nil), ([0x03, 0], nil), ([], nil),
    ]

    @Test("an Opus packet's length stands in its first bytes (RFC 6716 section 3.1)", arguments: opus)
    func opusLength(packet: [UInt8], samples: Int?) { packet.withUnsafeBytes { #expect(OpusFormat.samples($0) == samples) } }
}
