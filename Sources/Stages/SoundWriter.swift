import FFmpeg
import Renditions
import SealedFile

/// Encodes interleaved samples into one sealed file: AAC in MP4 or Opus in Ogg.
final class SoundWriter {
    private let sink: SealedSink
    private let muxer: Muxer
    private let encoder: Encoder
    private let stream: Int
    private let channels: Int
    private var waiting: [Float] = []
    private var written = 0
    private let packet = Packet()

    init(_ run: StageRun, _ output: StageOutput, channels: Int, bitrate: Int, seconds: Double) throws {
        self.channels = channels
        switch output.container {
        case .mp4:
            let head = MovieHead.bytes(seconds: seconds, picturesPerSecond: 0)
            sink = try run.sink(output, windowBytes: head + 4_096)
            muxer = try Muxer(sink, as: .mp4, options: ["moov_size": String(head)])
            encoder = try Encoder.aac(channels: channels, bitrate: bitrate)
        case .ogg:
            sink = try run.sink(output, windowBytes: 0)
            muxer = try Muxer(sink, as: .ogg)
            encoder = try Encoder.opus(channels: channels, bitrate: bitrate)
        default: throw StageFailure(code: .protocolViolation, what: "a mix cannot be written as \(output.container.rawValue)")
        }
        stream = try muxer.addStream(encoder)
        try muxer.writeHeader()
    }

    func write(_ samples: [Float]) throws {
        waiting.append(contentsOf: samples)
        let size = encoder.frameSamples * channels
        var used = 0
        while waiting.count - used >= size {
            try encode(waiting[used..<used + size])
            used += size
        }
        waiting.removeFirst(used)
    }

    private func encode(_ samples: ArraySlice<Float>) throws {
        let count = samples.count / channels
        let frame = try Frame.sound(samples: count, channels: channels, planar: encoder.isPlanar)
        if encoder.isPlanar {
            for channel in 0..<channels {
                let target = frame.channel(channel)
                for i in 0..<count { target[i] = samples[samples.startIndex + i * channels + channel] }
            }
        } else {
            let target = frame.interleaved(channels: channels)
            for (i, sample) in samples.enumerated() { target[i] = sample }
        }
        frame.pts = Int64(written)
        written += count
        try encoder.send(frame)
        try collect()
    }

    private func collect() throws {
        while try encoder.receive(into: packet) { try muxer.write(packet, stream: stream, timeBase: encoder.timeBase) }
    }

    func finish() throws -> SealedDigest {
        if !waiting.isEmpty { try encode(waiting[...]) }
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
