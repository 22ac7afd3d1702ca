import Media
import RTP

/// A stream that was found, as a description for `render` would name it. Whose it is, and what they allowed, nobody can find out from packets.
public struct SuggestedStream: Hashable, Sendable {
    public var port: UInt16
    /// Nil where no payload type's codec is known.
    public var kind: MediaKind?
    /// With CRLF line ends. Payload types of unknown codecs are left out; where there are no others, they stand there to be completed.
    public var sdp: String
    public var flows: [StreamFinder.Flow]
}

extension StreamFinder {
    /// One entry for each port, or for each kind at a port that several share: then the SSRCs tell them apart.
    public func suggestions() -> [SuggestedStream] {
        var groups: [(port: UInt16, kind: MediaKind?, flows: [Flow])] = []
        for flow in flows {
            let kind = kind(of: flow)
            if let place = groups.firstIndex(where: { $0.port == flow.destinationPort && $0.kind == kind }) { groups[place].flows.append(flow) } else {
                groups.append((flow.destinationPort, kind, [flow]))
            }
        }
        return groups.map { group in
            let isShared = groups.filter { $0.port == group.port }.count > 1
            return SuggestedStream(port: group.port, kind: group.kind, sdp: sdp(group.port, group.kind ?? .audio, group.flows, isShared), flows: group.flows)
        }
    }

    private func kind(of flow: Flow) -> MediaKind? {
        if let media = sessions.announced[flow.destinationPort], flow.payloads.contains(where: { $0.evidence == .announced }) { return media.type == "audio" ? .audio : .video }
        let known = flow.payloads.compactMap(\.codec)
        guard !known.isEmpty else { return nil }
        return known.contains { ["vp8", "h264", "h261", "h263", "jpeg", "mpv", "mp2t", "celb", "nv"].contains($0.name) } ? .video : .audio
    }

    private func sdp(_ port: UInt16, _ kind: MediaKind, _ flows: [Flow], _ isShared: Bool) -> String {
        let announced = sessions.announced[port]
        var codecs = announced?.codecs ?? [:]
        for payload in flows.flatMap(\.payloads) { if codecs[payload.type] == nil, let codec = payload.codec { codecs[payload.type] = codec } }
        // What was announced first comes first; then what was sent most.
        let order = (announced?.payloadTypes ?? []) + flows.flatMap(\.payloads).map(\.type)
        var types: [UInt8] = []
        for type in order where (codecs[type] != nil || codecs.isEmpty) && !types.contains(type) { types.append(type) }
        var lines = ["v=0", "m=\(kind == .audio ? "audio" : "video") \(port) \(announced?.transport ?? "RTP/AVP") \(types.map(String.init).joined(separator: " "))"]
        for type in types {
            lines.append("a=rtpmap:\(type) \(codecs[type]?.description ?? "NAME/CLOCKRATE")")
            if let parameters = announced?.formatParameters[type] { lines.append("a=fmtp:\(type) \(parameters)") }
        }
        for (id, uri) in (announced?.extensions ?? [:]).sorted(by: { $0.key < $1.key }) { lines.append("a=extmap:\(id) \(uri)") }
        if let rtcp = announced?.rtcpPort { lines.append("a=rtcp:\(rtcp)") }
        if announced?.isRTCPMuxed == true { lines.append("a=rtcp-mux") }
        // A key is not repeated where it could be read over a shoulder or end in a log: whoever has the SDP fills it in.
        for crypto in announced?.cryptos ?? [] { lines.append("a=crypto:\(crypto.tag) \(crypto.suite.rawValue) inline:KEY") }
        if isShared { for ssrc in Set(flows.map(\.ssrc.rawValue)).sorted() { lines.append("a=ssrc:\(ssrc) cname:-") } }
        return lines.joined(separator: "\r\n") + "\r\n"
    }
}
