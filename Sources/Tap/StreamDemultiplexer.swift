import Media
import RTP

/// Tells which stream a packet belongs to: by port, then MID, SSRC and payload type, as the SDPs allow.
///
/// A port with one stream takes any SSRC with an announced payload type, so that a re-join needs no new SDP. At a port that several streams
/// share, in this order: a MID decides (RFC 8843 section 9.2), and one that names no stream, or contradicts an announced SSRC, leaves the
/// packet to nobody; then announced SSRCs and those that a MID or payload type was seen with; then a payload type that one stream alone
/// has, if that stream announced no SSRCs. What fits nowhere belongs to nobody: a wrong guess would keep what nobody consented to.
///
/// A stream may have several m-lines, layers of one picture each at a port of its own. Retransmissions (`rtx` in the m-line, their SSRCs in an
/// FID group) and layers at one port (RIDs) are the stream's as well.
public struct StreamDemultiplexer: Sendable {
    private struct Port: Sendable {
        var streams: [Int] = []
        /// What the SDPs say; never changed by packets.
        var announced: [SSRC: Int] = [:]
        /// What packets said; nil: another m-line's.
        var latched: [SSRC: Int?] = [:]
    }

    private enum Named {
        case stream(Int), stranger, nothing
    }

    /// The payload types of one stream, one bit each.
    private struct PayloadTypes: Sendable {
        private var low: UInt64 = 0
        private var high: UInt64 = 0

        init(_ types: some Sequence<UInt8>) {
            for type in types { if type < 64 { low |= 1 << UInt64(type) } else { high |= 1 << UInt64(type & 63) } }
        }

        func contains(_ type: UInt8) -> Bool { (type < 64 ? low : high) & 1 << UInt64(type & 63) != 0 }
    }

    /// SSRCs latched on one port; more are an attack or a mistake.
    static let latchedMax = 1_024

    private var ports: [Port] = []
    private var rtpPorts: [UInt16: Int] = [:]
    private var rtcpPorts: [UInt16: Int] = [:]
    private let payloadTypes: [PayloadTypes]
    /// Of each stream: the header extension ids for a MID, its m-lines' MIDs, and whether any of them names SSRCs.
    private let midExtensions: [Set<UInt8>]
    private let mids: [[String]]
    private let announcesSources: [Bool]

    /// `media` has each stream's m-lines, `ports` their RTP and RTCP ports in the same order.
    public init(media: [[MediaDescription]], ports: [[(rtp: UInt16, rtcp: UInt16)]]) {
        payloadTypes = media.map { PayloadTypes($0.flatMap(\.codecs.keys)) }
        midExtensions = media.map { Set($0.flatMap { $0.extensions.filter { $0.value == mediaIdentificationURI }.keys }) }
        mids = media.map { $0.compactMap(\.mid) }
        announcesSources = media.map { $0.contains { !$0.ssrcs.isEmpty } }
        for (stream, own) in ports.enumerated() {
            for (layer, port) in own.enumerated() {
                let place = rtpPorts[port.rtp] ?? self.ports.count
                if place == self.ports.count { self.ports.append(Port()) }
                rtpPorts[port.rtp] = place
                rtcpPorts[port.rtcp] = place
                if !self.ports[place].streams.contains(stream) { self.ports[place].streams.append(stream) }
                let repairs = media[stream][layer].trackFormat(kind: .video).repairs.keys.map { SSRC(rawValue: $0) }
                for ssrc in media[stream][layer].ssrcs + (media[stream][layer].ssrcs.isEmpty ? [] : repairs) { self.ports[place].announced[ssrc] = stream }
            }
        }
    }

    /// Streams with one m-line each.
    public init(media: [MediaDescription], ports: [(rtp: UInt16, rtcp: UInt16)]) { self.init(media: media.map { [$0] }, ports: ports.map { [$0] }) }

    /// The streams at an RTP or RTCP port.
    public func streams(atPort port: UInt16) -> [Int] { place(port).map { ports[$0].streams } ?? [] }

    /// The streams whose RTP comes in at `port`.
    func streams(atRTPPort port: UInt16) -> [Int] { rtpPorts[port].map { ports[$0].streams } ?? [] }

    /// The streams whose RTCP comes in at `port`, alone or beside their RTP.
    func streams(atRTCPPort port: UInt16) -> [Int] { rtcpPorts[port].map { ports[$0].streams } ?? [] }

    public mutating func stream(ofRTP header: RTPHeader, in bytes: UnsafeRawBufferPointer, port: UInt16) -> Int? {
        guard let place = rtpPorts[port] else { return nil }
        if ports[place].streams.count == 1 { return accepting(ports[place].streams[0], header) }
        let announced = ports[place].announced[header.ssrc]
        switch named(header, bytes, place) {
        case .stream(let stream):
            if let announced { return announced == stream ? accepting(stream, header) : nil }
            latch(header.ssrc, stream, place)
            return accepting(stream, header)
        case .stranger:
            if announced == nil { latch(header.ssrc, nil, place) }
            return nil
        case .nothing:
            if let announced { return accepting(announced, header) }
            if let known = ports[place].latched[header.ssrc] { return known.flatMap { accepting($0, header) } }
            let found = byPayloadType(header, place)
            if let found { latch(header.ssrc, found, place) }
            return found
        }
    }

    public func stream(ofRTCP sender: SSRC, port: UInt16) -> Int? {
        guard let place = place(port) else { return nil }
        if ports[place].streams.count == 1 { return ports[place].streams[0] }
        return ports[place].announced[sender] ?? ports[place].latched[sender] ?? nil
    }

    private func place(_ port: UInt16) -> Int? { rtpPorts[port] ?? rtcpPorts[port] }

    private func accepting(_ stream: Int, _ header: RTPHeader) -> Int? { payloadTypes[stream].contains(header.payloadType) ? stream : nil }

    private mutating func latch(_ ssrc: SSRC, _ stream: Int?, _ place: Int) {
        guard ports[place].latched.count < Self.latchedMax || ports[place].latched[ssrc] != nil else { return }
        ports[place].latched.updateValue(stream, forKey: ssrc)
    }

    /// Whom a packet's MID names. A MID is a stranger's only where every stream that could carry one has said its own.
    private func named(_ header: RTPHeader, _ bytes: UnsafeRawBufferPointer, _ place: Int) -> Named {
        var named = Named.nothing
        header.forEachExtension(in: bytes) { id, range in
            var isStranger = false
            for stream in ports[place].streams where midExtensions[stream].contains(id) {
                guard !mids[stream].isEmpty else {
                    isStranger = false
                    break
                }
                if mids[stream].contains(where: { $0.utf8.elementsEqual(bytes[range]) }) {
                    named = .stream(stream)
                    return
                }
                isStranger = true
            }
            if isStranger { named = .stranger }
        }
        return named
    }

    private func byPayloadType(_ header: RTPHeader, _ place: Int) -> Int? {
        var found: Int?
        for stream in ports[place].streams where payloadTypes[stream].contains(header.payloadType) {
            guard found == nil else { return nil }
            found = stream
        }
        return found.flatMap { announcesSources[$0] ? nil : $0 }
    }
}
