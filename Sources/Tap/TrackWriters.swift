import Glibc
import Media
import PacketLog
import SealedFile

/// The packet logs of a capture's streams, written by one thread.
final class TrackWriters {
    private let writers: [TrackLogWriter]
    /// The last write error, in words; nil while everything is taken.
    private(set) var storageError: String?

    init(_ streams: [TapStream]) throws(SealedFileError) {
        var made: [TrackLogWriter] = []
        for stream in streams { made.append(try TrackLogWriter(directory: stream.logDirectory, identity: stream.identity, key: stream.key)) }
        writers = made
    }

    var standings: [TrackLogWriter.Standing] { writers.map(\.standing) }
    var lostToStorage: [Int] { writers.map(\.lostToStorage) }

    /// Appends what ``CaptureCore/exchangePending(_:)`` gave, then overwrites it.
    /// Begins a round: ``storageError`` is about this one.
    func consume(_ pending: inout [UInt8]) {
        storageError = nil
        pending.withUnsafeMutableBytes { bytes in
            var at = 0
            while at + CaptureCore.pendingHeadBytes <= bytes.count {
                let stream = Int(UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self)))
                let kind = bytes[at + 2]
                let arrival = WallTime(nanoseconds: Int64(bigEndian: bytes.loadUnaligned(fromByteOffset: at + 3, as: Int64.self)))
                let length = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at + 11, as: UInt32.self)))
                let start = at + CaptureCore.pendingHeadBytes
                let body = UnsafeRawBufferPointer(rebasing: bytes[start..<start + length])
                attempt { () throws(SealedFileError) in
                    switch kind {
                    case 1: try writers[stream].append(rtp: body, arrival: arrival)
                    case 2: try writers[stream].append(rtcp: body, arrival: arrival)
                    default: if let mark = body.first.flatMap(TrackRecord.Mark.init) { try writers[stream].append(mark: mark, at: arrival) }
                    }
                }
                at = start + length
            }
            if let base = bytes.baseAddress { explicit_bzero(base, bytes.count) }
        }
    }

    func flush(now: WallTime) {
        for writer in writers { attempt { () throws(SealedFileError) in try writer.flush(now: now) } }
    }

    func sync() { for writer in writers { attempt { () throws(SealedFileError) in try writer.sync() } } }

    func close() { for writer in writers { attempt { () throws(SealedFileError) in try writer.close() } } }

    /// A disk that does not take one block must not end the capture: the writer starts a new segment, and the error is reported.
    private func attempt(_ body: () throws(SealedFileError) -> Void) {
        do { try body() } catch { storageError = error.description }
    }
}
