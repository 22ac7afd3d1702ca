import Media
import RTP

/// Finds the session descriptions that SIP messages in a capture carry (RFC 3261 section 7, RFC 3264). Pure.
///
/// Each leg says where it wants to receive and how it will read that, so an m-line speaks for the packets that go to its port.
public struct SessionFinder: Sendable {
    static let portsMax = 1_024

    /// By destination port: what the latest description says, with the payload types of those before it.
    public private(set) var announced: [UInt16: MediaDescription] = [:]

    public init() {}

    /// Looks at a datagram; false where it is no SIP message.
    public mutating func take(_ payload: [UInt8]) -> Bool {
        guard payload.count > 16, payload.count <= SessionDescription.bytesMax, Self.isSIP(payload) else { return false }
        if let body = Self.description(payload), let session = try? SessionDescription(parsing: body) {  // what cannot be read announces nothing
            for media in session.media where media.port > 0 { announce(media) }
        }
        return true
    }

    private mutating func announce(_ media: MediaDescription) {
        guard announced[media.port] != nil || announced.count < Self.portsMax else { return }
        var media = media
        if let before = announced[media.port], before.type == media.type {
            media.codecs.merge(before.codecs) { now, _ in now }
            media.formatParameters.merge(before.formatParameters) { now, _ in now }
            media.payloadTypes += before.payloadTypes.filter { !media.payloadTypes.contains($0) }
        }
        announced[media.port] = media
    }

    /// The start line of a request ends with the version, that of a response begins with it.
    private static func isSIP(_ payload: [UInt8]) -> Bool {
        guard (65...90).contains(payload[0]) else { return false }
        let line = payload.prefix(512).prefix { $0 != 13 && $0 != 10 }
        return line.starts(with: "SIP/2.0 ".utf8) || line.suffix(8).elementsEqual(" SIP/2.0".utf8)
    }

    /// The SDP after the header fields: all of the body, or a part of it that begins with `v=0`.
    private static func description(_ payload: [UInt8]) -> String? {
        let text = String(decoding: payload, as: UTF8.self).replacing("\r\n", with: "\n")
        guard let blank = text.firstRange(of: "\n\n") else { return nil }
        let body = text[blank.upperBound...]
        guard let start = body.hasPrefix("v=0\n") ? body.startIndex : body.firstRange(of: "\nv=0\n").map({ body.index(after: $0.lowerBound) }) else { return nil }
        let description = body[start...]
        return String(description[..<(description.firstRange(of: "\n--")?.lowerBound ?? description.endIndex)])
    }
}
