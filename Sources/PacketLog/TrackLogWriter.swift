import Foundation
import Glibc
import Media
import SealedFile

/// Writes one track's packets into sealed segments of a few seconds.
///
/// ``append(rtp:arrival:)`` only copies; ``flush(now:)`` seals what was copied and rolls the segment; ``sync()`` makes it durable. Call
/// both at least once a second. After a write error (a full disk) the open segment is given up at its last good block, what is on the
/// disk stays whole, and the next flush tries a new segment. All calls block; used by one thread.
public final class TrackLogWriter {
    public struct Limits: Sendable {
        public var segmentSeconds = 5.0
        public var segmentBytes = 8 << 20
        public init() {}
    }

    /// How far a log is closed: for whoever reads it while it grows.
    public struct Standing: Hashable, Sendable {
        /// Number of the last segment that nothing is written to any more; 0 before the first.
        public var closed: Int
        /// Arrival of the first packet that is in no closed segment; nil where all are.
        public var openSince: WallTime?
    }

    /// Plaintext collected before it is sealed without waiting for a flush.
    static let blockBytes = 60 << 10
    /// Longest datagram that is taken.
    public static let datagramBytesMax = 9_216

    private struct Segment {
        var number: Int
        var descriptor: Int32
        var sealer: SealedLogSealer
        var offset: Int
        var packets = 0
        var first: WallTime?
        var last: WallTime?
    }

    private let directory: String
    private let identity: TrackLogIdentity
    private let key: DataKey
    private let limits: Limits
    private var manifest: [SegmentEntry]
    /// The manifest on the disk lacks entries: it is written again with the next flush.
    private var isManifestStale = false
    private var segment: Segment?
    private var nextNumber: Int
    private var block: [UInt8] = []
    private var blockPackets = 0
    private var blockFirst: WallTime?
    private var blockLast: WallTime?
    private var isDirty = false
    private var sealed: [UInt8] = []
    /// Packets that could not be written since the start.
    public private(set) var lostToStorage = 0

    /// Takes the track's folder, which is made where it is missing. What is in it already (after a restart) must have been recovered.
    public init(directory: String, identity: TrackLogIdentity, key: DataKey, limits: Limits = .init()) throws(SealedFileError) {
        self.directory = directory
        self.identity = identity
        self.key = key
        self.limits = limits
        try TrackLogFolder.make(directory)
        manifest = try TrackManifest.read(directory: directory, identity: identity, key: key)
        let onDisk = try TrackLogFolder.segments(directory)
        nextNumber = max(manifest.last?.number ?? 0, onDisk.last ?? 0) + 1
        block.reserveCapacity(1 << 16)
        sealed.reserveCapacity(1 << 16 + 64)
    }

    deinit {
        if let segment { Glibc.close(segment.descriptor) }
    }

    public func append(rtp bytes: UnsafeRawBufferPointer, arrival: WallTime) throws(SealedFileError) { try append(.rtp, bytes, arrival) }
    public func append(rtcp bytes: UnsafeRawBufferPointer, arrival: WallTime) throws(SealedFileError) { try append(.rtcp, bytes, arrival) }

