import Depacketize
import Media

/// Payloads of one codec in sequence order, with the losses and ends that come between them.
func fuzzPictures(_ codec: Codec, parameters: String? = nil, _ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var input = Input(start, count)
    // Half of the inputs bring parameters of their own.
    let own = input.byte() & 1 != 0 ? String(decoding: input.block(), as: UTF8.self) : parameters
    guard var assembler = VideoFormats.assembler(for: codec, parameters: own) else { return 0 }
    var timestamp: Int64 = 1 << 32
    var (pushed, given) = (0, 0)
    func check(_ frames: [VideoFrame]) {
        for frame in frames {
            given += frame.bytes.count
            precondition(!frame.bytes.isEmpty, "a picture has bytes")
            precondition((frame.width ?? 1) >= 0 && (frame.height ?? 1) >= 0, "a picture has a size")
        }
    }
    while !input.isEmpty {
        // 1 marker, 2 the same time stamp, 4 packets are missing, 24: 8 finish, 16 lose, 224 by how much time goes on.
        let flags = input.byte()
        if flags & 2 == 0 { timestamp += 3_000 * Int64(1 + flags >> 5) }
        let payload = input.block()
        pushed += payload.count
        payload.withUnsafeBytes { bytes in
            check(assembler.push(bytes, timestamp: timestamp, marker: flags & 1 != 0, isContiguous: flags & 4 == 0))
            _ = VideoFormats.beginsKeyFrame(bytes, codec: codec)
        }
        switch flags & 24 {
        case 8: check(assembler.finish())
        case 16: assembler.lose()
        default: break
        }
        _ = (assembler.dropped, assembler.malformed, assembler.needsKey)
    }
    check(assembler.finish())
    // Start codes, parameter sets and size fields are added; nothing is multiplied.
    precondition(given <= 64 * (pushed + count) + 4_096, "what comes out was put in")
    return 0
}
