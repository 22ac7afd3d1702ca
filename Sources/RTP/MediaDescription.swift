import Media

/// One m-line of an SDP with its attributes.
public struct MediaDescription: Hashable, Sendable {
    public static let ssrcsMax = 64
    public static let groupsMax = 32
    public static let cryptosMax = 16
    public static let ridsMax = 32

    /// `audio`, `video`, …
    public var type: String
    public var port: UInt16
    /// `RTP/AVP`, `RTP/SAVPF`, …
    public var transport: String
    public var address: String?
    /// `a=rtcp` (RFC 3605); nil: the next port, or the same one with `a=rtcp-mux`.
    public var rtcpPort: UInt16?
    public var isRTCPMuxed = false
    /// `a=mid` (RFC 5888).
    public var mid: String?
    public var ssrcs: [SSRC] = []
    /// `a=ssrc-group` (RFC 5576).
    public var ssrcGroups: [SSRCGroup] = []
    public var payloadTypes: [UInt8] = []
    public var codecs: [UInt8: Codec] = [:]
    public var formatParameters: [UInt8: String] = [:]
    /// `a=extmap` (RFC 8285).
    public var extensions: [UInt8: String] = [:]
    /// `a=rid` (RFC 8851).
    public var rids: [RestrictionID] = []
    /// `a=simulcast` (RFC 8853).
    public var simulcast: Simulcast?
    /// `a=crypto` with a suite that is known (RFC 4568), in the order of preference.
    public var cryptos: [CryptoAttribute] = []
    /// Names of the suites that are not.
    public var unsupportedSuites: [String] = []
    /// `a=ptime`: milliseconds of sound in a packet, as announced.
    public var packetMs: Double?
    /// `a=inactive`: nothing is sent for now (RFC 8866 section 6.7).
    public var isInactive = false
    private var hasFingerprint = false
    private let line: Int

    init(_ value: Substring, line: Int, session: SessionDefaults) throws(SDPError) {
        let words = value.split(separator: " ")
        guard words.count >= 4, let port = UInt16(words[1].prefix { $0 != "/" }) else {
            throw SDPError(line: line, what: "'m=\(SDPError.excerpt(value))' is no media line", hint: "m=audio 5004 RTP/AVP 111")
        }
        guard words[2].contains("RTP/") else {
            throw SDPError(line: line, what: "the transport '\(SDPError.excerpt(words[2]))' is not RTP", hint: "RTP/AVP, RTP/AVPF, RTP/SAVP or RTP/SAVPF")
        }
        (type, self.port, transport, self.line) = (String(words[0]), port, String(words[2]), line)
        (address, isInactive, hasFingerprint, extensions) = (session.address, session.isInactive, session.hasFingerprint, session.extensions)
        for word in words[3...] {
            guard let number = UInt8(word), number < 128 else {
                throw SDPError(line: line, what: "'\(SDPError.excerpt(word))' is no payload type", hint: "0 to 127")
            }
            if !payloadTypes.contains(number) { payloadTypes.append(number) }
        }
    }

    mutating func apply(attribute: Substring, line: Int) throws(SDPError) {
        let value = SDPAttribute.value(attribute)
        switch SDPAttribute.name(attribute) {
        case "rtpmap": try readMap(value, line)
        case "fmtp":
            let words = value.split(separator: " ", maxSplits: 1)
            if words.count == 2, let number = UInt8(words[0]), number < 128 { formatParameters[number] = String(words[1]) }
        case "extmap": try SDPAttribute.readExtension(attribute, line: line, into: &extensions)
        case "rtcp": rtcpPort = value.split(separator: " ").first.flatMap { UInt16($0) }
        case "rtcp-mux": isRTCPMuxed = true
        case "mid": mid = String(value)
        case "ssrc":
            if let id = value.split(separator: " ").first.flatMap({ UInt32($0) }), !ssrcs.contains(SSRC(rawValue: id)), ssrcs.count < Self.ssrcsMax {
                ssrcs.append(SSRC(rawValue: id))
            }
        case "ssrc-group": if ssrcGroups.count < Self.groupsMax, let group = SSRCGroup(value) { ssrcGroups.append(group) }
        case "rid": if rids.count < Self.ridsMax, let rid = RestrictionID(value) { rids.append(rid) }
        case "simulcast": simulcast = Simulcast(value)
        case "crypto": try readCrypto(value, line)
        case "fingerprint": hasFingerprint = true
        case "ptime": packetMs = Double(value.split(separator: " ").first ?? "").flatMap { $0 > 0 && $0 <= 1_000 ? $0 : nil }
        case "inactive": isInactive = true
        case "sendrecv", "sendonly", "recvonly": isInactive = false
        default: return
        }
    }

    private mutating func readMap(_ value: Substring, _ line: Int) throws(SDPError) {
        let words = value.split(separator: " ", maxSplits: 1)
        let parts = words.count == 2 ? words[1].split(separator: "/") : []
        guard let number = words.first.flatMap({ UInt8($0) }), number < 128, parts.count >= 2, let rate = Int(parts[1].prefix { $0 != " " }),
              (1...1_000_000).contains(rate) else {
            throw SDPError(line: line, what: "'a=rtpmap:\(SDPError.excerpt(value))' is no rtpmap", hint: "a=rtpmap:111 opus/48000/2")
        }
        let channels = parts.count > 2 ? Int(parts[2].prefix { $0 != " " }) ?? 0 : 1
        guard (1...8).contains(channels) else { throw SDPError(line: line, what: "\(SDPError.excerpt(parts[2])) channels", hint: "1 to 8") }
        codecs[number] = Codec(name: String(parts[0]), clockRate: rate, channels: channels)
    }

