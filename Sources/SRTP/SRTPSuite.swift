/// How packets are protected, by the names of RFC 4568 section 6.2 and RFC 7714 section 14.2.
public enum SRTPSuite: String, Hashable, Sendable, CaseIterable {
    case aesCM128SHA1Tag80 = "AES_CM_128_HMAC_SHA1_80"
    case aesCM128SHA1Tag32 = "AES_CM_128_HMAC_SHA1_32"
    case aes128GCM = "AEAD_AES_128_GCM"
    case aes256GCM = "AEAD_AES_256_GCM"

    /// Master key and master salt together, in bytes.
    var keyBytes: Int {
        switch self {
        case .aesCM128SHA1Tag80, .aesCM128SHA1Tag32: 30
        case .aes128GCM: 28
        case .aes256GCM: 44
        }
    }
}

/// Why protected packets cannot be received. Never holds any of a key.
public struct SRTPError: Error, Hashable, Sendable, CustomStringConvertible {
    public var what: String
    public var hint: String
    public var description: String { "\(what); \(hint)" }
}
