import Foundation
import Glibc
import Media
import PacketLog
import Renditions
import SealedFile

/// A recording with nothing around it: packet logs that the bench writes, and stages that `mitschnitt-stage` carries out on them.
struct StageBench {
    let folder: URL
    private let recording = RecordingID.random()
    private let runner = StageRunner(executable: URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().appending(path: "mitschnitt-stage").path)

    /// A track's packets on disk, sealed.
    struct Log {
        var identity: TrackLogIdentity
        var format: TrackFormat
        var key: DataKey
        var directory: String
        /// Payload and headers, in plain.
        var bytes: Int
    }

    /// What a stage wrote, sealed.
    struct Output {
        var path: String
        var key: DataKey
        var context: SealedContext
    }

    init(folder: URL) { self.folder = folder }

    /// Writes a log of what `packets` gives, in the order of arrival.
    func log(_ name: String, _ format: TrackFormat, _ packets: (_ write: (WallTime, [UInt8]) throws -> Void) throws -> Void) throws -> Log {
        let identity = TrackLogIdentity(recording: recording, track: .random(), kind: format.kind)
        var log = Log(identity: identity, format: format, key: .random(), directory: folder.appending(path: name).path, bytes: 0)
        let writer = try TrackLogWriter(directory: log.directory, identity: identity, key: log.key)
        try packets { arrival, bytes in
            try bytes.withUnsafeBytes { try writer.append(rtp: $0, arrival: arrival) }
            log.bytes += bytes.count
        }
        try writer.close()
        return log
    }

    /// The stage's own CPU time: it is the only child that ends meanwhile.
    private func run(_ order: StageOrder, _ descriptors: [Int32]) async throws -> (result: StageResult, measured: Measured) {
        defer { for descriptor in descriptors { close(descriptor) } }
        let (start, before) = (Measured.now(), Measured.children())
        let result = try await runner.run(order, descriptors: descriptors) { _ in }
        let after = Measured.children()
        return (result, Measured(user: after.user - before.user, system: after.system - before.system, wall: Measured.now() - start, status: 0))
    }

    private func open(_ path: String, _ flags: Int32) throws -> Int32 {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw BenchFailure(description: "\(path): \(String(cString: strerror(errno)))") }
        return descriptor
    }

    private func output(_ name: String, _ kind: String) -> Output {
        Output(path: folder.appending(path: name).path, key: .random(), context: SealedContext(recording: recording, object: "rendition:\(name)", modality: kind, part: "output"))
    }

    func depacketize(_ log: Log, to name: String) async throws -> (output: Output, track: TrackSummary, measured: Measured) {
        let numbers = TrackLogFiles.segments(among: try FileManager.default.contentsOfDirectory(atPath: log.directory))
        var descriptors = try numbers.map { try open(log.directory + "/" + TrackLogFiles.segment($0), O_RDONLY) }
        let output = output(name, log.format.kind.rawValue)
        let input = StageInput(descriptors: Array(descriptors.indices), key: log.key, content: .packetLog(identity: log.identity, format: log.format, segments: numbers))
        descriptors.append(try open(output.path, O_RDWR | O_CREAT | O_TRUNC))
        let target = StageOutput(descriptor: descriptors.count - 1, key: output.key, context: output.context, container: .matroska)
        let (result, measured) = try await run(StageOrder(stage: .depacketize, parameters: StageParameters(), inputs: [input], outputs: [target], span: nil), descriptors)
        guard let track = result.track else { throw BenchFailure(description: "depacketize gave no track") }
        return (output, track, measured)
    }

    /// One mix of all tracks with its loudness, as MP4.
    func mix(_ tracks: [(output: Output, track: TrackSummary)], _ span: WallSpan) async throws -> Measured {
        var descriptors = try tracks.map { try open($0.output.path, O_RDONLY) }
        let inputs = tracks.enumerated().map { place, entry in
            StageInput(descriptors: [place], key: entry.output.key, content: .track(context: entry.output.context, track: entry.track))
        }
        let output = output("mix", "audio")
        descriptors.append(try open(output.path, O_RDWR | O_CREAT | O_TRUNC))
        let target = StageOutput(descriptor: descriptors.count - 1, key: output.key, context: output.context, container: .mp4)
        return try await run(StageOrder(stage: .mix, parameters: StageParameters(), inputs: inputs, outputs: [target], span: span), descriptors).measured
    }

    /// Reads and authenticates the whole file; its length in plain.
    func unsealedBytes(_ output: Output) throws -> Int {
        let descriptor = try open(output.path, O_RDONLY)
        defer { close(descriptor) }
        let reader = try SealedReader(descriptor: descriptor, key: output.key, context: output.context)
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var at = 0
        while true {
            let count = try buffer.withUnsafeMutableBytes { try reader.read(at: at, into: $0) }
            guard count > 0 else { return at }
            at += count
        }
    }

    /// The file in plain, for the peer.
    func unsealed(_ output: Output) throws -> String {
        let descriptor = try open(output.path, O_RDONLY)
        defer { close(descriptor) }
        let reader = try SealedReader(descriptor: descriptor, key: output.key, context: output.context)
        let path = output.path + ".mkv"
        let plain = try open(path, O_WRONLY | O_CREAT | O_TRUNC)
        defer { close(plain) }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var at = 0
        while true {
            let count = try buffer.withUnsafeMutableBytes { try reader.read(at: at, into: $0) }
            guard count > 0 else { return path }
            guard write(plain, buffer, count) == count else { throw BenchFailure(description: "\(path) could not be written") }
            at += count
        }
    }
}
