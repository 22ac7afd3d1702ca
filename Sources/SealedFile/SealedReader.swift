import Foundation

/// Reads a seekable sealed file at any place; no byte leaves before its chunk authenticates.
///
/// Opening checks header, key commitment and the last chunk, so that the length is known and a cut file is refused. All calls block;
/// use from one thread. The descriptor stays the caller's.
public final class SealedReader {
    /// Plaintext bytes that are authenticated together.
    public static let chunkBytes = SealedHeader.chunkBytes

    /// Plaintext bytes.
    public let length: Int
    private let descriptor: Int32
    private let cipher: ChunkCipher
    private let chunkCount: Int
    private var cached: (index: Int, plaintext: Data)
    /// The chunk that is being opened, with room for its nonce.
    private var sealed: [UInt8]

    private static let sealedChunkBytes = SealedHeader.chunkBytes + SealedHeader.tagBytes

    public init(descriptor: Int32, key: DataKey, context: SealedContext) throws(SealedFileError) {
        self.descriptor = descriptor
        cipher = try SealedHeader.open(DescriptorIO.read(SealedHeader.byteCount, at: 0, descriptor), key: key, context: context, isFramed: false)
        let body = try DescriptorIO.size(descriptor) - SealedHeader.byteCount
        guard body >= SealedHeader.tagBytes else { throw .truncated }
        chunkCount = (body + Self.sealedChunkBytes - 1) / Self.sealedChunkBytes
        let last = chunkCount - 1
        sealed = [UInt8](repeating: 0, count: ChunkCipher.nonceBytes + Self.sealedChunkBytes)
        guard let plaintext = try Self.open(last, isLast: true, cipher, descriptor, &sealed) else { throw .truncated }
        cached = (last, plaintext)
        length = last * SealedHeader.chunkBytes + plaintext.count
    }

    /// Reads up to `buffer.count` bytes from `offset`; fewer only at the end, 0 beyond it.
    public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(SealedFileError) -> Int {
        guard offset >= 0, offset < length else { return 0 }
        var done = 0
        while done < buffer.count, offset + done < length {
            let place = offset + done
            let plaintext = try chunk(place / SealedHeader.chunkBytes)
            let start = place % SealedHeader.chunkBytes
            guard start < plaintext.count else { throw .damaged(chunk: place / SealedHeader.chunkBytes) }
            let count = min(plaintext.count - start, buffer.count - done)
            plaintext.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[start..<start + count]))
            }
            done += count
        }
        return done
    }

    public func read(at offset: Int, count: Int) throws(SealedFileError) -> [UInt8] {
        var failure: SealedFileError?
        let bytes = [UInt8](unsafeUninitializedCapacity: max(0, min(count, length - offset))) { buffer, used in
            do throws(SealedFileError) { used = try read(at: offset, into: UnsafeMutableRawBufferPointer(buffer)) } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    private func chunk(_ index: Int) throws(SealedFileError) -> Data {
        if cached.index == index { return cached.plaintext }
        guard let plaintext = try Self.open(index, isLast: index == chunkCount - 1, cipher, descriptor, &sealed) else { throw .damaged(chunk: index) }
        cached = (index, plaintext)
        return plaintext
    }

    private static func open(_ index: Int, isLast: Bool, _ cipher: ChunkCipher, _ descriptor: Int32, _ sealed: inout [UInt8]) throws(SealedFileError) -> Data? {
        var failure: SealedFileError?
        let plaintext = sealed.withUnsafeMutableBytes { all -> Data? in
            do throws(SealedFileError) {
                let room = UnsafeMutableRawBufferPointer(rebasing: all[ChunkCipher.nonceBytes...])
                let count = try DescriptorIO.read(room, at: SealedHeader.byteCount + index * sealedChunkBytes, descriptor)
                return cipher.open(in: UnsafeMutableRawBufferPointer(rebasing: all[..<(ChunkCipher.nonceBytes + count)]), index: index, isLast: isLast)
            } catch {
                failure = error
                return nil
            }
        }
        if let failure { throw failure }
        return plaintext
    }
}
