import Foundation
import Glibc
import Media
import SealedFile

/// Brings a track's folder into order after a crash: segments that are not listed keep their valid prefix and are listed.
public enum TrackLogRecovery {
    public struct Report: Hashable, Sendable {
        /// Segments that were not listed: still open when the process died, or closed just before.
        public var recovered: [SegmentEntry] = []
        /// Bytes behind the valid prefixes, cut off.
        public var bytesCut = 0
        /// Listed segments that are not there any more.
        public var missing: [Int] = []
    }

    /// Safe to repeat, and safe to be killed itself.
    public static func recover(directory: String, identity: TrackLogIdentity, key: DataKey) throws(SealedFileError) -> Report {
        var report = Report()
        let listed = try TrackManifest.read(directory: directory, identity: identity, key: key)
        let onDisk = try TrackLogFolder.segments(directory)
        report.missing = listed.map(\.number).filter { !onDisk.contains($0) }
        for number in onDisk where !listed.contains(where: { $0.number == number }) {
            let path = "\(directory)/\(TrackLogFiles.segment(number))"
            guard let found = try scan(path, number, identity, key) else {
                // Killed before even the header was whole: nothing was in it.
                guard unlink(path) == 0 else { throw .system(call: "unlink", errno: errno) }
                continue
            }
            report.recovered.append(found.entry)
            report.bytesCut += found.cut
        }
        guard !report.recovered.isEmpty else { return report }
        let all = (listed + report.recovered).sorted { $0.number < $1.number }
        try TrackManifest.write(all, directory: directory, identity: identity, key: key)
        return report
    }

    private static func scan(_ path: String, _ number: Int, _ identity: TrackLogIdentity, _ key: DataKey) throws(SealedFileError) -> (entry: SegmentEntry, cut: Int)? {
        let descriptor = open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(call: "open", errno: errno) }
        defer { Glibc.close(descriptor) }
        let size = try DescriptorIO.size(descriptor)
        guard size > SealedLogOpener.headerBytes else { return nil }
        var opener = try SealedLogOpener(header: DescriptorIO.read(SealedLogOpener.headerBytes, at: 0, descriptor), key: key,
                                         context: identity.context(segment: number))
        var entry = SegmentEntry(number: number, packets: 0, sealedBytes: 0, sha256: "", isWhole: false)
        var offset = SealedLogOpener.headerBytes
        scanning: while true {
            switch opener.next() {
            case .block(let block): count(block, &entry)
            case .closed(let block):
                count(block, &entry)
                entry.isWhole = true
                break scanning
            case .damaged: break scanning
            case .needsMore:
                let count = try opener.feed(from: descriptor, at: offset)
                if count == 0 { break scanning }
                offset += count
            }
        }
        guard ftruncate(descriptor, off_t(opener.validBytes)) == 0, fsync(descriptor) == 0 else { throw .system(call: "ftruncate", errno: errno) }
        entry.sealedBytes = opener.validBytes
        entry.sha256 = try DescriptorIO.sha256(descriptor)
        return (entry, size - opener.validBytes)
    }

    private static func count(_ block: Data, _ entry: inout SegmentEntry) {
        block.withUnsafeBytes { bytes in
            var offset = 0
            while let record = RecordCoding.read(bytes, &offset) {
                entry.firstArrival = entry.firstArrival ?? record.time
                entry.lastArrival = record.time
                if case .rtp = record { entry.packets += 1 }
            }
        }
    }
}
