import Crypto
import Foundation
import Media

/// What a sealed file is bound to: moved to another place, it does not open.
public struct SealedContext: Hashable, Codable, Sendable {
    public var recording: RecordingID
    /// `track:ID` or `rendition:ID`.
    public var object: String
    public var modality: String
    /// Which file of the object: `segment:000001`, `manifest`, `track`, an output's name.
    public var part: String

    public init(recording: RecordingID, object: String, modality: String, part: String) {
        self.recording = recording
        self.object = object
        self.modality = modality
        self.part = part
    }

    /// Each field with its length in front, so that no two contexts run together.
    var bytes: [UInt8] {
        [recording.rawValue, object, modality, part].flatMap { field in
            let utf8 = Array(field.utf8)
            return withUnsafeBytes(of: UInt32(utf8.count).bigEndian, Array.init) + utf8
        }
    }
}

/// The AEAD of a file; the raw value is its byte in the header.
public enum CipherSuite: UInt8, Sendable, CaseIterable {
    case aes256GCM = 1
    /// For machines without AES instructions.
    case chaCha20Poly1305 = 2
}

/// The 80 bytes in front of every sealed file (CONSENT.md section 3).
///
/// Magic (8), version, suite, log2(chunk) or 0 for a framed log, reserved (5), salt (32), key commitment (32).
struct SealedHeader {
    static let byteCount = 80
    static let magic = Array("MITSCHN1".utf8)
    static let version: UInt8 = 1
    /// Plaintext bytes of a chunk; log2 is in the header.
    static let chunkBytes = 1 << 16
    static let tagBytes = 16

    let bytes: [UInt8]
    let suite: CipherSuite
    let isFramed: Bool
    let salt: [UInt8]
    let commitment: [UInt8]

    /// A new header with a fresh salt, and the key that its chunks are sealed with.
    static func make(key: DataKey, context: SealedContext, suite: CipherSuite, isFramed: Bool) -> (header: SealedHeader, cipher: ChunkCipher) {
        let salt = SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
        let derived = derive(key: key, salt: salt, suite: suite, context: context)
        let bytes = magic + [version, suite.rawValue, isFramed ? 0 : 16] + [UInt8](repeating: 0, count: 5) + salt + derived.commitment
        let header = SealedHeader(bytes: bytes, suite: suite, isFramed: isFramed, salt: salt, commitment: derived.commitment)
        return (header, ChunkCipher(key: derived.payload, suite: suite, header: bytes))
    }

    /// Reads a header and checks that key and context are the right ones before anything is decrypted.
    static func open(_ bytes: [UInt8], key: DataKey, context: SealedContext, isFramed: Bool) throws(SealedFileError) -> ChunkCipher {
        guard bytes.count == byteCount else { throw .truncated }
        guard Array(bytes[0..<8]) == magic else { throw .notASealedFile("its first bytes are not \(String(decoding: magic, as: UTF8.self))") }
        guard bytes[8] == version else { throw .notASealedFile("version \(bytes[8])") }
        guard let suite = CipherSuite(rawValue: bytes[9]) else { throw .notASealedFile("cipher suite \(bytes[9])") }
        guard bytes[10] == (isFramed ? 0 : 16) else { throw .notASealedFile("chunk size \(bytes[10])") }
        guard bytes[11..<16].allSatisfy({ $0 == 0 }) else { throw .notASealedFile("reserved bytes are set") }
        let derived = derive(key: key, salt: Array(bytes[16..<48]), suite: suite, context: context)
        var difference: UInt8 = 0  // constant time
        for (a, b) in zip(derived.commitment, bytes[48..<80]) { difference |= a ^ b }
        guard difference == 0 else { throw .wrongKeyOrContext }
        return ChunkCipher(key: derived.payload, suite: suite, header: bytes)
    }

    private static func derive(key: DataKey, salt: [UInt8], suite: CipherSuite, context: SealedContext) -> (payload: SymmetricKey, commitment: [UInt8]) {
        func derived(_ label: String) -> SymmetricKey {
            let info = Array("mitschnitt/1/\(label)".utf8) + [suite.rawValue] + context.bytes
            return HKDF<SHA256>.deriveKey(inputKeyMaterial: key.symmetric, salt: Data(salt), info: Data(info), outputByteCount: 32)
        }
        return (derived("payload"), derived("commitment").withUnsafeBytes { Array($0) })
    }
}

/// Seals and opens the chunks of one file: nonce = 11-byte big-endian index and the last-chunk flag; associated data = hash of the
/// header (and, in a framed log, the chunk's length).
struct ChunkCipher: Sendable {
    static let nonceBytes = 12

    private let key: SymmetricKey
    private let suite: CipherSuite
    private let headerHash: [UInt8]

    init(key: SymmetricKey, suite: CipherSuite, header: [UInt8]) {
        self.key = key
        self.suite = suite
        headerHash = Array(SHA256.hash(data: header))
    }

    private func nonce(_ index: Int, _ isLast: Bool) -> [UInt8] {
        [0, 0, 0] + withUnsafeBytes(of: UInt64(index).bigEndian, Array.init) + [isLast ? 1 : 0]
    }

    /// Ciphertext and tag of one chunk, behind ``nonceBytes`` that are not written.
    func seal(_ plaintext: UnsafeRawBufferPointer, index: Int, isLast: Bool, length: UInt32? = nil) -> Data {
        let data = associated(length)
        do {
            switch suite {
            case .aes256GCM:
                let box = try AES.GCM.seal(plaintext, using: key, nonce: AES.GCM.Nonce(data: nonce(index, isLast)), authenticating: data)
                guard let combined = box.combined else { preconditionFailure("a 12-byte nonce is combined") }
                return combined
            case .chaCha20Poly1305:
                return try ChaChaPoly.seal(plaintext, using: key, nonce: ChaChaPoly.Nonce(data: nonce(index, isLast)), authenticating: data).combined
            }
        } catch {
            preconditionFailure("sealing cannot fail with a 32-byte key and a 12-byte nonce: \(error)")
        }
    }

    /// Appends ciphertext and tag of one chunk to `output`.
    func seal(_ plaintext: UnsafeRawBufferPointer, index: Int, isLast: Bool, length: UInt32? = nil, into output: inout [UInt8]) {
        seal(plaintext, index: index, isLast: isLast, length: length).withUnsafeBytes { output.append(contentsOf: UnsafeRawBufferPointer(rebasing: $0[Self.nonceBytes...])) }
    }

    /// The plaintext of one chunk, or nil if it does not authenticate at this place.
    ///
    /// `place` is ``nonceBytes`` of room and behind it ciphertext and tag: the nonce is put in front of them, where the library wants it, so
    /// that nothing is copied.
    func open(in place: UnsafeMutableRawBufferPointer, index: Int, isLast: Bool, length: UInt32? = nil) -> Data? {
        guard place.count >= Self.nonceBytes + SealedHeader.tagBytes, let base = place.baseAddress else { return nil }
        place.copyBytes(from: nonce(index, isLast))
        let combined = Data(bytesNoCopy: base, count: place.count, deallocator: .none)
        // A failure here is the answer (not authentic), never lost information.
        switch suite {
        case .aes256GCM: return try? AES.GCM.open(.init(combined: combined), using: key, authenticating: associated(length))
        case .chaCha20Poly1305: return try? ChaChaPoly.open(.init(combined: combined), using: key, authenticating: associated(length))
        }
    }

    private func associated(_ length: UInt32?) -> [UInt8] { headerHash + (length.map { withUnsafeBytes(of: $0.bigEndian, Array.init) } ?? []) }
}
