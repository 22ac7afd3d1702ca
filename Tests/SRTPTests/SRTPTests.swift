import Foundation
import RTP
@testable import SRTP
import TestSupport
import Testing

@Suite("SRTP in")
struct SRTPTests {
    static let sides: [(CryptoAttribute.Suite, SRTPSender.Profile)] = [(.aes128CounterHMAC80, .aes128SHA1Tag80), (.aes128CounterHMAC32, .aes128SHA1Tag32), (.aes128GCM, .aes128GCM), (.aes256GCM, .aes256GCM)]

    private func master(_ suite: CryptoAttribute.Suite, _ first: UInt8 = 1) -> [UInt8] { (0..<suite.keyBytes).map { UInt8($0) &+ first } }

    private func crypto(_ suite: CryptoAttribute.Suite, _ key: [UInt8], _ rest: String = "") -> String { "1 \(suite.rawValue) inline:\(Data(key).base64EncodedString())\(rest)" }

    /// The outcome, and what is plain.
    private func take(_ receiver: SRTPReceiver, _ packet: [UInt8], isControl: Bool = false) -> (SRTPReceiver.Outcome, [UInt8]) {
        var plain = [UInt8](repeating: 0, count: packet.count)
        let outcome = packet.withUnsafeBytes { bytes in plain.withUnsafeMutableBytes { receiver.unprotect(bytes, isControl: isControl, into: $0) } }
        if case .plain(let length) = outcome { return (outcome, Array(plain.prefix(length))) }
        return (outcome, [])
    }

    private let report: [UInt8] = [0x80, 201, 0, 1, 0, 0, 0, 7]