    private mutating func readCrypto(_ value: Substring, _ line: Int) throws(SDPError) {
        guard cryptos.count + unsupportedSuites.count < Self.cryptosMax else { return }
        switch try CryptoAttribute.read(value, line: line) {
        case .known(let crypto): cryptos.append(crypto)
        case .unsupported(let suite): unsupportedSuites.append(suite)
        }
    }

    mutating func complete() throws(SDPError) {
        for number in payloadTypes where codecs[number] == nil {
            guard let known = Codec.ofStaticPayloadType(number) else {
                throw SDPError(line: line, what: "payload type \(number) has no a=rtpmap", hint: "a=rtpmap:\(number) NAME/CLOCKRATE")
            }
            codecs[number] = known
        }
        codecs = codecs.filter { payloadTypes.contains($0.key) }
    }

    /// What a track's stages need to read its packets.
    public func trackFormat(kind: MediaKind) -> TrackFormat {
        TrackFormat(kind: kind, codecs: codecs, extensions: extensions, parameters: formatParameters.filter { codecs[$0.key] != nil }, repairs: repairs)
    }

    /// Which SSRC retransmits which one's packets: the second of each `FID` group the first's (RFC 4588 section 8.8).
    public var repairs: [UInt32: UInt32] {
        var repairs: [UInt32: UInt32] = [:]
        for group in ssrcGroups where group.semantics == "FID" && group.ssrcs.count == 2 && group.ssrcs[0] != group.ssrcs[1] {
            repairs[group.ssrcs[1].rawValue] = group.ssrcs[0].rawValue
        }
        return repairs
    }

    /// Whether packets are encrypted (RFC 3711).
    public var isSecure: Bool { protection != .none }

    /// How packets are encrypted, and where the keys come from.
    public var protection: MediaProtection {
        if transport.contains("TLS") { return .dtls(transport: transport) }
        if !cryptos.isEmpty { return .keys(cryptos) }
        if !unsupportedSuites.isEmpty { return .unsupportedSuites(unsupportedSuites) }
        guard transport.contains("SAVP") else { return .none }
        return hasFingerprint ? .dtls(transport: transport) : .noKeys(transport: transport)
    }
}

/// How an m-line's packets are encrypted.
public enum MediaProtection: Hashable, Sendable, CustomStringConvertible {
    case none
    /// SRTP with keys in the SDP (RFC 4568), in the order of preference.
    case keys([CryptoAttribute])
    /// SRTP with `a=crypto`, of which no suite is known.
    case unsupportedSuites([String])
    /// SRTP with keys that a DTLS handshake makes (RFC 5764): a plain socket cannot take part in it.
    case dtls(transport: String)
    /// SRTP, but nothing says where the keys come from.
    case noKeys(transport: String)

    /// How a person knows it; without keys.
    public var description: String {
        switch self {
        case .none: "not encrypted"
        case .keys(let cryptos): "SRTP with a=crypto (\(cryptos.map(\.suite.rawValue).joined(separator: ", ")))"
        case .unsupportedSuites(let suites):
            "SRTP with the suite \(suites.joined(separator: ", ")), none of \(CryptoAttribute.Suite.allCases.map(\.rawValue).joined(separator: ", "))"
        case .dtls(let transport): "\(transport): SRTP with keys by DTLS"
        case .noKeys(let transport): "\(transport) without a=crypto"
        }
    }
}

extension Codec {
    private static let ofStaticTypes: [UInt8: Codec] = [
        0: Codec(name: "PCMU", clockRate: 8_000), 3: Codec(name: "GSM", clockRate: 8_000), 4: Codec(name: "G723", clockRate: 8_000),
        5: Codec(name: "DVI4", clockRate: 8_000), 6: Codec(name: "DVI4", clockRate: 16_000), 7: Codec(name: "LPC", clockRate: 8_000),
        8: Codec(name: "PCMA", clockRate: 8_000), 9: Codec(name: "G722", clockRate: 8_000), 10: Codec(name: "L16", clockRate: 44_100, channels: 2),
        11: Codec(name: "L16", clockRate: 44_100), 12: Codec(name: "QCELP", clockRate: 8_000), 13: Codec(name: "CN", clockRate: 8_000),
        14: Codec(name: "MPA", clockRate: 90_000), 15: Codec(name: "G728", clockRate: 8_000), 16: Codec(name: "DVI4", clockRate: 11_025),
        17: Codec(name: "DVI4", clockRate: 22_050), 18: Codec(name: "G729", clockRate: 8_000),
        19: Codec(name: "CN", clockRate: 8_000),  // reserved, because drafts gave it to comfort noise, as some senders still do
        25: Codec(name: "CelB", clockRate: 90_000), 26: Codec(name: "JPEG", clockRate: 90_000), 28: Codec(name: "nv", clockRate: 90_000),
        31: Codec(name: "H261", clockRate: 90_000), 32: Codec(name: "MPV", clockRate: 90_000), 33: Codec(name: "MP2T", clockRate: 90_000),
        34: Codec(name: "H263", clockRate: 90_000),
    ]

    /// What a payload type means where no `a=rtpmap` says otherwise (RFC 3551 section 6).
    public static func ofStaticPayloadType(_ number: UInt8) -> Codec? { ofStaticTypes[number] }
}
