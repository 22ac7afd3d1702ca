import Glibc
import RTP

/// A master key with its salt and what it is used with, taken out of an SDP's `a=crypto` (RFC 4568).
///
/// Its bytes lie in one place, are overwritten when the last copy goes, and are never printed.
public struct SRTPKey: Sendable {
    public let suite: CryptoAttribute.Suite
    /// The master key identifier that each packet carries (RFC 3711 section 3.1); empty: none.
    let identifier: [UInt8]
    private let storage: Storage

    /// Takes the key out of `attribute`, whose own bytes are overwritten.
    ///
    /// Throws where the key has not the suite's length, and where libsrtp2 does not start.
    public init(taking attribute: inout CryptoAttribute) throws(SRTPError) {
        defer { attribute.key.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } } }
        guard attribute.key.count == attribute.suite.keyBytes else {
            throw SRTPError(what: "the key for \(attribute.suite.rawValue) is not \(attribute.suite.keyBytes) bytes",
                            hint: "inline: takes the master key and the salt, one after the other")
        }
        guard SRTPLibrary.isReady else { throw SRTPError(what: "libsrtp2 does not start", hint: "reinstall libsrtp2-1 and libnss3") }
        suite = attribute.suite
        identifier = attribute.mki ?? []
        storage = Storage(attribute.key)
    }

    func withBytes<Result>(_ body: (UnsafeMutablePointer<UInt8>) throws -> Result) rethrows -> Result { try body(storage.bytes) }

    /// Proof of `@unchecked`: the bytes are written once in `init`, before the object is shared, and again only in `deinit`; libsrtp reads them.
    private final class Storage: @unchecked Sendable {
        let bytes: UnsafeMutablePointer<UInt8>
        private let count: Int

        init(_ source: [UInt8]) {
            count = source.count
            bytes = .allocate(capacity: count)
            bytes.initialize(from: source, count: count)
        }

        deinit {
            explicit_bzero(bytes, count)
            bytes.deallocate()
        }
    }
}

/// Why protected packets cannot be received. Never holds any of a key.
public struct SRTPError: Error, Hashable, Sendable, CustomStringConvertible {
    public var what: String
    public var hint: String
    public var description: String { "\(what); \(hint)" }
}

extension SRTPKey: CustomStringConvertible, CustomReflectable {
    public var description: String { "SRTPKey(\(suite.rawValue), …)" }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
