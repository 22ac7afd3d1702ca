import Foundation
import Glibc

/// A master key with its salt and what it is used with, as an SDP's `a=crypto` says (RFC 4568 section 9.1).
///
/// Its bytes lie in one place, are overwritten when the last copy goes, and are never printed.
public struct SRTPKey: Sendable {
    public let suite: SRTPSuite
    /// The master key identifier that each packet carries (RFC 3711 section 3.1); empty: none.
    let identifier: [UInt8]
    private let storage: Storage

    /// Reads the value of an `a=crypto`: tag, suite, `inline:` and the key in base64, with or without a lifetime and an MKI.
    ///
    /// Throws for another suite (named), a key of the wrong length, several keys in one line, and session parameters that change what is
    /// protected. No error repeats what stands after `inline:`.
    public init(crypto: String) throws(SRTPError) {
        let words = crypto.split(separator: " ")
        guard words.count >= 3, (1...9).contains(words[0].count), words[0].allSatisfy(\.isASCIIDigit) else {
            throw SRTPError(what: "an a=crypto line is not of the form TAG SUITE inline:KEY", hint: "a=crypto:1 \(SRTPSuite.aesCM128SHA1Tag80.rawValue) inline:KEY (RFC 4568)")
        }
        guard let suite = SRTPSuite(rawValue: String(words[1]).uppercased()) else {
            let isName = words[1].utf8.count <= 40 && words[1].allSatisfy { $0 == "_" || $0.isASCII && ($0.isLetter || $0.isNumber) }
            throw SRTPError(what: "the SRTP suite \(isName ? String(words[1]) : "of an a=crypto line") is not supported",
                            hint: "use one of: " + SRTPSuite.allCases.map(\.rawValue).joined(separator: ", "))
        }
        for parameter in words[3...] where !parameter.uppercased().hasPrefix("WSH=") && !parameter.hasPrefix("-") {
            let name = ["UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP", "KDR", "FEC_ORDER", "FEC_KEY"].first { parameter.uppercased().hasPrefix($0) }
            throw SRTPError(what: "the session parameter \(name ?? "after the key") of an a=crypto line is not supported", hint: "leave it out: packets are encrypted and authenticated")
        }
        guard words[2].lowercased().hasPrefix("inline:"), !words[2].contains(";") else {
            throw SRTPError(what: "an a=crypto line has no key, or several", hint: "one inline:KEY in each line; further keys in lines of their own")
        }
        let fields = words[2].dropFirst("inline:".count).split(separator: "|", omittingEmptySubsequences: false)
        let text = fields[0] + String(repeating: "=", count: (4 - fields[0].count % 4) % 4)
        var bytes = Data(base64Encoded: String(text)) ?? Data()
        defer { bytes.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } } }
        guard bytes.count == suite.keyBytes else {
            throw SRTPError(what: "the key for \(suite.rawValue) is not \(suite.keyBytes) bytes in base64", hint: "inline: takes the master key and the salt, one after the other")
        }
        self.suite = suite
        identifier = try Self.identifier(fields.dropFirst())
        storage = Storage(bytes)
        try Self.start()
    }

    /// `|MKI:LENGTH`; a lifetime (`|2^20`) has no colon and does not matter to who receives.
    private static func identifier(_ fields: some Sequence<Substring>) throws(SRTPError) -> [UInt8] {
        guard let field = fields.first(where: { $0.contains(":") }) else { return [] }
        let parts = field.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let value = UInt64(parts[0]), let length = Int(parts[1]), (1...128).contains(length), length >= 8 || value >> UInt64(8 * length) == 0 else {
            throw SRTPError(what: "the MKI of an a=crypto line is not of the form VALUE:LENGTH", hint: "such as |1:4 (RFC 4568 section 6.1)")
        }
        let bytes = withUnsafeBytes(of: value.bigEndian, Array.init)
        return length <= 8 ? Array(bytes.suffix(length)) : [UInt8](repeating: 0, count: length - 8) + bytes
    }

    private static func start() throws(SRTPError) {
        guard SRTPLibrary.isReady else { throw SRTPError(what: "libsrtp2 does not start", hint: "reinstall libsrtp2-1 and libnss3") }
    }

    func withBytes<Result>(_ body: (UnsafeMutablePointer<UInt8>) throws -> Result) rethrows -> Result { try body(storage.bytes) }

    /// Proof of `@unchecked`: the bytes are written once in `init`, before the object is shared, and again only in `deinit`; libsrtp reads them.
    private final class Storage: @unchecked Sendable {
        let bytes: UnsafeMutablePointer<UInt8>
        private let count: Int

        init(_ source: Data) {
            count = source.count
            bytes = .allocate(capacity: count)
            bytes.initialize(repeating: 0, count: count)
            source.copyBytes(to: bytes, count: count)
        }

        deinit {
            explicit_bzero(bytes, count)
            bytes.deallocate()
        }
    }
}

extension SRTPKey: CustomStringConvertible, CustomReflectable {
    public var description: String { "SRTPKey(\(suite.rawValue), …)" }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}

extension Character {
    fileprivate var isASCIIDigit: Bool { ("0"..."9").contains(self) }
}
