import Media
import RTP
import TestSupport
import Testing

@Suite("Header extensions")
struct HeaderExtensionTests {
    /// A packet with an extension block of the profile, filled up to 32 bits.
    private func packet(profile: UInt16 = 0xBEDE, _ elements: [UInt8]) -> [UInt8] {
        let filled = elements + Array(repeating: 0, count: (4 - elements.count % 4) % 4)
        return [0x90, 96, 0, 1, 0, 0, 0, 9, 0, 0, 0, 5, UInt8(profile >> 8), UInt8(profile & 255), 0, UInt8(filled.count / 4)] + filled + [0xAA]
    }

    private func read(_ bytes: [UInt8], _ reader: ExtensionReader) throws -> PacketExtensions {
        try bytes.withUnsafeBytes { buffer throws(RTPError) in reader.read(try RTPHeader(buffer), in: buffer) }
    }

    private let all = ExtensionReader([
        1: HeaderExtensionURI.audioLevel, 2: HeaderExtensionURI.mid, 3: HeaderExtensionURI.rtpStreamID, 4: HeaderExtensionURI.repairedRTPStreamID,
        5: HeaderExtensionURI.videoOrientation, 6: HeaderExtensionURI.absoluteCaptureTime, 7: "urn:unknown",
    ])

    @Test("all of a packet's extensions are read in one pass, in the one-byte and in the two-byte form")
    func whole() throws {
        let expected = PacketExtensions(level: AudioLevel(0x85), mid: "a0", rid: "hi", repairedRid: "r_1", orientation: VideoOrientation(rotationDegrees: 270, isFlipped: true),
                                        captureTime: CaptureTime(ntp: 0x0102_0304_0506_0708, clockOffset: nil))
        let time: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
        #expect(try read(packet([0x10, 0x85, 0x21, 0x61, 0x30, 0x31, 0x68, 0x69, 0x42, 0x72, 0x5F, 0x31, 0x50, 0x07, 0x67] + time + [0x70, 0xFF]), all) == expected)
        #expect(try read(packet(profile: 0x1000, [1, 1, 0x85, 2, 2, 0x61, 0x30, 3, 2, 0x68, 0x69, 0, 4, 3, 0x72, 0x5F, 0x31, 5, 1, 7, 6, 8] + time), all) == expected)
    }

    @Test("the rotation is clockwise, as the viewer must turn the picture (3GPP TS 26.114 section 7.4.5)")
    func rotation() throws {
        #expect(try ([0, 1, 2, 3] as [UInt8]).map { try read(packet([0x50, $0]), all).rotationDegrees } == [0, 90, 180, 270])
        #expect(VideoOrientation(0x0E) == VideoOrientation(rotationDegrees: 180, isFlipped: true, isBackCamera: true))
    }

    @Test("a capture time may come with the offset of its clock; of any other length it says nothing")
    func captureTime() throws {
        let both: [UInt8] = [0, 0, 0, 1, 0, 0, 0, 0] + Array(repeating: 0xFF, count: 8)
        #expect(try read(packet([0x6F] + both), all).captureTime == CaptureTime(ntp: 1 << 32, clockOffset: -1))
        #expect(try read(packet([0x66] + both.prefix(7)), all) == PacketExtensions())
    }

    @Test("names with forbidden characters say nothing, and what the SDP did not announce is not read")
    func refused() throws {
        #expect(try read(packet([0x21, 0x61, 0x20, 0x31, 0x2E, 0x61]), all) == PacketExtensions())
        #expect(try read(packet([0x21, 0xFF, 0xFE]), all) == PacketExtensions())
        #expect(try read(packet([0x10, 0x85]), ExtensionReader([:])) == PacketExtensions())
        #expect(try read(packet(profile: 0x2222, [0x10, 0x85, 0, 0]), all) == PacketExtensions())
        #expect(try read(packet(profile: 0x1000, [1, 0, 2, 0]), all) == PacketExtensions())  // elements of no length
        #expect(try read([0x80, 96, 0, 1, 0, 0, 0, 9, 0, 0, 0, 5, 0x10, 0x85], all) == PacketExtensions())
    }

    @Test("an element of id 0 with a length, or of id 15, ends the list (RFC 8285 section 4.2)")
    func ended() throws {
        for end in [0x01, 0xF0] as [UInt8] { #expect(try read(packet([0, 0x10, 0x85, end, 0x50, 0x01]), all) == PacketExtensions(level: AudioLevel(0x85))) }
    }

    @Test("an element that is cut off by the block's end says nothing")
    func truncated() throws {
        #expect(try read(packet([0x10, 0x85, 0x23, 0x61]), all) == PacketExtensions(level: AudioLevel(0x85)))
        #expect(try read(packet(profile: 0x1000, [1, 1, 0x85, 2]), all) == PacketExtensions(level: AudioLevel(0x85)))
        let whole = packet([0x10, 0x85, 0x21, 0x61, 0x30, 0x50, 0x01])
        for cut in 0..<24 { #expect(throws: RTPError.self) { try read(Array(whole.prefix(cut)), all) } }
        #expect(try read(Array(whole.prefix(24)), all) == PacketExtensions(level: AudioLevel(0x85), mid: "a0", orientation: VideoOrientation(rotationDegrees: 90)))
    }

    @Test("where two ids have one URI, the lower one is read")
    func twice() throws {
        let reader = ExtensionReader([9: HeaderExtensionURI.mid, 2: HeaderExtensionURI.mid])
        #expect(try read(packet([0x90, 0x62, 0x20, 0x61]), reader).mid == "a")
    }
}
