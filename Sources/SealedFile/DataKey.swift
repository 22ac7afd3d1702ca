import Crypto
import Foundation

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
        storage = Storage(Array(bytes))
    }

    public static func random() -> DataKey {
        let bytes = SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
        return DataKey(storage: Storage(bytes))
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
        return DataKey(storage: Storage(key.withUnsafeBytes { Array($0) }))
    }

    /// A name for this key that gives nothing away: HMAC-SHA256 under `owner`, 32 bytes in hexadecimal. For receipts and audit.
    public func fingerprint(under owner: DataKey) -> String {
        let code = withBytes { HMAC<SHA256>.authenticationCode(for: $0, using: owner.derived(label: "mitschnitt/fingerprint").symmetric) }
        return Hexadecimal.text(code)
    }

    /// Proof of `@unchecked`: the bytes are written once in `init`, before the object is shared, and again only in `deinit`.
    private final class Storage: @unchecked Sendable {
        let bytes: UnsafeMutablePointer<UInt8>

        init(_ source: [UInt8]) {
            bytes = .allocate(capacity: DataKey.byteCount)
            bytes.initialize(from: source, count: DataKey.byteCount)
        }

        deinit {
            // A store that the compiler cannot drop as dead.
            memset_explicit(bytes, DataKey.byteCount)
            bytes.deallocate()
        }
    }
}

extension DataKey: Codable {
    public init(from decoder: any Decoder) throws {
        let data = try decoder.singleValueContainer().decode(Data.self)
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
