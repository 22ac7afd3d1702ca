import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import Media
import Renditions

/// A finished file that a track is to be made of: kept in its stream's row until it was made, and no longer.
struct ImportedFile: Codable, Hashable, Sendable {
    /// Absolute.
    var path: String
    var container: FileContainer
    /// Wall time of the file's beginning.
    var start: WallTime
}

extension Recorder {
    /// A modality of a finished file, read and checked.
    struct PreparedFile: Sendable {
        var id = StreamID.random()
        var track = TrackID.random()
        var participants: [ParticipantID]
        var kind: MediaKind
        var file: ImportedFile
        /// Place among the request's files.
        var place: Int
    }

    /// Tells each file's container by its first bytes. Blocks.
    static func prepare(_ files: [ImportRequest.File], _ ids: [String: ParticipantID]) throws -> [PreparedFile] {
        var prepared: [PreparedFile] = []
        for (place, file) in files.enumerated() {
            let people = file.people.compactMap { ids[$0] }
            guard !people.isEmpty, people.count == file.people.count else {
                throw RecorderError(.invalid, "\(file.path) does not say who is in it", hint: "participants: everybody who is heard or seen", pointer: "/files/\(place)")
            }
            let head: Data
            do {
                let handle = try FileHandle(forReadingFrom: URL(filePath: file.path))
                defer { try? handle.close() }  // it was only read
                head = try handle.read(upToCount: FileContainer.headBytes) ?? Data()
            } catch {
                throw RecorderError(.invalid, "\(file.path) cannot be read: \(error.localizedDescription)", pointer: "/files/\(place)/path")
            }
            guard let container = FileContainer(firstBytes: Array(head)) else {
                throw RecorderError(.invalid, "\(file.path) is neither MP4, WebM, Matroska, WAV nor Ogg, by its first bytes", hint: "captures of packets go under captures:", pointer: "/files/\(place)/path")
            }
            let source = ImportedFile(path: URL(filePath: file.path).standardizedFileURL.path, container: container, start: file.start ?? WallTime(nanoseconds: 0))
            for kind in file.kinds where kind == .audio || container == .mp4 || container == .matroska {
                prepared.append(PreparedFile(participants: people, kind: kind, file: source, place: place))
            }
        }
        return prepared
    }

    static func insert(_ file: PreparedFile, _ position: Int, _ recording: RecordingID, _ db: Database) throws {
        let format = String(decoding: try JSONEncoder().encode(TrackFormat(kind: file.kind, codecs: [:])), as: UTF8.self)
        var record = StreamRecord(id: file.id.rawValue, recording: recording.rawValue, position: position, track: file.track.rawValue, kind: file.kind.rawValue, sdp: "", codec: "file",
                                  format: format, address: "", rtpPort: 0, rtcpPort: 0)
        record.source = String(decoding: try JSONEncoder().encode(file.file), as: UTF8.self)
        try record.insert(db)
        for participant in Set(file.participants) {
            try db.execute(sql: "INSERT INTO stream_participant (stream, participant) VALUES (?, ?)", arguments: [file.id.rawValue, participant.rawValue])
        }
    }
}

extension Recorder {
    /// Whether everybody in a stream allows its modality now.
    static func mayRecord(_ stream: StreamRecord, _ people: [String], _ state: ConsentState, at now: WallTime) -> Bool {
        guard let kind = MediaKind(rawValue: stream.kind), !people.isEmpty else { return false }
        return state.mayRecord(people.compactMap(ParticipantID.init), kind.modality, at: now)
    }
}

extension StagePreparation {
    /// Opens a finished file for reading. What is no regular file any more, or gone, is named: retrying would not bring it back.
    mutating func open(source: ImportedFile) throws -> Int {
        let descriptor = Glibc.open(source.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { throw StageRunError.failed(StageFailure(code: .unsupportedCodec, what: "the file cannot be opened: \(String(cString: strerror(errno)))")) }
        descriptors.append(descriptor)
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw StageRunError.failed(StageFailure(code: .unsupportedCodec, what: "the file is no regular file"))
        }
        return descriptors.count - 1
    }
}
