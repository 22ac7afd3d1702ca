import Foundation
import Glibc
import SealedFile

/// Where a track's folder is not what its manifest lists. Each segment proves its own content; that none is missing, or was put back to an older
/// state, only the list tells.
public enum TrackLogFault: Hashable, Sendable {
    /// Listed, and not there.
    case missing(segment: Int)
    /// Listed, and shorter or other than listed: cut, or an older state of it.
    case changed(segment: Int)
    /// There, and not listed: the manifest is an older one, or a crash; recovery lists it.
    case unlisted(segment: Int)
}

extension TrackManifest {
    /// Compares a track's folder with its manifest, which must be one of this track under this key. Without `isThorough` sizes alone, which
    /// reads nothing; with it every listed byte. Throws where the manifest itself was tampered with. Blocks.
    ///
    /// A whole folder that was put back to an older state is consistent in itself: that the catalog tells, by the packets that it counted.
    public static func faults(directory: String, identity: TrackLogIdentity, key: DataKey, isThorough: Bool) throws(SealedFileError) -> [TrackLogFault] {
        let listed = try read(directory: directory, identity: identity, key: key)
        let onDisk = FileManager.default.fileExists(atPath: directory) ? try TrackLogFolder.segments(directory) : []
        var faults: [TrackLogFault] = []
        for entry in listed {
            guard onDisk.contains(entry.number) else {
                faults.append(.missing(segment: entry.number))
                continue
            }
            let descriptor = open("\(directory)/\(TrackLogFiles.segment(entry.number))", O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw .system(call: "open", errno: errno) }
            defer { Glibc.close(descriptor) }
            var isAsListed = try DescriptorIO.size(descriptor) >= entry.sealedBytes
            if isAsListed, isThorough { isAsListed = try DescriptorIO.sha256(descriptor) == entry.sha256 }
            if !isAsListed { faults.append(.changed(segment: entry.number)) }
        }
        return faults + onDisk.filter { number in !listed.contains { $0.number == number } }.map { .unlisted(segment: $0) }
    }
}
