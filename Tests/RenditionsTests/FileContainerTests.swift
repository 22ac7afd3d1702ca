import Renditions
import TestSupport
import Testing

@Suite("Containers by their first bytes")
struct FileContainerTests {
    @Test("each container is known by its own mark, and by nothing else", arguments: [
        ([0, 0, 0, 32] + Array("ftypisom".utf8), FileContainer.mp4), ([0, 0, 0, 8] + Array("wide".utf8), .mp4), ([0x1A, 0x45, 0xDF, 0xA3], .matroska),
        (Array("RIFF....WAVE".utf8), .wav), (Array("RF64....WAVE".utf8), .wav), (Array("OggS".utf8), .ogg), (Array("RIFF....AVI ".utf8), nil),
        (Array("#EXTM3U\n#EXT-X".utf8), nil), (Array("ID3".utf8), nil), ([0xD4, 0xC3, 0xB2, 0xA1], nil), ([], nil), (Array("ftypisom".utf8), nil),
    ] as [([UInt8], FileContainer?)])
    func known(bytes: [UInt8], container: FileContainer?) { #expect(FileContainer(firstBytes: bytes) == container) }
}