    @Test("each suite gives RTP and RTCP as they were sent; again it is a replay, changed or by another key it is not authentic", arguments: sides)
    func suites(suite: CryptoAttribute.Suite, profile: SRTPSender.Profile) throws {
        let sender = SRTPSender(profile, key: master(suite))
        let receiver = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(suite, master(suite)))])
        let packets = (0..<5).map { rtp(UInt16($0), 1, payload: [1, 2, 3, UInt8($0)]) }
        let sent = packets.map { sender.protect($0) }
        #expect(sent.map { take(receiver, $0).1 } == packets)
        #expect(sent.map { take(receiver, $0).0 } == Array(repeating: .replayed, count: 5))
        let control = sender.protect(report, isControl: true)
        #expect(take(receiver, control, isControl: true).1 == report)
        #expect(take(receiver, control, isControl: true).0 == .replayed)
        var changed = sender.protect(rtp(9, 1, payload: [7]))
        changed[12] ^= 1
        #expect(take(receiver, changed).0 == .notAuthentic)
        let other = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(suite, master(suite, 2)))])
        #expect(sent.map { take(other, $0).0 } == Array(repeating: .notAuthentic, count: 5))
        #expect(take(receiver, rtp(10, 1, payload: [UInt8](repeating: 1, count: 60))).0 == .notAuthentic)
        #expect(take(SRTPReceiver(keys: []), sent[0]).0 == .notAuthentic)
    }

    @Test("keys are derived as RFC 3711 appendix B.3 has it: a packet that was made by its rules opens")
    func derivation() throws {
        // Master key and salt of B.3. The packet is the work of another implementation (Python's hmac and cryptography, by sections 4.1 to 4.3).
        let key: [UInt8] = [0xE1, 0xF9, 0x7A, 0x0D, 0x3E, 0x01, 0x8B, 0xE0, 0xD6, 0x4F, 0xA3, 0x2C, 0x06, 0xDE, 0x41, 0x39,
                            0x0E, 0xC6, 0x75, 0xAD, 0x49, 0x8A, 0xFE, 0xEB, 0xB6, 0x96, 0x0B, 0x3A, 0xAB, 0xE6]
        let receiver = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(.aes128CounterHMAC80, key))])
        let plain = rtp(0x1234, 0xDECA_FBAD, payloadType: 15, ssrc: 0xCAFE_BABE, payload: [UInt8](repeating: 0xAB, count: 16))
        #expect(take(receiver, Self.vector).1 == plain)
    }

    private static let vector: [UInt8] = [
        0x80, 0x0F, 0x12, 0x34, 0xDE, 0xCA, 0xFB, 0xAD, 0xCA, 0xFE, 0xBA, 0xBE, 0x4E, 0x55, 0xDC, 0x4C, 0xE7, 0x99, 0x78,
        0xD8, 0x8C, 0xA4, 0xD2, 0x15, 0x94, 0x9D, 0x24, 0x02, 0xB7, 0x8D, 0x6A, 0xCC, 0x99, 0xEA, 0x17, 0x9B, 0x8D, 0xBB,
    ]

    @Test("several keys are tried in order, and the first that authenticates stays")
    func several() throws {
        let receiver = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(.aes128GCM, master(.aes128GCM))), try SRTPKey(crypto: crypto(.aes128CounterHMAC80, master(.aes128CounterHMAC80)))])
        let (second, first) = (SRTPSender(.aes128SHA1Tag80, key: master(.aes128CounterHMAC80)), SRTPSender(.aes128GCM, key: master(.aes128GCM)))
        #expect(take(receiver, second.protect(rtp(1, 1, payload: [1]))).1 == rtp(1, 1, payload: [1]))
        #expect(take(receiver, first.protect(rtp(2, 1, payload: [1]))).0 == .notAuthentic)
        #expect(take(receiver, second.protect(rtp(3, 1, payload: [1]))).1 == rtp(3, 1, payload: [1]))
    }

    @Test("a key with an MKI opens packets that carry it")
    func identifier() throws {
        let receiver = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(.aes128CounterHMAC80, master(.aes128CounterHMAC80), "|2^20|258:4 WSH=128"))])
        let sender = SRTPSender(.aes128SHA1Tag80, key: master(.aes128CounterHMAC80), identifier: [0, 0, 1, 2])
        #expect(take(receiver, sender.protect(rtp(1, 1, payload: [5]))).1 == rtp(1, 1, payload: [5]))
        #expect(take(receiver, sender.protect(report, isControl: true), isControl: true).1 == report)
    }

    @Test("whoever comes late finds the rollover counter, from the wrap on too; after a long outage it is found again")
    func late() throws {
        let sender = SRTPSender(.aes128SHA1Tag80, key: master(.aes128CounterHMAC80))
        let receiver = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(.aes128CounterHMAC80, master(.aes128CounterHMAC80)))])
        _ = sender.protect(rtp(1, 1, payload: [0]))
        sender.setRolloverCounter(300, ssrc: 7)
        let numbers = (65_500..<65_600).map { UInt16(truncatingIfNeeded: $0) }
        let found = numbers.map { take(receiver, sender.protect(rtp($0, 1, payload: [1]))).1.isEmpty }
        // 64 counters with each packet: 300 is reached with the fifth; from then on nothing is lost, over the wrap.
        #expect(found.firstIndex(of: false) == 4 && !found[4...].contains(true))
        sender.setRolloverCounter(304, ssrc: 7)
        let again = (100..<140).map { take(receiver, sender.protect(rtp(UInt16($0), 1, payload: [1]))).1.isEmpty }
        #expect(again == Array(repeating: true, count: 10) + Array(repeating: false, count: 30))
    }

    @Test("sources that never authenticate cost a bounded number of tries and no memory")
    func forged() throws {
        var random = Seeded(5)
        let receiver = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(.aes128CounterHMAC80, master(.aes128CounterHMAC80)))])
        for step in 0..<2_000 { #expect(take(receiver, rtp(UInt16(step), 1, ssrc: .random(in: 0..<200, using: &random), payload: random.bytes(40))).0 == .notAuthentic) }
        let sender = SRTPSender(.aes128SHA1Tag80, key: master(.aes128CounterHMAC80))
        let opened = (0..<300).map { take(receiver, sender.protect(rtp(1, 1, ssrc: UInt32(1_000 + $0), payload: [1]))).1.isEmpty }
        #expect(opened.filter { !$0 }.count == SRTPReceiver.sourcesMax)
    }

    @Test("whatever bytes come, nothing authenticates and nothing crashes", arguments: sides)
    func random(suite: CryptoAttribute.Suite, profile: SRTPSender.Profile) throws {
        var random = Seeded(UInt64(profile.rawValue))
        let receiver = SRTPReceiver(keys: [try SRTPKey(crypto: crypto(suite, master(suite)))])
        let sender = SRTPSender(profile, key: master(suite))
        for step in 0..<4_000 {
            var packet = Bool.random(using: &random) ? random.bytes(.random(in: 0...80, using: &random)) : sender.protect(rtp(UInt16(step), 1, payload: random.bytes(20)))
            if packet.count > 12 { packet[.random(in: 0..<packet.count, using: &random)] &+= .random(in: 1...255, using: &random) }
            packet = Array(packet.prefix(.random(in: 0...packet.count, using: &random)))
            for isControl in [false, true] {
                if case .plain = take(receiver, packet, isControl: isControl).0 { Issue.record("\(packet) opened") }
            }
        }
    }

    @Test("a key is taken out of the attribute, which holds it no more; one of another length is refused")
    func taken() throws {
        var attribute = CryptoAttribute(tag: 1, suite: .aes128GCM, key: master(.aes128GCM))
        _ = try SRTPKey(taking: &attribute)
        #expect(attribute.key == [UInt8](repeating: 0, count: 28))
        attribute.key = [1, 2, 3]
        #expect(throws: SRTPError.self) { try SRTPKey(taking: &attribute) }
        #expect(attribute.key == [0, 0, 0])
    }

    @Test("a key does not print itself, with or without base64 padding")
    func silent() throws {
        let key = try SRTPKey(crypto: "1 AEAD_AES_128_GCM inline:" + Data(master(.aes128GCM)).base64EncodedString().replacing("=", with: ""))
        #expect("\(key) \(String(reflecting: key))".contains("SRTPKey(AEAD_AES_128_GCM, …)"))
        var dumped = ""
        dump(key, to: &dumped)
        #expect(!dumped.contains("storage"))
    }
}
