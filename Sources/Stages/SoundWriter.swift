import FFmpeg
import Renditions
import SealedFile

/// Encodes interleaved samples into one sealed file: AAC in MP4 or Opus in Ogg.
final class SoundWriter {
    private let sink: SealedSink
    private let muxer: Muxer
    let encoder: Encoder
    private let stream: Int
    private let channels: Int
    private var waiting: [Float] = []
    private var written = 0
    private(set) var packets = 0
    private let packet = Packet()

    /// The packets that were written, for whoever wants them beside pictures.
    private var kept: [Kept] = []
    private var given = 0
    var isKeeping = false

    private struct Kept {
        var bytes: [UInt8]
        var pts, dts, duration: Int64
    }

    /// Into an output of a run, for sound of `seconds`.
    convenience init(_ run: StageRun, _ output: StageOutput, channels: Int, bitrate: Int, seconds: Double) throws {
        let head = MovieHead.bytes(seconds: seconds, picturesPerSecond: 0)
        try self.init(run.sink(output, windowBytes: output.container == .mp4 ? head + 4_096 : 0), as: output.container, channels: channels, bitrate: bitrate, head: head)
    }

    /// `head`: bytes that are set aside for an MP4's index, which the sink can still patch.
    init(_ sink: SealedSink, as container: StageOutput.Container, channels: Int, bitrate: Int, head: Int) throws {
        (self.channels, self.sink) = (channels, sink)
        switch container {
        case .mp4:
            muxer = try Muxer(sink, as: .mp4, options: ["moov_size": String(head)])
            encoder = try Encoder.aac(channels: channels, bitrate: bitrate)
        case .ogg:
            muxer = try Muxer(sink, as: .ogg)
            encoder = try Encoder.opus(channels: channels, bitrate: bitrate)
        default: throw StageFailure(code: .protocolViolation, what: "a mix cannot be written as \(container.rawValue)")
        }
        stream = try muxer.addStream(encoder)
        try muxer.writeHeader()
    }

    func write(_ samples: [Float]) throws {
        waiting.append(contentsOf: samples)
        let size = encoder.frameSamples * channels
        var used = 0
        try waiting.withUnsafeBufferPointer { all in
            while all.count - used >= size {
                try encode(UnsafeBufferPointer(rebasing: all[used..<used + size]))
                used += size
            }
        }
        waiting.removeFirst(used)
    }

    private func encode(_ samples: UnsafeBufferPointer<Float>) throws {
        let count = samples.count / channels
        let frame = try Frame.sound(samples: count, channels: channels, planar: encoder.isPlanar)
        if !encoder.isPlanar || channels == 1 {
            _ = frame.interleaved(channels: encoder.isPlanar ? 1 : channels).update(fromContentsOf: samples)
        } else if let source = samples.baseAddress {
            for channel in 0..<channels {
                guard let target = frame.channel(channel).baseAddress else { continue }
                for i in 0..<count { target[i] = source[i * channels + channel] }
            }
        }
        frame.pts = Int64(written)
        written += count
        try encoder.send(frame)
        try collect()
    }

    private func collect() throws {
        while try encoder.receive(into: packet) {
            if isKeeping { kept.append(Kept(bytes: Array(packet.bytes), pts: packet.pts, dts: packet.dts, duration: packet.duration)) }
            try muxer.write(packet, stream: stream, timeBase: encoder.timeBase)
            packets += 1
        }
    }

    /// Gives copies of the packets, in the encoder's time base, that begin up to `seconds`, and forgets them.
    func copies(upTo seconds: Double, _ give: (borrowing Packet) throws -> Void) throws {
        while given < kept.count, Double(kept[given].dts) * encoder.timeBase.value <= seconds {
            let one = kept[given]
            try one.bytes.withUnsafeBytes { try packet.fill($0) }
            (packet.pts, packet.dts, packet.duration, packet.isKey) = (one.pts, one.dts, one.duration, true)
            try give(packet)
            given += 1
        }
        kept.removeFirst(given)
        given = 0
    }

    func finish() throws -> SealedDigest {
        if !waiting.isEmpty { try waiting.withUnsafeBufferPointer { try encode($0) } }
        try encoder.drain()
        try collect()
        try muxer.finish()
        return try sink.writer.finish()
    }
}

/// How much room an MP4's index needs in front, since what is sealed behind it cannot be moved any more.
enum MovieHead {
    /// Bytes for `seconds` of sound at 48 kHz and pictures: sample sizes, times, offsets and chunks, counted as if every sample were a
    /// chunk of its own. What is not needed stays as a `free` box.
    static func bytes(seconds: Double, picturesPerSecond: Int) -> Int {
        let perSecond = 47.0 * 28 + Double(picturesPerSecond) * 44
        return 16_384 + Int(seconds * perSecond * 1.05)
    }
}
