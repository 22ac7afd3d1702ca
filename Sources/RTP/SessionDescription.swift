import Media

/// A fault in an SDP, with its line counted from 1.
public struct SDPError: Error, Hashable, Sendable, CustomStringConvertible {
    public var line: Int
    public var what: String
    public var hint: String

    public var description: String { "SDP line \(line): \(what); \(hint)" }
}

/// A session description (RFC 8866), as far as recording needs it.
public struct SessionDescription: Hashable, Sendable {
    public static let bytesMax = 64 << 10
    public static let mediaMax = 64
    public static let linesMax = 1_024

    public var media: [MediaDescription] = []

    /// Reads an SDP with CRLF or LF line ends.
    public init(parsing text: String) throws(SDPError) {
        guard text.utf8.count <= Self.bytesMax else { throw SDPError(line: 0, what: "it is longer than \(Self.bytesMax) bytes", hint: "send one m-line") }
        let lines = text.split(whereSeparator: \.isNewline)
        guard lines.count <= Self.linesMax else { throw SDPError(line: 0, what: "it has more than \(Self.linesMax) lines", hint: "send one m-line") }
        guard lines.first == "v=0" else { throw SDPError(line: 1, what: "it does not begin with v=0", hint: "see RFC 8866 section 5.1") }
        var sessionAddress: String?
        for (place, line) in lines.enumerated() {
            let number = place + 1
            guard line.count >= 2, line.dropFirst().first == "=", let type = line.first else {
                throw SDPError(line: number, what: "'\(line.prefix(40))' is not of the form x=value", hint: "one field a line")
            }
            let value = line.dropFirst(2)
            switch type {
            case "m":
                guard media.count < Self.mediaMax else { throw SDPError(line: number, what: "more than \(Self.mediaMax) m-lines", hint: "split it") }
                media.append(try MediaDescription(value, line: number, address: sessionAddress))
            case "c":
                let words = value.split(separator: " ")
                guard words.count == 3, words[0] == "IN" else { throw SDPError(line: number, what: "'c=\(value)' is no connection", hint: "c=IN IP4 ADDRESS") }
                let address = String(words[2].prefix { $0 != "/" })
                if media.isEmpty { sessionAddress = address } else { media[media.count - 1].address = address }
            case "a" where !media.isEmpty: try media[media.count - 1].apply(attribute: value, line: number)
            default: continue
            }
        }
        guard !media.isEmpty else { throw SDPError(line: lines.count, what: "it has no m-line", hint: "m=audio 5004 RTP/AVP 111") }
        for place in media.indices { try media[place].complete() }
    }
}

/// One m-line of an SDP with its attributes.
public struct MediaDescription: Hashable, Sendable {
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
    public var payloadTypes: [UInt8] = []
    public var codecs: [UInt8: Codec] = [:]
    public var formatParameters: [UInt8: String] = [:]
    /// `a=extmap` (RFC 8285).
    public var extensions: [UInt8: String] = [:]
    /// `a=crypto` values (RFC 4568), raw.
    public var cryptos: [String] = []
    private let line: Int

    init(_ value: Substring, line: Int, address: String?) throws(SDPError) {
        let words = value.split(separator: " ")
        guard words.count >= 4, let port = UInt16(words[1].prefix { $0 != "/" }) else {
            throw SDPError(line: line, what: "'m=\(value.prefix(60))' is no media line", hint: "m=audio 5004 RTP/AVP 111")
        }
        guard words[2].contains("RTP/") else {
            throw SDPError(line: line, what: "the transport '\(words[2])' is not RTP", hint: "RTP/AVP, RTP/AVPF, RTP/SAVP or RTP/SAVPF")
        }
        (type, self.port, transport, self.address, self.line) = (String(words[0]), port, String(words[2]), address, line)
        for word in words[3...] {
            guard let number = UInt8(word), number < 128 else { throw SDPError(line: line, what: "'\(word)' is no payload type", hint: "0 to 127") }
            payloadTypes.append(number)
        }
    }

    mutating func apply(attribute: Substring, line: Int) throws(SDPError) {
        let colon = attribute.firstIndex(of: ":") ?? attribute.endIndex
        let value = attribute[colon...].dropFirst()
        switch attribute[..<colon] {
        case "rtpmap":
            let words = value.split(separator: " ", maxSplits: 1)
            let parts = words.count == 2 ? words[1].split(separator: "/") : []
            guard let number = words.first.flatMap({ UInt8($0) }), number < 128, parts.count >= 2, let rate = Int(parts[1]), (1...1_000_000).contains(rate) else {
                throw SDPError(line: line, what: "'a=\(attribute.prefix(60))' is no rtpmap", hint: "a=rtpmap:111 opus/48000/2")
            }
            let channels = parts.count > 2 ? Int(parts[2]) ?? 0 : 1
            guard (1...8).contains(channels) else { throw SDPError(line: line, what: "\(parts[2]) channels", hint: "1 to 8") }
            codecs[number] = Codec(name: String(parts[0]), clockRate: rate, channels: channels)
        case "fmtp":
            let words = value.split(separator: " ", maxSplits: 1)
            if words.count == 2, let number = UInt8(words[0]) { formatParameters[number] = String(words[1]) }
        case "extmap":
            let words = value.split(separator: " ")
            guard words.count >= 2, let id = UInt8(words[0].prefix { $0 != "/" }), id > 0 else {
                throw SDPError(line: line, what: "'a=\(attribute.prefix(60))' is no extmap", hint: "a=extmap:1 URI")
            }
            extensions[id] = String(words[1])
        case "rtcp": rtcpPort = value.split(separator: " ").first.flatMap { UInt16($0) }
        case "rtcp-mux": isRTCPMuxed = true
        case "mid": mid = String(value)
        case "ssrc":
            if let id = value.split(separator: " ").first.flatMap({ UInt32($0) }), !ssrcs.contains(SSRC(rawValue: id)), ssrcs.count < 64 {
                ssrcs.append(SSRC(rawValue: id))
            }
        case "crypto": if cryptos.count < 16 { cryptos.append(String(value)) }
        default: return
        }
    }

    /// Static payload types of RFC 3551 section 6, where no rtpmap says otherwise.
    private static let staticCodecs: [UInt8: Codec] = [
        0: Codec(name: "PCMU", clockRate: 8_000), 8: Codec(name: "PCMA", clockRate: 8_000), 9: Codec(name: "G722", clockRate: 8_000),
        10: Codec(name: "L16", clockRate: 44_100, channels: 2), 11: Codec(name: "L16", clockRate: 44_100), 13: Codec(name: "CN", clockRate: 8_000),
    ]

    mutating func complete() throws(SDPError) {
        for number in payloadTypes where codecs[number] == nil {
            guard let known = Self.staticCodecs[number] else {
                throw SDPError(line: line, what: "payload type \(number) has no a=rtpmap", hint: "a=rtpmap:\(number) NAME/CLOCKRATE")
            }
            codecs[number] = known
        }
        codecs = codecs.filter { payloadTypes.contains($0.key) }
    }

    /// What a track's stages need to read its packets.
    public func trackFormat(kind: MediaKind) -> TrackFormat { TrackFormat(kind: kind, codecs: codecs, extensions: extensions) }

    /// Whether packets are encrypted (RFC 3711).
    public var isSecure: Bool { transport.contains("SAVP") || !cryptos.isEmpty }
}
