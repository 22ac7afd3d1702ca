import Catalog
import Foundation
import Glibc
import GRDB
import Logging
import Media
import Recorder
import SealedFile

/// The end of a hundred thousand artefacts in a real data folder: key, ciphertext, looked whether both are gone, receipt.
///
/// Half are tracks, half renditions, eight to a recording; each is a sealed file of its own of some 400 bytes. One recording more stays.
struct SweepBench {
    static let artefacts = 100_000
    static let perRecording = 8
    static let limitSeconds = 60.0

    let folder: URL
    private var data: URL { folder.appending(path: "sweep") }

    func run() async throws {
        let count = Self.artefacts / Self.perRecording
        let pipelines = folder.appending(path: "no-pipelines")
        try FileManager.default.createDirectory(at: pipelines, withIntermediateDirectories: true)
        var configuration = RecorderConfiguration(data: data, pipelines: pipelines, stageExecutable: "")
        configuration.hasMovableClock = true
        var logger = Logger(label: "bench")
        logger.logLevel = .error
        // The folders, and the root key.
        let first = try Recorder(configuration, logger: logger)
        await first.shutDown()
        try await fill(count + 1)
        let recorder = try Recorder(configuration, logger: logger)
        _ = try await recorder.advanceClock(bySeconds: 86_400, as: Principal(role: .operator, subject: "bench"))
        let start = Measured.now()
        let ended = try await recorder.sweep()
        let took = Measured.now() - start
        let again = try await recorder.sweep()
        await recorder.shutDown()
        let left = try FileManager.default.contentsOfDirectory(atPath: data.appending(path: "recordings").path)
        let rows = try await DatabaseQueue(path: data.appending(path: "catalog.sqlite").path).read { db in
            (receipts: try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM receipt JOIN audit_event ON object = recording AND action = 'recording.erased'") ?? 0,
             keyFirst: try Int.fetchOne(db, sql: """
                SELECT COUNT(*) FROM receipt, json_each(receipt.receipt, '$.objects') AS object
                WHERE json_extract(object.value, '$.keyDestroyedAt') > 0 AND json_extract(object.value, '$.keyDestroyedAt') <= json_extract(object.value, '$.unlinkedAt')
                """) ?? 0)
        }
        let keys = try await DatabaseQueue(path: data.appending(path: "keys.sqlite").path).read { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM wrapped_key") ?? 0 }
        guard ended == count, again == 0, left.count == 1, rows.receipts == count, rows.keyFirst == Self.artefacts + count, keys == Self.perRecording + 1 else {
            throw BenchFailure(description: "ended \(ended) of \(count), \(left.count) folders, \(rows) receipts, \(keys) keys left")
        }
        try FileManager.default.removeItem(at: data)
        row("swept, each with a signed receipt", String(format: "%.1f s", took), String(format: "%.0f artefacts/s", Double(Self.artefacts) / took))
        row("limit", "\(Int(Self.limitSeconds)) s", took <= Self.limitSeconds ? "pass" : "FAIL")
    }

    /// Rows, keys and files of recordings that expire in an hour; the last one in a year.
    private func fill(_ count: Int) async throws {
        let catalog = try Catalog(path: data.appending(path: "catalog.sqlite").path)
        let keys = try KeyStore(path: data.appending(path: "keys.sqlite").path, root: RootKey.load(path: data.appending(path: "root.key").path))
        let now = WallTime(seconds: Date().timeIntervalSince1970)
        let content = [UInt8](repeating: 7, count: 400)
        try await catalog.write { try MeetingRecord(id: "bench", title: nil, createdAt: now.nanoseconds).insert($0) }
        var made: [(recording: RecordingID, tracks: [TrackID], renditions: [RenditionID])] = []
        for _ in 0..<count { made.append((.random(), (0..<Self.perRecording / 2).map { _ in .random() }, (0..<Self.perRecording / 2).map { _ in .random() })) }
        try await keys.create(made, now: now)
        let sum = String(repeating: "0", count: 64)
        for start in stride(from: 0, to: count, by: 1_000) {
            let part = Array(made[start..<min(start + 1_000, count)])
            try await catalog.write { db in
                for (place, one) in part.enumerated() {
                    let ends = now + .seconds(start + place == count - 1 ? 365 * 86_400 : 3_600)
                    var record = RecordingRecord(id: one.recording.rawValue, meeting: "bench", pipeline: "none", state: "ready", retentionDays: 1, startedAt: now.nanoseconds, expiresAt: ends.nanoseconds)
                    record.stoppedAt = now.nanoseconds
                    try record.insert(db)
                    for (position, track) in one.tracks.enumerated() {
                        var stream = StreamRecord(id: track.rawValue, recording: one.recording.rawValue, position: position, track: track.rawValue, kind: "audio", sdp: "v=0", codec: "opus", format: "{}",
                                                  address: "127.0.0.1", rtpPort: 0, rtcpPort: 0)
                        (stream.verdict, stream.sha256) = ("complete", sum)
                        try stream.insert(db)
                    }
                    for (position, rendition) in one.renditions.enumerated() {
                        try RenditionRecord(id: rendition.rawValue, recording: one.recording.rawValue, stage: "mix", kind: "mix", output: "\(position)", container: "mp4", purpose: "share-with-participants",
                                            bytes: 400, sha256: sum, startWall: now.nanoseconds, duration: 1, width: nil, height: nil, loudness: nil, state: "ready", createdAt: now.nanoseconds,
                                            expiresAt: ends.nanoseconds).insert(db)
                    }
                }
            }
            for one in part {
                let artifacts = data.appending(path: "recordings/\(one.recording)/artifacts")
                try FileManager.default.createDirectory(at: artifacts, withIntermediateDirectories: true)
                for name in one.tracks.map(\.rawValue) + one.renditions.map(\.rawValue) {
                    let descriptor = open("\(artifacts.path)/\(name).sealed", O_WRONLY | O_CREAT | O_EXCL, 0o600)
                    guard descriptor >= 0 else { throw BenchFailure(description: "no file could be made") }
                    try DescriptorIO.write(content, at: 0, descriptor)
                    close(descriptor)
                }
            }
        }
        try keys.close()
        try catalog.close()
    }
}
