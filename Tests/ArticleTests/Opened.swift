import Foundation
import Glibc
import GRDB
import Media
import PacketLog
import SealedFile

/// A data folder as somebody sees it who has the disk and the root key: read past the server, in the clear.
struct Opened {
    let data: URL

    struct Key {
        var parent: String?
        var wrapped: Data
    }

    private func read<Value>(_ name: String, _ body: (Database) throws -> Value) throws -> Value {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(10)
        return try DatabaseQueue(path: data.appending(path: name).path, configuration: configuration).read(body)
    }

    func catalog<Value>(_ body: (Database) throws -> Value) throws -> Value { try read("catalog.sqlite", body) }

    /// The key store, row by row.
    func keys() throws -> [String: Key] {
        try read("keys.sqlite") { db in
            Dictionary(uniqueKeysWithValues: try Row.fetchAll(db, sql: "SELECT id, parent, wrapped FROM wrapped_key").map { ($0["id"] as String, Key(parent: $0["parent"], wrapped: $0["wrapped"])) })
        }
    }

    /// A key in the clear.
    func key(_ id: String) throws -> DataKey {
        let all = try keys()
        func open(_ id: String) throws -> DataKey {
            guard let key = all[id] else { throw Client.Unexpected(description: "no key \(id)") }
            let above = try key.parent.map(open) ?? RootKey.load(path: data.appending(path: "root.key").path)
            return try WrappedKey(bytes: key.wrapped).unwrapped(under: above, id: id)
        }
        return try open(id)
    }

    struct Track {
        var recording: RecordingID
        var id: TrackID
        var kind: MediaKind
        var participants: [String]
    }

    func tracks(of recording: RecordingID) throws -> [Track] {
        try catalog { db in
            try Row.fetchAll(db, sql: "SELECT id, track, kind FROM stream WHERE recording = ? ORDER BY position", arguments: [recording.rawValue]).map { row in
                Track(recording: recording, id: TrackID(rawValue: row["track"])!, kind: MediaKind(rawValue: row["kind"])!,
                      participants: try String.fetchAll(db, sql: "SELECT participant FROM stream_participant WHERE stream = ?", arguments: [row["id"] as String]))
            }
        }
    }

    /// Names of ids in the key store, as receipts have them.
    func keyID(_ track: Track) -> String { "track:\(track.id)" }

    func folder(_ recording: RecordingID) -> URL { data.appending(path: "recordings/\(recording)") }
    func logFolder(_ track: Track) -> URL { folder(track.recording).appending(path: "tracks/\(track.id)") }
    func artifact(_ recording: RecordingID, _ id: String) -> URL { folder(recording).appending(path: "artifacts/\(id).sealed") }

    /// The RTP packets in a track's log.
    func packets(_ track: Track) throws -> [[UInt8]] {
        let folder = logFolder(track).path
        guard FileManager.default.fileExists(atPath: folder) else { return [] }
        let segments = try TrackLogFolder.segments(folder).map { TrackLogReader.Segment(number: $0, descriptor: open("\(folder)/\(TrackLogFiles.segment($0))", O_RDONLY)) }
        defer { for segment in segments { close(segment.descriptor) } }
        let reader = TrackLogReader(segments: segments, identity: TrackLogIdentity(recording: track.recording, track: track.id, kind: track.kind), key: try key(keyID(track)))
        var packets: [[UInt8]] = []
        while let record = try reader.next() { if case .rtp(_, let bytes) = record { packets.append(Array(bytes)) } }
        return packets
    }

    /// A track's Matroska file.
    func matroska(_ track: Track) throws -> Data? {
        let context = SealedContext(recording: track.recording, object: keyID(track), modality: track.kind.rawValue, part: "matroska")
        return try unsealed(artifact(track.recording, track.id.rawValue), key(keyID(track)), context)
    }

    private func unsealed(_ file: URL, _ key: DataKey, _ context: SealedContext) throws -> Data? {
        let descriptor = open(file.path, O_RDONLY)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let reader = try SealedReader(descriptor: descriptor, key: key, context: context)
        return Data(try reader.read(at: 0, count: reader.length))
    }

    /// Bytes of each regular file below a folder, by their path in it.
    static func files(_ folder: URL) throws -> [String: Data] {
        var files: [String: Data] = [:]
        for path in FileManager.default.subpaths(atPath: folder.path) ?? [] {
            // Folders, and what a server that runs has removed since.
            guard let bytes = try? Data(contentsOf: folder.appending(path: path)) else { continue }
            files[path] = bytes
        }
        return files
    }

    /// In which files below a folder these bytes are.
    static func holding(_ bytes: Data, _ folder: URL) throws -> [String] { try files(folder).filter { $0.value.range(of: bytes) != nil }.keys.sorted() }
}