    public func append(mark: TrackRecord.Mark, at time: WallTime) throws(SealedFileError) {
        var failure: SealedFileError?
        withUnsafeBytes(of: mark.rawValue) { bytes in
            do throws(SealedFileError) { try append(.mark, bytes, time) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private func append(_ kind: RecordCoding.Kind, _ bytes: UnsafeRawBufferPointer, _ arrival: WallTime) throws(SealedFileError) {
        precondition(bytes.count <= Self.datagramBytesMax)
        if block.count + RecordCoding.headBytes + bytes.count > Self.blockBytes { try sealBlock() }
        RecordCoding.append(kind, arrival, bytes, to: &block)
        blockFirst = blockFirst ?? arrival
        blockLast = arrival
        if kind == .rtp { blockPackets += 1 }
    }

    public var standing: Standing { Standing(closed: manifest.last?.number ?? 0, openSince: segment?.first ?? blockFirst) }

    /// Seals and writes what was appended; closes the segment when it is old or long enough.
    public func flush(now: WallTime) throws(SealedFileError) {
        if !block.isEmpty { try sealBlock() }
        if isManifestStale { try writeManifest() }
        guard let segment, let first = segment.first else { return }
        if (now - first).seconds >= limits.segmentSeconds || segment.offset >= limits.segmentBytes { try closeSegment() }
    }

    /// Makes what was flushed durable.
    public func sync() throws(SealedFileError) {
        guard isDirty, let segment else { return }
        guard fdatasync(segment.descriptor) == 0 else { throw .system(call: "fdatasync", errno: errno) }
        isDirty = false
    }

    /// Seals, closes and lists everything. The writer is not used afterwards.
    public func close() throws(SealedFileError) {
        if !block.isEmpty { try sealBlock() }
        try closeSegment()
        if isManifestStale { try writeManifest() }
    }

    private func sealBlock() throws(SealedFileError) {
        defer {
            // Written or lost: never twice.
            block.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } }
            block.removeAll(keepingCapacity: true)
            (blockPackets, blockFirst, blockLast) = (0, nil, nil)
        }
        do {
            try openSegment()
            try write(isLast: false)
            guard var current = segment else { return }
            current.packets += blockPackets
            current.first = current.first ?? blockFirst
            current.last = blockLast ?? current.last
            segment = current
        } catch {
            lostToStorage += blockPackets
            abandonSegment()
            throw error
        }
    }

    private func write(isLast: Bool) throws(SealedFileError) {
        guard var current = segment else { return }
        sealed.removeAll(keepingCapacity: true)
        block.withUnsafeBytes { current.sealer.seal($0, isLast: isLast, into: &sealed) }
        try DescriptorIO.write(sealed, at: current.offset, current.descriptor)
        current.offset += sealed.count
        segment = current
        isDirty = true
    }

    private func openSegment() throws(SealedFileError) {
        guard segment == nil else { return }
        let number = nextNumber
        let descriptor = open("\(directory)/\(TrackLogFiles.segment(number))", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .system(call: "open", errno: errno) }
        nextNumber += 1
        let sealer = SealedLogSealer(key: key, context: identity.context(segment: number))
        segment = Segment(number: number, descriptor: descriptor, sealer: sealer, offset: sealer.header.count)
        try DescriptorIO.write(sealer.header, at: 0, descriptor)
        try DescriptorIO.syncDirectory(directory)
    }

    private func closeSegment() throws(SealedFileError) {
        guard segment != nil else { return }
        do throws(SealedFileError) {
            try write(isLast: true)
            guard let segment else { return }
            guard fdatasync(segment.descriptor) == 0 else { throw .system(call: "fdatasync", errno: errno) }
            try list(segment, isWhole: true)
            Glibc.close(segment.descriptor)
            self.segment = nil
            isDirty = false
        } catch {
            abandonSegment()
            throw error
        }
        try writeManifest()
    }

    /// After a failed write: the valid prefix stays and is listed as soon as the disk takes a manifest again. Nothing is sealed into this
    /// segment any more, since a counter is never used twice.
    private func abandonSegment() {
        guard let segment else { return }
        ftruncate(segment.descriptor, off_t(segment.offset))
        // If it cannot be read either, recovery lists it at the next start.
        do { try list(segment, isWhole: false) } catch { isManifestStale = true }
        Glibc.close(segment.descriptor)
        self.segment = nil
        isDirty = false
    }

    private func list(_ segment: Segment, isWhole: Bool) throws(SealedFileError) {
        guard manifest.last?.number != segment.number else { return }
        manifest.append(SegmentEntry(number: segment.number, packets: segment.packets, sealedBytes: segment.offset, sha256: try DescriptorIO.sha256(segment.descriptor),
                                     firstArrival: segment.first, lastArrival: segment.last, isWhole: isWhole))
        isManifestStale = true
    }

    private func writeManifest() throws(SealedFileError) {
        try TrackManifest.write(manifest, directory: directory, identity: identity, key: key)
        isManifestStale = false
    }
}
