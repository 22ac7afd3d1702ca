import FFmpeg
import Media
import Renditions

/// One sound track decoded on demand and laid at its place on a rendition's time line, in samples at 48 kHz.
///
/// Contiguous packets stay contiguous although Matroska counts in milliseconds; one lost packet is taken from the redundancy of the next,
/// up to 100 ms are concealed, and all else that is missing is silence of the exact length. Memory: one packet.
final class TrackSound {
    /// Packets that lie within this of the end of the one before follow it without a seam.
    static let snapSamples = 96
    static let concealSamplesMax = 4_800

    private let demuxer: Demuxer
    private let decoder: OpusDecoder
    private let channels: Int
    private let stream: Int
    private let packet = Packet()
    private var scratch: [Float]
    /// Place of the track's timestamp 0 on the time line.
    private let origin: Int
    /// Where the next contiguous packet goes.
    private var next: Int?
    private var wasDTX = false
    private var ready: (at: Int, samples: [Float])?
    private var isOver = false

    init(_ source: any MediaSource, origin: Int, channels: Int) throws {
        demuxer = try Demuxer(source, as: .matroska)
        guard let audio = demuxer.streams.first(where: \.isAudio) else { throw StageFailure(code: .damagedInput, what: "a sound track without sound") }
        stream = audio.index
        decoder = try OpusDecoder(channels: channels)
        self.channels = channels
        self.origin = origin
        scratch = [Float](repeating: 0, count: OpusDecoder.packetSamplesMax * channels)
    }

    /// Adds what sounds in `start..<start + mix.count / channels` to `mix`.
    func add(to mix: inout [Float], start: Int) throws {
        let end = start + mix.count / channels
        while true {
            if let (at, samples) = ready {
                guard at < end else { return }
                let count = samples.count / channels
                let (from, to) = (max(at, start), min(at + count, end))
                if from < to {
                    for i in 0..<(to - from) * channels { mix[(from - start) * channels + i] += samples[(from - at) * channels + i] }
                }
                guard at + count <= end else { return }
                ready = nil
            }
            guard !isOver else { return }
            try decodeNext()
        }
    }

    private func decodeNext() throws {
        repeat {
            guard try demuxer.read(into: packet) else {
                isOver = true
                return
            }
        } while packet.streamIndex != stream || !packet.hasTime
        let bytes = packet.bytes
        var at = origin + Int(packet.pts) * 48
        if let next, abs(at - next) <= Self.snapSamples { at = next }
        var samples: [Float] = []
        if let next, at > next, !wasDTX, at - next <= Self.concealSamplesMax { samples = filled(missing: at - next, bytes) }
        let begin = at - samples.count / channels
        wasDTX = bytes.count <= 2
        guard let count = decoder.decode(bytes, into: &scratch) else { return }  // a packet that is none: its time stays silent
        samples.append(contentsOf: scratch[..<(count * channels)])
        // Overlap (a clock that was corrected) is cut, never doubled.
        let overlap = max(0, (next ?? begin) - begin)
        if overlap > 0 { samples.removeFirst(min(samples.count, overlap * channels)) }
        ready = (begin + overlap, samples)
        next = max(next ?? 0, at + count)
    }

    private func filled(missing: Int, _ bytes: UnsafeRawBufferPointer) -> [Float] {
        let whole = missing / 120 * 120
        guard whole > 0 else { return [] }
        // One packet is missing: the next may carry it (RFC 6716 section 2.1.7).
        let recovered = whole <= 2_880 ? decoder.recover(missing: whole, from: bytes, into: &scratch) : decoder.conceal(missing: whole, into: &scratch)
        guard let count = recovered else { return [] }
        return Array(scratch[..<(count * channels)])
    }
}
