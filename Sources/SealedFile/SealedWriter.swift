import Crypto
import Foundation
import Glibc

/// Writes a seekable sealed file: 64 KiB chunks, each sealed exactly once, the last one flagged.
///
/// The first `windowBytes` stay in memory until ``finish()`` or ``close()``, so that a muxer may patch its head (an MP4's moov, a Matroska's sizes);
/// everything after is append-only. The file cannot be opened before. All calls block; use from one thread.
public final class SealedWriter {
    private let descriptor: Int32
    private let cipher: ChunkCipher
    private let header: SealedHeader
    /// Plaintext of the first chunks, patchable.
    private var window: [UInt8] = []
    private let windowBytes: Int
    /// Plaintext after the window that is not sealed yet: at most one chunk, held back because the last one is flagged.
    private var tail: [UInt8] = []
    /// Sealed chunks, each behind its nonce, that follow each other on the disk from `batchOffset` on: they are written together, since the
    /// kernel takes few large writes for a third less.
    private var batch: [Data] = []
    private var batchOffset = 0
    private static let batchChunksMax = 16
    /// Index of the next chunk after the window.
    private var nextChunk: Int
    /// Plaintext bytes appended so far.
    public private(set) var position = 0
    private var isFinished = false

    /// Takes an empty file, open for reading and writing, which stays the caller's to close.
    public init(descriptor: Int32, key: DataKey, context: SealedContext, windowBytes: Int = 0, suite: CipherSuite = .aes256GCM) throws(SealedFileError) {
        self.descriptor = descriptor
        (header, cipher) = SealedHeader.make(key: key, context: context, suite: suite, isFramed: false)
        self.windowBytes = (windowBytes + SealedHeader.chunkBytes - 1) / SealedHeader.chunkBytes * SealedHeader.chunkBytes
        nextChunk = self.windowBytes / SealedHeader.chunkBytes
        tail.reserveCapacity(SealedHeader.chunkBytes)
        try DescriptorIO.write(header.bytes, at: 0, descriptor)
    }

    public func append(_ bytes: UnsafeRawBufferPointer) throws(SealedFileError) {
        precondition(!isFinished, "append after finish")
        var rest = bytes[...]
        if window.count < windowBytes {
            let part = rest.prefix(windowBytes - window.count)
            window.append(contentsOf: UnsafeRawBufferPointer(rebasing: part))
            rest = rest.dropFirst(part.count)
        }
        while !rest.isEmpty {
            if tail.count == SealedHeader.chunkBytes { try sealTail(isLast: false) }
            // Whole chunks that are not the last go without a copy.
            if tail.isEmpty, rest.count > SealedHeader.chunkBytes {
                try seal(UnsafeRawBufferPointer(rebasing: rest.prefix(SealedHeader.chunkBytes)), index: nextChunk, isLast: false)
                nextChunk += 1
                rest = rest.dropFirst(SealedHeader.chunkBytes)
                continue
            }
            let part = rest.prefix(SealedHeader.chunkBytes - tail.count)
            tail.append(contentsOf: UnsafeRawBufferPointer(rebasing: part))
            rest = rest.dropFirst(part.count)
        }
        position += bytes.count
    }

    public func append(_ bytes: [UInt8]) throws(SealedFileError) {
        var failure: SealedFileError?
        bytes.withUnsafeBytes { buffer in
            do throws(SealedFileError) { try append(buffer) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Replaces bytes that were appended and still lie in the window. Throws `.alreadySealed` outside of it.
    public func overwrite(at offset: Int, _ bytes: UnsafeRawBufferPointer) throws(SealedFileError) {
        guard offset >= 0, offset + bytes.count <= window.count else { throw .alreadySealed(offset: offset) }
        window.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }

    /// Seals the window and the last chunk, syncs the file and hashes it.
    public func finish() throws(SealedFileError) -> SealedDigest {
        try close()
        return SealedDigest(plaintextBytes: position, ciphertextSHA256: try DescriptorIO.sha256(descriptor))
    }

    /// Seals the window and the last chunk, and syncs the file: for one whose hash nobody needs yet. ``DescriptorIO/sha256(_:)`` tells it later.
    public func close() throws(SealedFileError) {
        precondition(!isFinished, "finish twice")
        isFinished = true
        if position == 0 { nextChunk = 0 }  // an empty file is one empty last chunk
        let windowIsAll = tail.isEmpty && nextChunk == windowBytes / SealedHeader.chunkBytes && !window.isEmpty
        var offset = 0
        while offset < window.count {
            let end = min(offset + SealedHeader.chunkBytes, window.count)
            let isLast = windowIsAll && end == window.count
            try seal(window, offset..<end, index: offset / SealedHeader.chunkBytes, isLast: isLast)
            offset = end
        }
        if !windowIsAll { try sealTail(isLast: true) }
        try writeBatch()
        guard fsync(descriptor) == 0 else { throw .system(call: "fsync", errno: errno) }
    }

    private func sealTail(isLast: Bool) throws(SealedFileError) {
        try seal(tail, 0..<tail.count, index: nextChunk, isLast: isLast)
        nextChunk += 1
        tail.removeAll(keepingCapacity: true)
    }

    private func seal(_ bytes: [UInt8], _ range: Range<Int>, index: Int, isLast: Bool) throws(SealedFileError) {
        var failure: SealedFileError?
        bytes.withUnsafeBytes { all in
            do throws(SealedFileError) { try seal(UnsafeRawBufferPointer(rebasing: all[range]), index: index, isLast: isLast) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private func seal(_ plaintext: UnsafeRawBufferPointer, index: Int, isLast: Bool) throws(SealedFileError) {
        guard index < 1 << 40 else { throw .tooLong }
        let offset = SealedHeader.byteCount + index * (SealedHeader.chunkBytes + SealedHeader.tagBytes)
        if batch.count == Self.batchChunksMax || batchOffset + batch.count * (SealedHeader.chunkBytes + SealedHeader.tagBytes) != offset { try writeBatch() }
        if batch.isEmpty { batchOffset = offset }
        batch.append(cipher.seal(plaintext, index: index, isLast: isLast))
    }

    private func writeBatch() throws(SealedFileError) {
        try Self.lend(batch[...], []) { parts throws(SealedFileError) in try DescriptorIO.write(parts, at: batchOffset, descriptor) }
        batch.removeAll(keepingCapacity: true)
    }

    /// Lends the bytes of all chunks at the same time, without their nonces.
    private static func lend(_ chunks: ArraySlice<Data>, _ lent: [UnsafeRawBufferPointer], _ body: ([UnsafeRawBufferPointer]) throws(SealedFileError) -> Void) throws(SealedFileError) {
        guard let chunk = chunks.first else { return try body(lent) }
        var failure: SealedFileError?
        chunk.withUnsafeBytes { all in
            do throws(SealedFileError) { try lend(chunks.dropFirst(), lent + [UnsafeRawBufferPointer(rebasing: all[ChunkCipher.nonceBytes...])], body) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

/// What a finished sealed file is, for the catalog and the receipt.
public struct SealedDigest: Hashable, Sendable {
    public var plaintextBytes: Int
    /// Of the whole file on disk, hexadecimal.
    public var ciphertextSHA256: String
}
