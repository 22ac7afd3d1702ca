import Media

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
        // What the session says holds for every m-line that does not say otherwise (RFC 8866 section 5.13).
        var session = SessionDefaults()
        for (place, line) in lines.enumerated() {
            let number = place + 1
            guard line.count >= 2, line.dropFirst().first == "=", let type = line.first else {
                // Not shown: it may be the rest of a line with a key.
                throw SDPError(line: number, what: "it is not of the form x=value", hint: "one field a line")
            }
            let value = line.dropFirst(2)
            switch type {
            case "m":
                guard media.count < Self.mediaMax else { throw SDPError(line: number, what: "more than \(Self.mediaMax) m-lines", hint: "split it") }
                media.append(try MediaDescription(value, line: number, session: session))
            case "c":
                let words = value.split(separator: " ")
                guard words.count == 3, words[0] == "IN" else {
                    throw SDPError(line: number, what: "'c=\(SDPError.excerpt(value))' is no connection", hint: "c=IN IP4 ADDRESS")
                }
                let address = String(words[2].prefix { $0 != "/" })
                if media.isEmpty { session.address = address } else { media[media.count - 1].address = address }
            case "a" where media.isEmpty: try session.apply(attribute: value, line: number)
            case "a": try media[media.count - 1].apply(attribute: value, line: number)
            default: continue
            }
        }
        guard !media.isEmpty else { throw SDPError(line: lines.count, what: "it has no m-line", hint: "m=audio 5004 RTP/AVP 111") }
        for place in media.indices { try media[place].complete() }
    }
}

/// What stands before the first m-line.
struct SessionDefaults {
    var address: String?
    var isInactive = false
    var hasFingerprint = false
    var extensions: [UInt8: String] = [:]

    mutating func apply(attribute: Substring, line: Int) throws(SDPError) {
        switch SDPAttribute.name(attribute) {
        case "inactive": isInactive = true
        case "fingerprint": hasFingerprint = true
        case "extmap": try SDPAttribute.readExtension(attribute, line: line, into: &extensions)
        default: return
        }
    }
}

/// `name:value` of an a-line.
enum SDPAttribute {
    static func name(_ attribute: Substring) -> Substring { attribute[..<(attribute.firstIndex(of: ":") ?? attribute.endIndex)] }
    static func value(_ attribute: Substring) -> Substring { attribute[name(attribute).endIndex...].dropFirst() }

    static func readExtension(_ attribute: Substring, line: Int, into extensions: inout [UInt8: String]) throws(SDPError) {
        let words = value(attribute).split(separator: " ")
        guard words.count >= 2, let id = UInt8(words[0].prefix { $0 != "/" }), id > 0 else {
            throw SDPError(line: line, what: "'a=\(SDPError.excerpt(attribute))' is no extmap", hint: "a=extmap:1 URI")
        }
        extensions[id] = String(words[1])
    }
}
