import Crypto
import Foundation
import Glibc

/// A 256-bit key that seals one track's or one rendition's files, or wraps other keys.
///
/// Its bytes are kept in one place, overwritten when the last copy goes, and never printed. It is Codable only to cross the pipe to a
/// stage; nothing else may encode it.
public struct DataKey: Sendable {
    public static let byteCount = 32
    private let storage: Storage

    /// Takes exactly 32 bytes. Throws ``SealedFileError/badKeyLength(_:)`` for any other number.
    public init(bytes: some Collection<UInt8>) throws(SealedFileError) {
        guard bytes.count == Self.byteCount else { throw .badKeyLength(bytes.count) }
        storage = Storage { $0.copyBytes(from: bytes) }
    }

    /// From the kernel's generator (getrandom(2)).
    public static func random() -> DataKey {
        DataKey(storage: Storage { bytes in
            guard getentropy(bytes.baseAddress!, bytes.count) == 0 else { preconditionFailure("the kernel always has 32 random bytes") }
        })
    }

    /// Compares in constant time.
    public func isSame(as other: DataKey) -> Bool {
        withBytes { mine in other.withBytes { theirs in zip(mine, theirs).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0 } }
    }

    private init(storage: Storage) { self.storage = storage }

    /// Lends the bytes for the time of the call.
    public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try body(UnsafeRawBufferPointer(start: storage.bytes, count: Self.byteCount))
    }

    var symmetric: SymmetricKey { withBytes { SymmetricKey(data: $0) } }

    /// Derives a key for another use (HKDF-SHA256, RFC 5869) bound to `label`.
    public func derived(label: String) -> DataKey {
        let key = HKDF<SHA256>.deriveKey(inputKeyMaterial: symmetric, salt: Data(), info: Data(label.utf8), outputByteCount: Self.byteCount)
        return DataKey(storage: Storage { target in key.withUnsafeBytes { target.copyMemory(from: $0) } })
    }

    /// A name for this key that gives nothing away: HMAC-SHA256 under `owner`, 32 bytes in hexadecimal. For receipts and audit.
    public func fingerprint(under owner: DataKey) -> String {
        let code = withBytes { HMAC<SHA256>.authenticationCode(for: $0, using: owner.derived(label: "mitschnitt/fingerprint").symmetric) }
        return Hexadecimal.text(code)
    }

    /// Proof of `@unchecked`: the bytes are written once in `init`, before the object is shared, and again only in `deinit`.
    private final class Storage: @unchecked Sendable {
        let bytes = KeyMemory.allocate()

        init(_ fill: (UnsafeMutableRawBufferPointer) -> Void) { fill(UnsafeMutableRawBufferPointer(start: bytes, count: DataKey.byteCount)) }

        deinit { KeyMemory.free(bytes) }
    }
}

extension DataKey: Codable {
    public init(from decoder: any Decoder) throws {
        var data = try decoder.singleValueContainer().decode(Data.self)
        defer { data.withUnsafeMutableBytes(wipe) }
        try self.init(bytes: data)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(withBytes { Data($0) })
    }
}

extension DataKey: CustomStringConvertible, CustomReflectable {
    public var description: String { "DataKey(…)" }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// Lower-case hexadecimal.
public enum Hexadecimal {
    public static func text(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    /// The bytes of lower-case hexadecimal digits; nil for anything else.
    public static func bytes(_ text: String) -> [UInt8]? {
        let digits = text.utf8.map { $0 >= 48 && $0 <= 57 ? $0 - 48 : $0 >= 97 && $0 <= 102 ? $0 - 87 : 255 }
        guard digits.count % 2 == 0, !digits.contains(255) else { return nil }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}
