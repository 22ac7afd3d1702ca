import Foundation
import Glibc
import SealedFile

/// The list of a track's closed segments: a sealed JSON file that is replaced whole, so it is always the old or the new one.
public enum TrackManifest {
    /// Longest manifest: about two days of segments.
    static let bytesMax = 16 << 20

    /// The entries; none where there is no manifest yet.
    public static func read(directory: String, identity: TrackLogIdentity, key: DataKey) throws(SealedFileError) -> [SegmentEntry] {
        let descriptor = open("\(directory)/\(TrackLogFiles.manifest)", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            guard errno == ENOENT else { throw .system(call: "open", errno: errno) }
            return []
        }
        defer { Glibc.close(descriptor) }
        let reader = try SealedReader(descriptor: descriptor, key: key, context: identity.context(part: TrackLogFiles.manifest))
        guard reader.length <= bytesMax else { throw .tooLong }
        let json = try reader.read(at: 0, count: reader.length)
        guard let entries = try? JSONDecoder().decode([SegmentEntry].self, from: Data(json)) else { throw .damaged(chunk: 0) }  // sealed by us: the reason would not help
        return entries
    }

    static func write(_ entries: [SegmentEntry], directory: String, identity: TrackLogIdentity, key: DataKey) throws(SealedFileError) {
        let temporary = "\(directory)/.\(TrackLogFiles.manifest)"
        let descriptor = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .system(call: "open", errno: errno) }
        defer { Glibc.close(descriptor) }
        let writer = try SealedWriter(descriptor: descriptor, key: key, context: identity.context(part: TrackLogFiles.manifest))
        guard let json = try? JSONEncoder().encode(entries) else { preconditionFailure("plain values encode") }
        try writer.append(Array(json))
        try writer.close()
        guard rename(temporary, "\(directory)/\(TrackLogFiles.manifest)") == 0 else { throw .system(call: "rename", errno: errno) }
        try DescriptorIO.syncDirectory(directory)
    }
}

/// A track's folder on the disk.
public enum TrackLogFolder {
    /// Makes the folder and its parents, readable by the owner only.
    public static func make(_ directory: String) throws(SealedFileError) {
        do {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw .system(call: "mkdir \(directory)", errno: errno)
        }
    }

    /// The numbers of the segments that are there, in order.
    public static func segments(_ directory: String) throws(SealedFileError) -> [Int] {
        do {
            return TrackLogFiles.segments(among: try FileManager.default.contentsOfDirectory(atPath: directory))
        } catch {
            throw .system(call: "readdir \(directory)", errno: errno)
        }
    }
}
