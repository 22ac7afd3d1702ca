import RTP

/// Tells which stream a packet belongs to: by port, then SSRC, MID and payload type, as the SDPs allow.
///
/// A port with one stream takes any SSRC with an announced payload type, so that a re-join needs no new SDP. A port that several streams
/// share takes announced SSRCs; others are latched to a stream by their MID (RFC 8843 section 9.2), or by a payload type that only one of
/// the streams has. What fits nowhere belongs to nobody.
public struct StreamDemultiplexer: Sendable {
    private struct Port: Sendable {
        var streams: [Int]
        var latched: [SSRC: Int] = [:]
    }

    /// SSRCs latched on one port; more are an attack or a mistake.
    static let latchedMax = 1_024

    private var rtpPorts: [UInt16: Port] = [:]
    private var rtcpPorts: [UInt16: UInt16] = [:]
    private let media: [MediaDescription]

    /// `ports` gives each stream's RTP and RTCP port, in the order of `media`.
    public init(media: [MediaDescription], ports: [(rtp: UInt16, rtcp: UInt16)]) {
        self.media = media
        for (stream, port) in ports.enumerated() {
            rtpPorts[port.rtp, default: Port(streams: [])].streams.append(stream)
            rtcpPorts[port.rtcp] = port.rtp
            for ssrc in media[stream].ssrcs { rtpPorts[port.rtp]?.latched[ssrc] = stream }
        }
    }

    /// The only stream at a port, to count what belongs to nobody in particular.
    public func streams(atPort port: UInt16) -> [Int] { rtpPorts[port]?.streams ?? rtcpPorts[port].flatMap { rtpPorts[$0]?.streams } ?? [] }

    public mutating func stream(ofRTP header: RTPHeader, in bytes: UnsafeRawBufferPointer, port: UInt16) -> Int? {
        guard let here = rtpPorts[port] else { return nil }
        if here.streams.count == 1 { return media[here.streams[0]].codecs[header.payloadType] != nil ? here.streams[0] : nil }
        if let stream = here.latched[header.ssrc] { return media[stream].codecs[header.payloadType] != nil ? stream : nil }
        let found = byMID(header, bytes, here) ?? byPayloadType(header, here)
        if let found, here.latched.count < Self.latchedMax { rtpPorts[port]?.latched[header.ssrc] = found }
        return found
    }

    public func stream(ofRTCP sender: SSRC, port: UInt16) -> Int? {
        guard let here = rtpPorts[port] ?? rtcpPorts[port].flatMap({ rtpPorts[$0] }) else { return nil }
        return here.streams.count == 1 ? here.streams[0] : here.latched[sender]
    }

    private func byMID(_ header: RTPHeader, _ bytes: UnsafeRawBufferPointer, _ port: Port) -> Int? {
        var found: Int?
        header.forEachExtension(in: bytes) { id, place in
            for stream in port.streams where media[stream].extensions[id] == mediaIdentificationURI {
                if let mid = media[stream].mid, mid.utf8.elementsEqual(bytes[place]), media[stream].codecs[header.payloadType] != nil { found = stream }
            }
        }
        return found
    }

    private func byPayloadType(_ header: RTPHeader, _ port: Port) -> Int? {
        let fitting = port.streams.filter { media[$0].codecs[header.payloadType] != nil }
        return fitting.count == 1 ? fitting[0] : nil
    }
}
