import CFFmpeg
import FFmpeg
import Foundation

/// A file in memory.
final class MemorySink: MediaSink, MediaSource {
    var bytes: [UInt8]
    init(_ bytes: [UInt8] = []) { self.bytes = bytes }
    var position: Int { bytes.count }
    var length: Int { bytes.count }
    func append(_ more: UnsafeRawBufferPointer) { bytes += more }
    func overwrite(at offset: Int, _ new: UnsafeRawBufferPointer) { bytes.replaceSubrange(offset..<offset + new.count, with: new) }
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        guard offset >= 0, offset < bytes.count else { return 0 }
        let count = min(buffer.count, bytes.count - offset)
        buffer.copyBytes(from: bytes[offset..<offset + count])
        return count
    }
}

/// Two seconds of a tone and of a brightening picture, as a program that records would have left them.
enum FinishedFile {
    static let width = 64, height = 48, frames = 50

    static func make(_ container: Muxer.Container, picture: Bool = true) throws -> [UInt8] {
        let sink = MemorySink()
        let muxer = try Muxer(sink, as: container)
        let sound = container == .mp4 ? try Encoder.aac(channels: 1, bitrate: 64_000) : try Encoder.opus(channels: 1, bitrate: 64_000)
        let video = picture ? try Encoder.h264(width: width, height: height, frameRate: 25, preset: "veryfast", constantRateFactor: 25, threads: 1) : nil
        let place = try (sound: muxer.addStream(sound), video: video.map { try muxer.addStream($0) })
        try muxer.writeHeader()
        if let video, let place = place.video {
            for number in 0..<frames {
                let frame = try Frame.picture(width: width, height: height)
                frame.pts = Int64(number)
                for plane in 0..<3 {
                    let rows = plane == 0 ? height : height / 2
                    if let data = plane == 0 ? frame.raw.pointee.data.0 : plane == 1 ? frame.raw.pointee.data.1 : frame.raw.pointee.data.2 {
                        let stride = Int(plane == 0 ? frame.raw.pointee.linesize.0 : frame.raw.pointee.linesize.1)
                        data.update(repeating: plane == 0 ? UInt8(16 + number * 4) : 128, count: rows * stride)
                    }
                }
                try video.send(frame)
                try drain(video, into: muxer, place)
            }
            try video.drain()
            try drain(video, into: muxer, place)
        }
        var at = 0
        while at < 96_000 {
            let frame = try Frame.sound(samples: sound.frameSamples, channels: 1, planar: sound.isPlanar)
            frame.pts = Int64(at)
            let samples = frame.channel(0)
            for i in samples.indices { samples[i] = 0.3 * Float(sin(2 * Double.pi * 440 * Double(at + i) / 48_000)) }
            try sound.send(frame)
            try drain(sound, into: muxer, place.sound)
            at += sound.frameSamples
        }
        try sound.drain()
        try drain(sound, into: muxer, place.sound)
        try muxer.finish()
        return sink.bytes
    }

    private static func drain(_ encoder: Encoder, into muxer: Muxer, _ stream: Int) throws {
        let packet = Packet()
        while try encoder.receive(into: packet) { try muxer.write(packet, stream: stream, timeBase: encoder.timeBase) }
    }

    /// A WAV of a ramp: 16 bits, one channel, 8 kHz.
    static func wav(samples: Int) -> [UInt8] {
        func le<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
        let data = (0..<samples).flatMap { le(Int16(truncatingIfNeeded: $0)) }
        return Array("RIFF".utf8) + le(UInt32(36 + data.count)) + Array("WAVEfmt ".utf8) + le(UInt32(16)) + le(UInt16(1)) + le(UInt16(1)) + le(UInt32(8_000)) + le(UInt32(16_000))
            + le(UInt16(2)) + le(UInt16(16)) + Array("data".utf8) + le(UInt32(data.count)) + data
    }
}
