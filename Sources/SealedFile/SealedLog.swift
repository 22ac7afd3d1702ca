import Foundation

/// Seals the blocks of a framed log: an append-only file whose valid prefix survives a crash (packet log segments, manifests).
///
/// Same header, keys and nonces as the seekable format, with log2(chunk) = 0; each block is a 4-byte big-endian plaintext length (also
/// in its associated data), ciphertext and tag. The closing block carries the last flag, so a log that was cut is told from one that
/// was closed. A counter is never resumed: whoever goes on after a crash starts a new file with a new salt.
public struct SealedLogSealer: Sendable {
    /// Plaintext bytes of one block.
    public static let blockBytesMax = 1 << 16
    /// What a block costs beyond its plaintext.
    public static let overheadBytes = 4 + SealedHeader.tagBytes

    public let header: [UInt8]
    private let cipher: ChunkCipher
    private var index = 0
    private var isClosed = false

    public init(key: DataKey, context: SealedContext, suite: CipherSuite = .aes256GCM) {
        let made = SealedHeader.make(key: key, context: context, suite: suite, isFramed: true)
        (header, cipher) = (made.header.bytes, made.cipher)
    }

    /// Appends one sealed block to `output`. The block has at most ``blockBytesMax`` bytes; after `isLast` no more may follow.
    public mutating func seal(_ block: UnsafeRawBufferPointer, isLast: Bool, into output: inout [UInt8]) {
        precondition(!isClosed && block.count <= Self.blockBytesMax)
        let length = UInt32(block.count)
        withUnsafeBytes(of: length.bigEndian) { output.append(contentsOf: $0) }
        cipher.seal(block, index: index, isLast: isLast, length: length, into: &output)
        index += 1
        isClosed = isLast
    }
}

/// Opens the blocks of a framed log one after the other, over bytes that are fed in.
public struct SealedLogOpener: Sendable {
    public enum Step: Sendable {
        case block(Data)
        /// More bytes are needed for the next block.
        case needsMore
        /// The closing block was read; what follows does not belong to the log.
        case closed(Data)
        /// The next block does not authenticate: what came before is all there is.
        case damaged
    }

    /// Bytes that are read at once: what of a block is cut off at their end is moved to the front each time.
    static let readBytes = 1 << 18
    /// In front of what is fed first: a block's nonce is put over what came before it.
    private static let roomBytes = ChunkCipher.nonceBytes

    private let cipher: ChunkCipher
    private var index = 0
    private var pending = [UInt8](repeating: 0, count: roomBytes)
    private var start = roomBytes
    private var end = roomBytes
    private var isOver = false
    /// Bytes of the file up to the end of the last good block.
    public private(set) var validBytes = SealedHeader.byteCount

    public static let headerBytes = SealedHeader.byteCount

    /// Takes the file's first ``headerBytes`` bytes.
    public init(header: [UInt8], key: DataKey, context: SealedContext) throws(SealedFileError) {
        cipher = try SealedHeader.open(header, key: key, context: context, isFramed: true)
    }

    public mutating func feed(_ bytes: some Collection<UInt8>) {
        makeRoom(bytes.count)
        pending.withUnsafeMutableBytes { all in UnsafeMutableRawBufferPointer(rebasing: all[end...]).copyBytes(from: bytes) }
        end += bytes.count
    }

    /// Feeds the next bytes of a file; returns how many there were, 0 at its end.
    public mutating func feed(from descriptor: Int32, at offset: Int) throws(SealedFileError) -> Int {
        makeRoom(Self.readBytes)
        let place = end
        var failure: SealedFileError?
        let count = pending.withUnsafeMutableBytes { all -> Int in
            do throws(SealedFileError) {
                return try DescriptorIO.read(UnsafeMutableRawBufferPointer(rebasing: all[place..<place + Self.readBytes]), at: offset, descriptor)
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        end += count
        return count
    }

    private mutating func makeRoom(_ count: Int) {
        if start > Self.roomBytes {
            let (from, rest) = (start, end - start)
            pending.withUnsafeMutableBytes { all in
                UnsafeMutableRawBufferPointer(rebasing: all[Self.roomBytes...]).copyMemory(from: UnsafeRawBufferPointer(rebasing: all[from..<from + rest]))
            }
            (start, end) = (Self.roomBytes, Self.roomBytes + rest)
        }
        if pending.count < end + count { pending += [UInt8](repeating: 0, count: end + count - pending.count) }
    }

    /// The next block, if its bytes are there.
    public mutating func next() -> Step {
        guard !isOver else { return .damaged }
        guard end - start >= 4 else { return .needsMore }
        let length = pending[start..<start + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard length <= SealedLogSealer.blockBytesMax else {
            isOver = true
            return .damaged
        }
        let whole = Int(length) + SealedLogSealer.overheadBytes
        guard end - start >= whole else { return .needsMore }
        let range = start + 4 - ChunkCipher.nonceBytes..<start + whole
        let opened: (Data, Bool)? = pending.withUnsafeMutableBytes { all in
            let place = UnsafeMutableRawBufferPointer(rebasing: all[range])
            if let block = cipher.open(in: place, index: index, isLast: false, length: length) { return (block, false) }
            return cipher.open(in: place, index: index, isLast: true, length: length).map { ($0, true) }
        }
        guard let (block, isLast) = opened else {
            isOver = true
            return .damaged
        }
        start += whole
        validBytes += whole
        index += 1
        isOver = isLast
        return isLast ? .closed(block) : .block(block)
    }
}
