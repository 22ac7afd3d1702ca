import Foundation
import Glibc
import Media
import SealedFile

/// Reads a track's records over its segments, in the order they were written, with memory for one block.
///
/// A damaged or cut segment yields its valid prefix and is named in ``defects``; the segments after it are read all the same.
public final class TrackLogReader {
    public struct Segment {
        public var number: Int
        /// Open for reading; stays the caller's to close.
        public var descriptor: Int32
        public init(number: Int, descriptor: Int32) {
            self.number = number
            self.descriptor = descriptor
        }
    }

    public enum Defect: Hashable, Sendable {
        /// The segment was never closed: a crash, and at most the last second is missing.
        case unfinished(segment: Int)
        case damaged(segment: Int)
        case unreadable(segment: Int, SealedFileError)
    }

    private let segments: [Segment]
    private let identity: TrackLogIdentity
    private let key: DataKey
    private var place = 0
    private var opener: SealedLogOpener?
    private var offset = 0
    private var block = Data()
    private var blockOffset = 0
    private var segmentIsOver = false
    public private(set) var defects: [Defect] = []

    public init(segments: [Segment], identity: TrackLogIdentity, key: DataKey) {
        self.segments = segments
        self.identity = identity
        self.key = key
    }

    /// Sealed bytes of all segments and those read so far, for progress.
    public private(set) var bytesRead = 0

    /// The next record; nil at the end of the last segment. Throws only when the system cannot read.
    public func next() throws(SealedFileError) -> TrackRecord? {
        while true {
            if let record = block.withUnsafeBytes({ RecordCoding.read($0, &blockOffset) }) { return record }
            if blockOffset < block.count { noteDamage() }
            guard try advance() else { return nil }
        }
    }

    /// Lends the records of the next block (or what is left of it) one after the other, their bytes for the time of the call; false at the
    /// end of the last segment.
    public func nextBlock(_ body: (LentRecord) throws -> Void) throws -> Bool {
        if blockOffset >= block.count, try !advance() { return false }
        try block.withUnsafeBytes { while let record = RecordCoding.lend($0, &blockOffset) { try body(record) } }
        if blockOffset < block.count { noteDamage() }
        return true
    }

    private func noteDamage() {
        defects.append(.damaged(segment: segments[place].number))
        endSegment()
    }

    private func endSegment() {
        block = Data()
        blockOffset = 0
        opener = nil
        place += 1
        segmentIsOver = false
    }

    /// Gets the next block; false at the end of everything.
    private func advance() throws(SealedFileError) -> Bool {
        block = Data()
        blockOffset = 0
        while place < segments.count {
            if segmentIsOver {
                endSegment()
                continue
            }
            if opener == nil, try !openSegment() { continue }
            switch opener?.next() {
            case .block(let next):
                block = next
                return true
            case .closed(let last):
                block = last
                segmentIsOver = true
                return true
            case .damaged, nil: noteDamage()
            case .needsMore:
                let count = try opener?.feed(from: segments[place].descriptor, at: offset) ?? 0
                guard count > 0 else {
                    defects.append(.unfinished(segment: segments[place].number))
                    endSegment()
                    continue
                }
                offset += count
                bytesRead += count
            }
        }
        return false
    }

    private func openSegment() throws(SealedFileError) -> Bool {
        let segment = segments[place]
        let header = try DescriptorIO.read(SealedLogOpener.headerBytes, at: 0, segment.descriptor)
        do {
            opener = try SealedLogOpener(header: header, key: key, context: identity.context(segment: segment.number))
            offset = header.count
            return true
        } catch {
            defects.append(.unreadable(segment: segment.number, error))
            endSegment()
            return false
        }
    }
}
