import RTP
import TestSupport
import Testing

@Suite("Keys in a session description")
struct CryptoAttributeTests {
    /// Bytes 1, 2, 3, …
    private static func key(_ count: Int) -> [UInt8] { (1...UInt8(count)).map { $0 } }
    private static let key30 = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e"
    private static let key28 = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHA=="
    private static let key44 = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKyw="

    private func media(_ cryptos: [String], transport: String = "RTP/SAVP", more: String = "") throws -> MediaDescription {
        try SessionDescription(parsing: "v=0\nm=audio 5004 \(transport) 0\n" + cryptos.map { "a=crypto:\($0)\n" }.joined() + more).media[0]
    }

    static let good: [(String, CryptoAttribute)] = [
        ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)", .init(tag: 1, suite: .aes128CounterHMAC80, key: key(30))),
        ("999999999\taes_cm_128_hmac_sha1_32  INLINE:\(key30)|2^31 WSH=64", .init(tag: 999_999_999, suite: .aes128CounterHMAC32, key: key(30), lifetimePackets: 1 << 31)),
        ("2 AES_CM_128_HMAC_SHA1_80 inline:\(key30)|1000|258:4 KDR=0", .init(tag: 2, suite: .aes128CounterHMAC80, key: key(30), lifetimePackets: 1_000, mki: [0, 0, 1, 2])),
        ("3 AEAD_AES_128_GCM inline:\(key28)|1:1", .init(tag: 3, suite: .aes128GCM, key: key(28), mki: [1])),
        ("3 AEAD_AES_128_GCM inline:\(key28.dropLast(2))", .init(tag: 3, suite: .aes128GCM, key: key(28))),
        ("4 AEAD_AES_256_GCM inline:\(key44)|2^48|1:10", .init(tag: 4, suite: .aes256GCM, key: key(44), lifetimePackets: 1 << 48, mki: [0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
        ("1 AES_CM_128_HMAC_SHA1_32 inline:\(key30)|2^20|1:32 dummy_session_params",
         .init(tag: 1, suite: .aes128CounterHMAC32, key: key(30), lifetimePackets: 1 << 20, mki: Array(repeating: 0, count: 31) + [1])),
    ]

    @Test("a key is read with its suite, lifetime and identifier (RFC 4568 section 9.1)", arguments: good)
    func read(text: String, expected: CryptoAttribute) throws {
        let media = try media([text])
        #expect(media.cryptos == [expected])
        #expect(media.protection == .keys([expected]))
        #expect(media.isSecure)
    }

    static let bad: [(String, String)] = [
        ("", "no tag"), ("1 AES_CM_128_HMAC_SHA1_80", "no tag"), ("x AES_CM_128_HMAC_SHA1_80 inline:\(key30)", "no tag"),
        ("1 \(key30) inline:\(key30)", "no suite"), ("1 AES_CM_128_HMAC_SHA1_80 \(key30)", "inline"), ("1 AES_CM_128_HMAC_SHA1_80 uri:\(key30)", "inline"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30.dropLast())!", "no Base64"), ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)=", "no Base64"), ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)A", "no Base64"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30.dropLast(4))", "have 27 bytes, AES_CM_128_HMAC_SHA1_80 needs 30"),
        ("1 AEAD_AES_256_GCM inline:\(key30)", "have 30 bytes, AEAD_AES_256_GCM needs 44"), ("1 AES_CM_128_HMAC_SHA1_80 inline:", "have 0 bytes"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)|2^64", "lifetime"), ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)|", "lifetime"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)|1:1|2^20", "identifier"), ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)|2^20|256:1", "identifier"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)|1:129", "identifier"), ("1 AES_CM_128_HMAC_SHA1_80 inline:\(key30)|2^20|1:1|1:1", "inline"),
    ]

    @Test("a fault in a key is named with its line, and the key never is", arguments: bad)
    func fault(text: String, says: String) {
        let error = #expect(throws: SDPError.self) { try media([text]) }
        #expect(error?.line == 3)
        #expect(error?.description.contains(says) == true, "\(error.map(\.description) ?? "")")
        #expect(error.map { "\($0)\(String(reflecting: $0))".contains("AQIDBAUG") } == false)
    }

    @Test("neither a key that was read nor a line that broke off prints a key")
    func silent() throws {
        let media = try media(["1 AES_CM_128_HMAC_SHA1_80 inline:\(Self.key30)"])
        var dumped = ""
        dump(media, to: &dumped)
        let printed = "\(media)\(String(reflecting: media))\(media.protection)\(dumped)"
        #expect(!printed.contains(Self.key30) && !printed.contains("[1, 2, 3, 4"))
        for text in ["v=0\nm=audio 5004 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80\n\(Self.key30)", "v=0\nm=audio inline:\(Self.key30) 0", "v=0\nc=inline:\(Self.key30)",
                     "v=0\nm=audio 5004 RTP/SAVP inline:\(Self.key30)", "v=0\nm=audio 5004 inline:\(Self.key30) 0", "v=0\nm=audio 5004 RTP/SAVP 0\na=rtpmap:0 inline:\(Self.key30)"] {
            let error = #expect(throws: SDPError.self) { try SessionDescription(parsing: text) }
            #expect(error?.description.contains("AQIDBAUG") == false)
        }
    }

    @Test("suites that are not known are named and do not hide the one that is")
    func unsupported() throws {
        let both = try media(["1 AES_256_CM_HMAC_SHA1_80 inline:\(Self.key44)", "2 AES_CM_128_HMAC_SHA1_80 inline:\(Self.key30)"])
        #expect((both.cryptos.map(\.tag), both.unsupportedSuites) == ([2], ["AES_256_CM_HMAC_SHA1_80"]))
        let none = try media(["1 F8_128_HMAC_SHA1_80 inline:\(Self.key30)", "2 AES_CM_128_HMAC_SHA1_80 inline:\(Self.key30) UNENCRYPTED_SRTP",
                              "3 AES_CM_128_HMAC_SHA1_80 inline:\(Self.key30) KDR=4", "4 AES_CM_128_HMAC_SHA1_80 inline:\(Self.key30)|1:1;inline:\(Self.key30)|2:1"])
        let suites = ["F8_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_80 UNENCRYPTED_SRTP", "AES_CM_128_HMAC_SHA1_80 KDR", "AES_CM_128_HMAC_SHA1_80 with several keys"]
        #expect(none.protection == .unsupportedSuites(suites))
        #expect(none.protection.description.contains("F8_128_HMAC_SHA1_80"))
        #expect(try media(Array(repeating: "1 AES_CM_128_HMAC_SHA1_80 inline:\(Self.key30)", count: 40)).cryptos.count == MediaDescription.cryptosMax)
    }

    @Test("where the keys come from is told apart")
    func protection() throws {
        let dtls = "UDP/TLS/RTP/SAVPF"
        #expect(try media([], transport: dtls).protection == .dtls(transport: dtls))
        #expect(try media([], transport: dtls).protection.description == "UDP/TLS/RTP/SAVPF: SRTP with keys by DTLS")
        #expect(try media([], transport: "RTP/SAVPF", more: "a=setup:actpass\na=fingerprint:sha-256 00").protection == .dtls(transport: "RTP/SAVPF"))
        #expect(try media([], transport: "RTP/SAVP").protection == .noKeys(transport: "RTP/SAVP"))
        #expect(try media([], transport: "RTP/AVPF").protection == MediaProtection.none)
        #expect(try media([], transport: "RTP/AVPF").isSecure == false)
        #expect(try media(["1 AES_CM_128_HMAC_SHA1_80 inline:\(Self.key30)"], transport: "RTP/AVP").isSecure)
    }
}
