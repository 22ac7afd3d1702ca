import CFFmpeg
import Depacketize
@testable import FFmpeg
import Foundation
import Media
@testable import Stages

/// A file in memory.
final class MemoryFile: MediaSink, MediaSource {
    var bytes: [UInt8] = []
    var position: Int { bytes.count }
    var length: Int { bytes.count }
    func append(_ more: UnsafeRawBufferPointer) { bytes.append(contentsOf: more) }
    func overwrite(at offset: Int, _ patch: UnsafeRawBufferPointer) { bytes.replaceSubrange(offset..<offset + patch.count, with: patch) }
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        let count = max(0, min(buffer.count, bytes.count - offset))
        if count > 0 { buffer.copyBytes(from: bytes[offset..<offset + count]) }
        return count
    }

    /// The file of a track with these units; `declared` as the dry run finds them, where `isChanging`.
    static func track(_ units: [AccessUnit], isChanging: Bool = false) throws -> MemoryFile {
        let file = MemoryFile()
        var collector = StreamCollector()
        if isChanging { for unit in units { collector.take(.accessUnit(unit)) } }
        let writer = TrackFileWriter(file, declared: collector.streams)
        for unit in units { try writer.take(.accessUnit(unit)) }
        _ = try writer.finish()
        return file
    }
}

let epoch = WallTime(seconds: 1_700_000_000)

extension Codec {
    static let pcmu = Codec(name: "PCMU", clockRate: 8_000), pcma = Codec(name: "PCMA", clockRate: 8_000), g722 = Codec(name: "G722", clockRate: 8_000)
    static let l16 = Codec(name: "L16", clockRate: 44_100, channels: 2)
    static let h264 = Codec(name: "H264", clockRate: 90_000), h265 = Codec(name: "H265", clockRate: 90_000)
    static let vp9 = Codec(name: "VP9", clockRate: 90_000), av1 = Codec(name: "AV1", clockRate: 90_000)
    var isSound: Bool { CodedStream.Format.byName[name]?.isAudio ?? false }
}

/// Access units as a sender of `codec` makes them.
enum Coded {
    /// Sound of `sample(index, channel)` at the codec's own rate. Times are nominal: 20 ms a packet from the epoch on.
    static func sound(_ codec: Codec, seconds: Double, bitrate: Int = 64_000, options: [String: String] = [:], _ sample: (Int, Int) -> Float) throws -> [AccessUnit] {
        let (name, rate, format) = switch codec.name {
        case "opus": ("libopus", 48_000, AV_SAMPLE_FMT_FLT)
        case "pcmu": ("pcm_mulaw", 8_000, AV_SAMPLE_FMT_S16)
        case "pcma": ("pcm_alaw", 8_000, AV_SAMPLE_FMT_S16)
        case "g722": ("g722", 16_000, AV_SAMPLE_FMT_S16)
        default: ("pcm_s16be", codec.clockRate, AV_SAMPLE_FMT_S16)
        }
        let channels = codec.channels
        let encoder = try Encoder(name, Rational(1, Int32(rate)), options: options) { context in
            context.sample_rate = Int32(rate)
            context.sample_fmt = format
            context.bit_rate = Int64(bitrate)
            av_channel_layout_default(&context.ch_layout, Int32(channels))
        }
        let size = rate / 50
        let packet = Packet()
        var units: [AccessUnit] = []
        func collect() throws {
            while try encoder.receive(into: packet) {
                units.append(AccessUnit(payload: Array(packet.bytes), codec: codec, time: epoch + .milliseconds(20 * Int64(units.count)), duration: .milliseconds(20), isKey: true))
            }
        }
        for block in 0..<Int(seconds * 50) {
            let frame = Frame()
            frame.raw.pointee.nb_samples = Int32(size)
            frame.raw.pointee.format = format.rawValue
            frame.raw.pointee.sample_rate = Int32(rate)
            av_channel_layout_default(&frame.raw.pointee.ch_layout, Int32(channels))
            try check(av_frame_get_buffer(frame.raw, 0), "av_frame_get_buffer")
            let data = UnsafeMutableRawPointer(frame.raw.pointee.data.0!)
            for i in 0..<size * channels {
                let value = sample(block * size + i / channels, i % channels)
                if format == AV_SAMPLE_FMT_FLT { data.storeBytes(of: value, toByteOffset: i * 4, as: Float.self) } else { data.storeBytes(of: Int16(value * 32_767), toByteOffset: i * 2, as: Int16.self) }
            }
            frame.pts = Int64(block * size)
            try encoder.send(frame)
            try collect()
        }
        return units
    }

    /// `count` pictures at 25 a second, the luma of each `luma(index)` all over, or, where nil, a pattern that is hard to code.
    static func pictures(_ codec: Codec, _ count: Int, width: Int = 320, height: Int = 240, luma: (Int) -> UInt8? = { UInt8(40 + $0 % 150) }) throws -> [AccessUnit] {
        let (name, options): (String, [String: String]) = switch codec.name {
        case "vp8": ("libvpx", ["deadline": "realtime", "lag-in-frames": "0"])
        case "vp9": ("libvpx-vp9", ["deadline": "realtime", "lag-in-frames": "0"])
        case "h264": ("libx264", ["preset": "ultrafast", "tune": "zerolatency"])
        case "h265": ("libx265", ["preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none:repeat-headers=1"])
        default: ("libaom-av1", ["usage": "realtime", "cpu-used": "8", "lag-in-frames": "0"])
        }
        let encoder = try Encoder(name, Rational(1, 25), options: options) { context in
            context.width = Int32(width)
            context.height = Int32(height)
            context.pix_fmt = AV_PIX_FMT_YUV420P
            context.gop_size = 25
            context.bit_rate = 400_000
            context.thread_count = 1
            context.flags &= ~Int32(AV_CODEC_FLAG_GLOBAL_HEADER)  // parameter sets in band
        }
        let packet = Packet()
        var units: [AccessUnit] = []
        func collect() throws {
            while try encoder.receive(into: packet) {
                var payload = Array(packet.bytes)
                if codec.name == "av1", payload.starts(with: [0x12, 0x00]) { payload.removeFirst(2) }  // the temporal delimiter
                let time = epoch + .milliseconds(40 * packet.pts)
                units.append(AccessUnit(payload: payload, codec: codec, time: time, isKey: packet.isKey, width: packet.isKey ? width : nil, height: packet.isKey ? height : nil))
            }
        }
        for index in 0..<count {
            let frame = try Frame.picture(width: width, height: height)
            frame.fill(x: 0, y: 0, width: width, height: height, luma: luma(index) ?? 16)
            if luma(index) == nil, let data = frame.raw.pointee.data.0 {
                for line in 0..<height {
                    let row = data + line * Int(frame.raw.pointee.linesize.0)
                    for column in 0..<width { row[column] = UInt8(truncatingIfNeeded: (line &* 7) ^ (column &* 13) &+ index &* 31) }
                }
            }
            frame.pts = Int64(index)
            try encoder.send(frame)
            try collect()
        }
        try encoder.drain()
        try collect()
        return units
    }
}

/// Another program's opinion on a file: its output, and its complaints.
func ask(_ program: String, _ arguments: [String]) throws -> (output: String, complaints: String) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/\(program)")
    process.arguments = arguments
    let (out, err) = (Pipe(), Pipe())
    (process.standardOutput, process.standardError, process.standardInput) = (out, err, FileHandle.nullDevice)
    try process.run()
    let output = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaints = String(decoding: err.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (output, complaints)
}
