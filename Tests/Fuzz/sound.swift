import Depacketize
import Media
import RTP

/// Payloads of sound: redundant ones, keys of a telephone, comfort noise, and how long Opus and the others say they are.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var input = Input(start, count)
    var tones = ToneCollector()
    var timestamp: Int64 = 0
    while !input.isEmpty {
        let flags = input.byte()
        timestamp &+= Int64(Int16(bitPattern: input.word())) &* (flags & 2 != 0 ? 1 << 24 : 1)
        let payload = input.block()
        payload.withUnsafeBytes { bytes in
            if let blocks = RedundantAudio.blocks(bytes) {
                precondition(blocks.last?.range.upperBound == bytes.count && blocks.count <= RedundantAudio.blocksMax, "the primary block is the rest")
                for block in blocks { _ = OpusFormat.samples(UnsafeRawBufferPointer(rebasing: bytes[block.range])) }
            }
            if let tone = tones.push(timestamp: timestamp, payload: bytes, marker: flags & 1 != 0) { precondition(tone.duration >= 0, "no key is pressed for less than nothing") }
            _ = ComfortNoise.level(bytes)
            for codec in codecs {
                if let duration = AudioFormats.duration(of: bytes, codec: codec) { precondition(duration > .zero, "a sound takes time") }
            }
            _ = (OpusFormat.channels(bytes), OpusFormat.isDTX(bytes))
            if let redundant = OpusFormat.redundantSamples(bytes) { precondition((1...5_760).contains(redundant), "what is redundant is no longer than a packet") }
            if let samples = OpusFormat.samples(bytes) { precondition((1...5_760).contains(samples), "an Opus packet lasts at most 120 ms") }
        }
    }
    _ = tones.finish()
    return 0
}

private let codecs: [Codec] = [
    .opus, Codec(name: "PCMU", clockRate: 8_000), Codec(name: "G722", clockRate: 8_000), Codec(name: "L16", clockRate: 44_100, channels: 2), Codec(name: "CN", clockRate: 8_000),
]
