import Depacketize
import Foundation
import Glibc
import Media
import PacketLog
import Renditions
import SealedFile

/// Packet log to Matroska (`depacketize`) against `ffmpeg -c copy` from the Matroska file of the same packets to another one.
///
/// Ours opens and checks the log twice, seals what it writes, and has it on the disk when it answers (fsync); ffmpeg reads once, writes in
/// plain, and leaves the disk to the system. What these cost is measured in this process, each by itself.
struct RemuxBench {
    let folder: URL
    static let bytesMin = 300 << 20
    private let rounds = 5

    func run() async throws {
        let stages = StageBench(folder: folder)
        // Twenty seconds at some 8 Mbit/s, again and again.
        let clip = try VP8Clip(folder: folder, source: "testsrc2=s=640x480:r=30,noise=alls=40:allf=t", seconds: 20, rate: 30, bitrate: "8M", keyEvery: 300)
        let format = TrackFormat(kind: .video, codecs: [96: .vp8])
        let log = try stages.log("remux", format) { write in
            var bytes = 0
            try clip.send(ssrc: 7, while: { _ in bytes < Self.bytesMin }) { arrival, packet in
                bytes += packet.count
                try write(arrival, packet)
            }
        }
        var all: [(file: String, sealed: String, output: StageBench.Output, measured: Measured)] = []
        var copies: [Measured] = []
        // By turns: whatever else the machine does, it does to both.
        for _ in 0..<rounds {
            let (output, track, measured) = try await stages.depacketize(log, to: "remux.sealed")
            guard track.verdict.lost == 0, track.verdict.accessUnits > 0, track.verdict.droppedUnits == 0 else { throw BenchFailure(description: "not every picture came out") }
            let file = try stages.unsealed(output)
            all.append((file, output.path, output, measured))
            copies.append(try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", file, "-c", "copy", folder.path + "/copy.mkv"]))
        }
        // The file on the disk is the last round's.
        guard let last = all.last?.output else { return }
        let ours = all.sorted { $0.measured.cpu < $1.measured.cpu }[rounds / 2]
        let copy = copies.sorted { $0.cpu < $1.cpu }[rounds / 2]
        func speed(_ measured: Measured) -> String {
            String(format: "%.2f CPU s (wall %.2f), %.1f GB/min/core", measured.cpu, measured.wall, Double(log.bytes) / 1e9 / measured.cpu * 60)
        }
        func cost(_ measured: Measured) -> String { String(format: "%.2f CPU s (wall %.2f)", measured.cpu, measured.wall) }
        row("packet log to Matroska, \(log.bytes >> 20) MiB of VP8", speed(ours.measured))
        row("ffmpeg -c copy, Matroska to Matroska", speed(copy), String(format: "ours takes %.2fx", ours.measured.cpu / copy.cpu))
        let opening = try Measured.median(rounds) { try Measured.here { try open(log) } }
        let plain = try Data(contentsOf: URL(filePath: ours.file))
        let sealing = try Measured.median(rounds) { try Measured.here { try write(plain, sealed: true) } }
        let writing = try Measured.median(rounds) { try Measured.here { try write(plain, sealed: false) } }
        let hashing = try Measured.median(rounds) { try Measured.here { _ = try DescriptorIO.sha256(ofFileAt: ours.sealed) } }
        row("  in ours: reading, opening and checking the log, twice", String(format: "%.2f CPU s (wall %.2f)", 2 * opening.cpu, 2 * opening.wall))
        row("  in ours: sealing, writing, fsync", cost(sealing))
        row("  in ours: opening what was written again, to verify it", cost(try Measured.median(rounds) { try Measured.here { _ = try stages.unsealedBytes(last) } }))
        row("  writing and fsync of the same without a seal", cost(writing))
        row("  not in ours: SHA-256 for the receipt, when it is erased", cost(hashing))
    }

    private func open(_ log: StageBench.Log) throws {
        var segments: [TrackLogReader.Segment] = []
        defer { for segment in segments { close(segment.descriptor) } }
        for number in try TrackLogFolder.segments(log.directory) {
            let descriptor = Glibc.open("\(log.directory)/\(TrackLogFiles.segment(number))", O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw BenchFailure(description: "segment \(number) cannot be opened") }
            segments.append(.init(number: number, descriptor: descriptor))
        }
        let reader = TrackLogReader(segments: segments, identity: log.identity, key: log.key)
        while try reader.nextBlock({ _ in }) {}
        guard reader.defects.isEmpty else { throw BenchFailure(description: "the log is damaged") }
    }

    private func write(_ plain: Data, sealed: Bool) throws {
        let descriptor = Glibc.open(folder.path + "/written", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw BenchFailure(description: "no file to write to") }
        defer { close(descriptor) }
        let context = SealedContext(recording: .random(), object: "track:bench", modality: "video", part: "matroska")
        let writer = sealed ? try SealedWriter(descriptor: descriptor, key: .random(), context: context, windowBytes: 1 << 16) : nil
        for at in stride(from: 0, to: plain.count, by: 1 << 20) {
            try plain[at..<min(plain.count, at + 1 << 20)].withUnsafeBytes { if let writer { try writer.append($0) } else { try DescriptorIO.write($0, at: at, descriptor) } }
        }
        if let writer { try writer.close() } else { guard fsync(descriptor) == 0 else { throw BenchFailure(description: "fsync failed") } }
    }
}
