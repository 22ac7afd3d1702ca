import Crypto
import Foundation

/// Bearer tokens: 32 random bytes; only their SHA-256 is ever stored (CONSENT.md section 4).
enum AccessToken {
    /// A new token as URL-safe Base64 without padding (RFC 4648 section 5).
    static func make() -> String {
        SymmetricKey(size: .bits256).withUnsafeBytes { Data($0) }.base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    /// What the catalog stores and looks up. A plain hash is enough: the input has 256 random bits.
    static func hash(_ token: String) -> String {
        SHA256.hash(data: Data(token.utf8)).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}
