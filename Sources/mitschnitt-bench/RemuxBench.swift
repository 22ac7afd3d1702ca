import Depacketize
import Foundation
import Media
import Renditions

/// Packet log to Matroska (`depacketize`) against `ffmpeg -c copy` from the Matroska file of the same packets to another one.
struct RemuxBench {
    let folder: URL
    static let bytesMin = 300 << 20
    private let rounds = 3
    private static let payloadBytesMax = 1_200

    func run() async throws {
        let stages = StageBench(folder: folder)
        let pictures = try frames()
        let format = TrackFormat(kind: .video, codecs: [96: .vp8])
        let log = try stages.log("remux", format) { write in try send(pictures, write) }
        var all: [(file: String, measured: Measured)] = []
        for _ in 0..<rounds {
            let (output, track, measured) = try await stages.depacketize(log, to: "remux.sealed")
            guard track.verdict.lost == 0, track.verdict.accessUnits > 0, track.verdict.droppedUnits == 0 else { throw BenchFailure(description: "not every picture came out") }
            all.append((try stages.unsealed(output), measured))
        }
        let ours = all.sorted { $0.measured.cpu < $1.measured.cpu }[rounds / 2]
        let copy = try Measured.median(rounds) {
            try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", ours.file, "-c", "copy", folder.path + "/copy.mkv"])
        }
        func speed(_ measured: Measured) -> String { String(format: "%.2f CPU s, %.2f GB/min/core", measured.cpu, Double(log.bytes) / 1e9 / measured.cpu * 60) }
        row("packet log to Matroska, \(log.bytes >> 20) MiB of VP8", speed(ours.measured))
        row("ffmpeg -c copy, Matroska to Matroska", speed(copy), String(format: "ours takes %.2fx", ours.measured.cpu / copy.cpu))
    }

    /// Twenty seconds of real VP8 at some 8 Mbit/s, as an IVF file has them: frames with their lengths in front.
    private func frames() throws -> [[UInt8]] {
        let path = folder.path + "/clip.ivf"
        _ = try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", "testsrc2=s=640x480:r=30,noise=alls=40:allf=t", "-t", "20", "-pix_fmt", "yuv420p",
                                                 "-c:v", "libvpx", "-b:v", "8M", "-deadline", "realtime", "-cpu-used", "12", "-g", "300", path])
        let file = Array(try Data(contentsOf: URL(filePath: path)))
        var frames: [[UInt8]] = []
        var at = 32
        while at + 12 <= file.count {
            let length = (0..<4).reduce(0) { $0 | Int(file[at + $1]) << (8 * $1) }
            guard at + 12 + length <= file.count else { break }
            frames.append(Array(file[at + 12..<at + 12 + length]))
            at += 12 + length
        }
        return frames
    }

    /// The clip again and again, each picture in packets with a picture id (RFC 7741), until there is enough.
    private func send(_ frames: [[UInt8]], _ write: (WallTime, [UInt8]) throws -> Void) throws {
        guard !frames.isEmpty else { throw BenchFailure(description: "ffmpeg made no pictures") }
        var (sequence, number, sent): (UInt16, Int, Int) = (0, 0, 0)
        while sent < Self.bytesMin {
            for frame in frames {
                let timestamp = UInt32(truncatingIfNeeded: number * 3_000)
                for from in stride(from: 0, to: frame.count, by: Self.payloadBytesMax) {
                    let to = min(frame.count, from + Self.payloadBytesMax)
                    var packet: [UInt8] = [0x80, 96 | (to == frame.count ? 0x80 : 0), UInt8(sequence >> 8), UInt8(sequence & 255)]
                    packet += withUnsafeBytes(of: timestamp.bigEndian, Array.init) + [0, 0, 0, 7]
                    packet += [from == 0 ? 0x90 : 0x80, 0x80, 0x80 | UInt8(number >> 8 & 0x7F), UInt8(number & 255)] + frame[from..<to]
                    try write(WallTime(seconds: 1_700_000_000 + Double(number) / 30 + 0.02 + Double(from) * 1e-7), packet)
                    sequence &+= 1
                    sent += packet.count
                }
                number += 1
            }
        }
    }
}
