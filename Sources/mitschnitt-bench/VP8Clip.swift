import Foundation
import Media

/// A short piece of real VP8 that is sent again and again, as RTP.
struct VP8Clip {
    private static let payloadBytesMax = 1_200
    private let frames: [[UInt8]]
    private let rate: Int

    /// `source`: what ffmpeg's lavfi makes of it.
    init(folder: URL, source: String, seconds: Int, rate: Int, bitrate: String, keyEvery: Int) throws {
        let path = folder.path + "/clip.ivf"
        _ = try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, "-t", String(seconds), "-pix_fmt", "yuv420p",
                                                 "-c:v", "libvpx", "-b:v", bitrate, "-deadline", "realtime", "-cpu-used", "12", "-g", String(keyEvery), path])
        // IVF: a head of 32 bytes, then frames with their lengths in front.
        let file = Array(try Data(contentsOf: URL(filePath: path)))
        var frames: [[UInt8]] = []
        var at = 32
        while at + 12 <= file.count {
            let length = (0..<4).reduce(0) { $0 | Int(file[at + $1]) << (8 * $1) }
            guard at + 12 + length <= file.count else { break }
            frames.append(Array(file[at + 12..<at + 12 + length]))
            at += 12 + length
        }
        guard !frames.isEmpty else { throw BenchFailure(description: "ffmpeg made no pictures") }
        (self.frames, self.rate) = (frames, rate)
    }

    /// Each picture in packets with a picture id (RFC 7741), as long as `goesOn` says so of the next picture's seconds.
    func send(ssrc: UInt32, while goesOn: (Double) -> Bool, _ write: (WallTime, [UInt8]) throws -> Void) throws {
        var (sequence, number): (UInt16, Int) = (0, 0)
        while goesOn(Double(number) / Double(rate)) {
            let frame = frames[number % frames.count]
            let timestamp = UInt32(truncatingIfNeeded: number * 90_000 / rate)
            for from in stride(from: 0, to: frame.count, by: Self.payloadBytesMax) {
                let to = min(frame.count, from + Self.payloadBytesMax)
                var packet: [UInt8] = [0x80, 96 | (to == frame.count ? 0x80 : 0), UInt8(sequence >> 8), UInt8(sequence & 255)]
                packet += withUnsafeBytes(of: timestamp.bigEndian, Array.init) + withUnsafeBytes(of: ssrc.bigEndian, Array.init)
                packet += [from == 0 ? 0x90 : 0x80, 0x80, 0x80 | UInt8(number >> 8 & 0x7F), UInt8(number & 255)] + frame[from..<to]
                try write(WallTime(seconds: 1_700_000_000 + Double(number) / Double(rate) + 0.02 + Double(from) * 1e-7), packet)
                sequence &+= 1
            }
            number += 1
        }
    }
}
