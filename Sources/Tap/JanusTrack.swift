import Foundation
import Media

/// What the header of a Janus recording (.mjr) says about its one stream.
public struct JanusTrack: Hashable, Sendable {
    public var kind: MediaKind
    public var codec: Codec
    /// `a=fmtp`, as Janus kept it.
    public var parameters: String?
    public var extensions: [UInt8: String] = [:]
    /// The payload type of redundant sound (RFC 2198), where there was any.
    public var redundancy: UInt8?
    /// When the first packet came; nil where the file does not say.
    public var firstFrame: WallTime?

    /// Recordings of before headers were of these.
    static func withoutHeader(_ kind: MediaKind) -> JanusTrack { JanusTrack(kind: kind, codec: kind == .audio ? .opus : .vp8) }

    /// The names that Janus uses, and what they are in an SDP.
    private static let codecs: [String: Codec] = [
        "opus": .opus, "pcmu": Codec(name: "PCMU", clockRate: 8_000), "pcma": Codec(name: "PCMA", clockRate: 8_000), "g722": Codec(name: "G722", clockRate: 8_000),
        "l16": Codec(name: "L16", clockRate: 16_000), "l16-48": Codec(name: "L16", clockRate: 48_000), "vp8": .vp8, "vp9": Codec(name: "VP9", clockRate: 90_000),
        "h264": Codec(name: "H264", clockRate: 90_000), "h265": Codec(name: "H265", clockRate: 90_000), "av1": Codec(name: "AV1", clockRate: 90_000),
    ]

    private struct Header: Decodable {
        var t: String?
        var c: String?
        var f: String?
        var x: [String: String]?
        var s: Int64?
        var u: Int64?
        var e: Bool?
        /// `or`: the payload type of RED.
        var redundancy: Int?
        enum CodingKeys: String, CodingKey { case t, c, f, x, s, u, e, redundancy = "or" }
    }

    /// Reads the JSON of a header. Nil: a data channel. The failure says what is wrong.
    static func read(_ json: [UInt8]) -> Result<JanusTrack?, JanusFault> {
        guard let header = try? JSONDecoder().decode(Header.self, from: Data(json)) else { return .failure(JanusFault(what: "its header is no JSON of the kind that Janus writes")) }
        guard header.e != true else {
            return .failure(JanusFault(what: "is end-to-end encrypted: only the participants have the key. Record without end-to-end encryption, or import what a participant recorded"))
        }
        guard let type = header.t, ["a", "v", "d"].contains(type) else { return .failure(JanusFault(what: "its header does not say whether it is audio or video ('t')")) }
        guard type != "d" else { return .success(nil) }
        guard let name = header.c, let codec = codecs[name.lowercased()] else {
            return .failure(JanusFault(what: header.c.map { "the codec '\($0.prefix(40))' is not known" } ?? "its header names no codec ('c')"))
        }
        var track = JanusTrack(kind: type == "a" ? .audio : .video, codec: codec, parameters: header.f.flatMap(line))
        for (id, uri) in header.x ?? [:] { if let id = UInt8(id), id > 0, let uri = line(uri), !uri.contains(" ") { track.extensions[id] = uri } }
        track.redundancy = header.redundancy.flatMap { UInt8(exactly: $0) }.flatMap { (1..<128).contains($0) ? $0 : nil }
        // Microseconds; beyond the year 2200 it is no time.
        track.firstFrame = (header.u ?? header.s).flatMap { (1..<7_300_000_000_000_000).contains($0) ? WallTime(nanoseconds: $0 * 1_000) : nil }
        return .success(track)
    }

    /// Text that can stand in one line of an SDP.
    private static func line(_ text: String) -> String? {
        let isClean = !text.isEmpty && text.utf8.count <= 1_024 && text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F }
        return isClean ? text : nil
    }

    /// The SDP that this recording does not have, for packets of `payloadType`.
    public func sessionDescription(payloadType: UInt8) -> String {
        var lines = ["v=0", "m=\(kind == .audio ? "audio" : "video") \(CaptureFileReader.portWithoutPorts) RTP/AVP \(payloadType)", "a=rtpmap:\(payloadType) \(codec.description)"]
        if let parameters { lines.append("a=fmtp:\(payloadType) \(parameters)") }
        if let redundancy, redundancy != payloadType {
            lines[1] += " \(redundancy)"
            lines.append("a=rtpmap:\(redundancy) red/\(codec.clockRate)/\(codec.channels)")
        }
        return (lines + extensions.sorted { $0.key < $1.key }.map { "a=extmap:\($0.key) \($0.value)" }).joined(separator: "\r\n") + "\r\n"
    }
}

/// What is wrong with a header.
struct JanusFault: Error { var what: String }
