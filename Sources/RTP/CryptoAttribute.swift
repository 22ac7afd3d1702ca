/// A key for SRTP out of an SDP (`a=crypto`, RFC 4568 section 9.1). It prints its tag and suite, never its key.
public struct CryptoAttribute: Hashable, Sendable {
    /// What protects the packets, by the name it has in an SDP (RFC 4568 section 6.2, RFC 7714 section 14.1).
    public enum Suite: String, Hashable, Sendable, CaseIterable {
        case aes128CounterHMAC80 = "AES_CM_128_HMAC_SHA1_80"
        case aes128CounterHMAC32 = "AES_CM_128_HMAC_SHA1_32"
        case aes128GCM = "AEAD_AES_128_GCM"
        case aes256GCM = "AEAD_AES_256_GCM"

        public var masterKeyBytes: Int { self == .aes256GCM ? 32 : 16 }
        public var masterSaltBytes: Int {
            switch self {
            case .aes128CounterHMAC80, .aes128CounterHMAC32: 14
            case .aes128GCM, .aes256GCM: 12
            }
        }
        public var keyBytes: Int { masterKeyBytes + masterSaltBytes }
    }

    public var tag: Int
    public var suite: Suite
    /// Master key and behind it the master salt.
    public var key: [UInt8]
    /// Packets that the key is good for; nil where it is not said.
    public var lifetimePackets: UInt64?
    /// The master key identifier as it stands at the end of each packet; nil: packets have none.
    public var mki: [UInt8]?

    public init(tag: Int, suite: Suite, key: [UInt8], lifetimePackets: UInt64? = nil, mki: [UInt8]? = nil) {
        self.tag = tag
        self.suite = suite
        self.key = key
        self.lifetimePackets = lifetimePackets
        self.mki = mki
    }
}

extension CryptoAttribute: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "a=crypto:\(tag) \(suite.rawValue)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["tag": tag, "suite": suite.rawValue]) }
}

extension CryptoAttribute {
    static let mkiBytesMax = 128

    enum Reading {
        case known(CryptoAttribute)
        /// A suite that is not known, or one with a parameter that is not.
        case unsupported(String)
    }

    /// Reads `1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|1:4`. An error says what is wrong with the key, never what it is.
    static func read(_ value: Substring, line: Int) throws(SDPError) -> Reading {
        func fault(_ what: String) -> SDPError {
            SDPError(line: line, what: "a=crypto: \(what)", hint: "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:KEY, with 30 bytes of key and salt in Base64")
        }
        let words = value.split { $0 == " " || $0 == "\t" }
        guard words.count >= 3, let tag = Int(words[0]), (0...999_999_999).contains(tag) else { throw fault("it has no tag, suite and key") }
        let name = words[1]
        // Every suite's name has an underscore, which Base64 does not: a key in this place is not shown.
        guard name.utf8.count <= 64, name.contains("_"),
              name.utf8.allSatisfy({ (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 95 }) else {
            throw fault("its second word is no suite")
        }
        guard let suite = Suite(rawValue: name.uppercased()) else { return .unsupported(name.uppercased()) }
        for word in words.dropFirst(3) {
            // What changes how packets are protected; others are hints, or said by senders that mean nothing by them.
            let parameter = word.uppercased()
            for known in ["UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP"] where parameter == known {
                return .unsupported("\(suite.rawValue) \(known)")
            }
            if parameter.hasPrefix("KDR="), parameter != "KDR=0" { return .unsupported("\(suite.rawValue) KDR") }
        }
        let keys = words[2].split(separator: ";")
        guard keys.count == 1 else { return .unsupported("\(suite.rawValue) with several keys") }
        let parts = keys[0].split(separator: "|", omittingEmptySubsequences: false)
        guard parts.count <= 3, let colon = parts[0].firstIndex(of: ":"), parts[0][..<colon].lowercased() == "inline" else {
            throw fault("the key is not given as inline:KEY")
        }
        guard let key = base64(parts[0][colon...].dropFirst()) else { throw fault("the key is no Base64") }
        guard key.count == suite.keyBytes else {
            throw fault("key and salt have \(key.count) bytes, \(suite.rawValue) needs \(suite.keyBytes)")
        }
        var result = CryptoAttribute(tag: tag, suite: suite, key: key)
        for (place, part) in parts.enumerated().dropFirst() {
            if part.contains(":") {
                guard result.mki == nil, place == parts.count - 1, let mki = identifier(part) else {
                    throw fault("the master key identifier is not of the form VALUE:BYTES")
                }
                result.mki = mki
            } else {
                guard place == 1, let lifetime = lifetime(part) else { throw fault("the lifetime is no number and not of the form 2^N") }
                result.lifetimePackets = lifetime
            }
        }
        return .known(result)
    }

    private static func lifetime(_ text: Substring) -> UInt64? {
        guard text.hasPrefix("2^") else { return UInt64(text).flatMap { $0 > 0 ? $0 : nil } }
        return Int(text.dropFirst(2)).flatMap { (0...63).contains($0) ? 1 << UInt64($0) : nil }
    }

    private static func identifier(_ text: Substring) -> [UInt8]? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let value = UInt64(parts[0]), let count = Int(parts[1]), (1...mkiBytesMax).contains(count),
              count >= 8 || value >> UInt64(8 * count) == 0 else { return nil }
        return (0..<count).reversed().map { $0 < 8 ? UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) : 0 }
    }

    /// Base64 (RFC 4648 section 4); the padding may be missing.
    static func base64(_ text: Substring) -> [UInt8]? {
        var (bytes, bits, count, digits, padding): ([UInt8], UInt32, Int, Int, Int) = ([], 0, 0, 0, 0)
        for character in text.utf8 {
            let value: UInt8
            switch character {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = character - 65
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = character - 97 + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = character - 48 + 52
            case UInt8(ascii: "+"): value = 62
            case UInt8(ascii: "/"): value = 63
            case UInt8(ascii: "="):
                padding += 1
                continue
            default: return nil
            }
            guard padding == 0 else { return nil }
            (bits, count, digits) = (bits << 6 | UInt32(value), count + 6, digits + 1)
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        // A last digit alone says nothing, and padding fills up to a multiple of four.
        guard digits % 4 != 1, padding == 0 || (padding <= 2 && (digits + padding) % 4 == 0) else { return nil }
        return bytes
    }
}
