import ArgumentParser
import Catalog
import Foundation
import Media
import PacketLog
import SealedFile

/// A track's packets as pcapng, for whoever holds the key.
struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write a track's packets as pcapng, for debugging. Needs the root key; the file is plaintext.",
        discussion: "The ids of recordings and tracks are the names of the folders DATA/recordings/RECORDING/tracks/TRACK.")

    @Option(help: "The server's data folder.") var data: String
    @Option(help: "The recording's id.") var recording: String
    @Option(help: "The track's id.") var track: String
    @Option(help: "audio, video or screen.") var kind: String
    @Argument(help: "The pcapng file to write; must not exist.") var file: String

    func run() async throws {
        guard let recordingID = RecordingID(rawValue: recording), let trackID = TrackID(rawValue: track), let kind = MediaKind(rawValue: kind) else {
            throw CommandError(what: "one of --recording, --track or --kind is no id", hint: "see `mitschnitt export --help`")
        }
        let folder = URL(filePath: data)
        let directory = folder.appending(path: "recordings/\(recording)/tracks/\(track)").path
        let keys = try KeyStore(path: folder.appending(path: "keys.sqlite").path, root: try Self.root(folder))
        let key: DataKey
        do { key = try await keys.key(KeyStore.track(trackID)) } catch { throw CommandError(what: "\(error)", hint: "what was erased cannot be exported") }
        let packets = try write(directory, TrackLogIdentity(recording: recordingID, track: trackID, kind: kind), key)
        print("\(packets) packets in \(file)")
    }

    private static func root(_ folder: URL) throws -> DataKey {
        let path = folder.appending(path: "root.key").path
        return try RootKey.find(file: path, environment: ProcessInfo.processInfo.environment)?.key ?? RootKey.load(path: path)
    }

    private func write(_ directory: String, _ identity: TrackLogIdentity, _ key: DataKey) throws -> Int {
        let numbers = try TrackLogFolder.segments(directory)
        var segments: [TrackLogReader.Segment] = []
        defer { for segment in segments { close(segment.descriptor) } }
        for number in numbers {
            let descriptor = open("\(directory)/\(TrackLogFiles.segment(number))", O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw CommandError(what: "segment \(number) cannot be opened") }
            segments.append(.init(number: number, descriptor: descriptor))
        }
        let output = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard output >= 0 else { throw CommandError(what: "\(file) cannot be made: \(String(cString: strerror(errno)))", hint: "it must not exist yet") }
        let handle = FileHandle(fileDescriptor: output, closeOnDealloc: true)
        try handle.write(contentsOf: Data(PcapngWriter.head))
        let reader = TrackLogReader(segments: segments, identity: identity, key: key)
        var count = 0
        while let record = try reader.next() {
            let block = PcapngWriter.block(record, port: 5004)
            if !block.isEmpty { count += 1 }
            try handle.write(contentsOf: Data(block))
        }
        for defect in reader.defects { print("note: \(defect)") }
        return count
    }
}
