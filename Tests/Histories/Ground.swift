import Catalog
import Foundation
import Glibc
import Logging
import Media
import Recorder
import Renditions
import Tap
import TestSupport

/// What all histories of a process start from: an empty data folder, made once, in memory where there is such a place.
public final class Ground: Sendable {
    let folder: URL
    let empty: URL
    let pipelines: [String: Pipeline]
    let marks = Marks()

    public init() async throws {
        let memory = URL(filePath: "/dev/shm")
        let isWritable = FileManager.default.isWritableFile(atPath: memory.path)
        folder = (isWritable ? memory : FileManager.default.temporaryDirectory).appending(path: "mitschnitt-histories-\(UUID().uuidString.lowercased())")
        empty = folder.appending(path: "empty")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        pipelines = try Dictionary(uniqueKeysWithValues: ["meeting", "audio-only"].map { ($0, try Pipeline(parsing: String(contentsOf: Checkout.pipelines.appending(path: "\($0).yaml"), encoding: .utf8))) })
        let first = try Recorder(Self.configuration(empty, ServiceClock(standingAt: History.start)), pipelines: pipelines, logger: Self.logger)
        await first.shutDown()
    }

    public func remove() { try? FileManager.default.removeItem(at: folder) }  // as of any temporary folder

    deinit { try? FileManager.default.removeItem(at: folder) }  // as of any temporary folder

    static let logger = {
        var logger = Logger(label: "histories")
        logger.logLevel = ProcessInfo.processInfo.environment["HISTORIES_LOG"] == nil ? .critical : .debug
        return logger
    }()

    static func configuration(_ data: URL, _ clock: ServiceClock) -> RecorderConfiguration {
        var configuration = RecorderConfiguration(data: data, pipelines: Checkout.pipelines, stageExecutable: "/nonexistent")
        configuration.clock = clock
        configuration.tap.drivenBy = { clock.now }
        return configuration
    }

    /// Copies a data folder as a kill would leave it: everything that was written, and no memory that processes shared.
    static func copy(_ source: URL, to target: URL) throws {
        try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        for name in try FileManager.default.contentsOfDirectory(atPath: source.path) where !name.hasSuffix("-shm") {
            let (from, to) = (source.appending(path: name), target.appending(path: name))
            var isFolder: ObjCBool = false
            if FileManager.default.fileExists(atPath: from.path, isDirectory: &isFolder), isFolder.boolValue { try copy(from, to: to) } else {
                try FileManager.default.copyItem(at: from, to: to)
            }
        }
    }
}

/// Packets whose payload tells which they are, and can be found wherever it is in the clear.
struct Marks: Sendable {
    let prefix: [UInt8] = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
    let namePrefix = "Name-\(UUID().uuidString)"
    static let payloadBytes = 24

    static func mark(recording: Int, stream: Int, serial: UInt32) -> Model.Mark { UInt64(recording) << 48 | UInt64(stream) << 32 | UInt64(serial) }
    static func place(_ mark: Model.Mark) -> (recording: Int, stream: Int) { (Int(mark >> 48), Int(mark >> 32 & 0xFFFF)) }

    func payload(_ mark: Model.Mark) -> [UInt8] { prefix + withUnsafeBytes(of: mark.bigEndian, Array.init) }

    /// Every mark in these bytes, in order.
    func found(in bytes: [UInt8]) -> [Model.Mark] {
        var marks: [Model.Mark] = []
        bytes.withUnsafeBytes { all in
            var at = 0
            while let hit = Self.find(prefix, in: all, from: at) {
                let place = hit + prefix.count
                guard place + 8 <= all.count else { return }
                marks.append(UInt64(bigEndian: all.loadUnaligned(fromByteOffset: place, as: UInt64.self)))
                at = place + 8
            }
        }
        return marks
    }

    static func contains(_ bytes: [UInt8], in data: [UInt8]) -> Bool { data.withUnsafeBytes { find(bytes, in: $0, from: 0) } != nil }

    private static func find(_ bytes: [UInt8], in all: UnsafeRawBufferPointer, from start: Int) -> Int? {
        guard let base = all.baseAddress else { return nil }
        var at = start
        while at + bytes.count <= all.count, let hit = memchr(base + at, Int32(bytes[0]), all.count - at - bytes.count + 1) {
            if memcmp(hit, bytes, bytes.count) == 0 { return base.distance(to: UnsafeRawPointer(hit)) }
            at = base.distance(to: UnsafeRawPointer(hit)) + 1
        }
        return nil
    }
}
