import Foundation
import RTP

/// The keys that an SDP holds: taken out of what is stored.
enum SDPSecrets {
    /// Whether anything in it is a key, or looks like one.
    static func hasAny(_ sdp: String) -> Bool { redacted(sdp) != sdp }

    /// The same without keys: of an `a=crypto` its tag and suite are left; MIKEY messages (RFC 4567) and `k=` (RFC 4566) go whole.
    static func redacted(_ sdp: String) -> String {
        // Split at line feeds alone, as text and not as characters: a carriage return before one stays.
        sdp.utf8.split(separator: 10, omittingEmptySubsequences: false).map { bytes in
            let line = String(decoding: bytes, as: UTF8.self)
            let end = line.utf8.last == 13 ? "\r" : ""
            let lower = line.lowercased()
            if lower.contains("key-mgmt") || lower.drop(while: \.isWhitespace).hasPrefix("k=") { return "a=x-removed" + end }
            guard lower.contains("crypto") || lower.contains("inline:") else { return line }
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count >= 2, words[0].hasPrefix("a=crypto:"), words[0].dropFirst("a=crypto:".count).allSatisfy(\.isNumber),
                  let suite = CryptoAttribute.Suite(rawValue: words[1].uppercased()) else { return "a=x-removed" + end }
            return "\(words[0]) \(suite.rawValue) inline:(sealed)" + end
        }.joined(separator: "\n")
    }
}
