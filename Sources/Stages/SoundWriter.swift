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
    private(set) var packets = 0
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
            try muxer.write(packet, stream: stream, timeBase: encoder.timeBase)
            packets += 1
        }
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
