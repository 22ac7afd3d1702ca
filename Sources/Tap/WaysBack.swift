import Glibc
import RTP

/// Where a video's senders listen for feedback, learned from what they send: addresses in memory, never stored.
///
/// A sender's RTCP port is where its datagrams to our RTCP port come from, be they RTCP or only sent to open the path (Janus sends two empty
/// packets); else where its RTP comes from with `a=rtcp-mux` (RFC 5761), else the port after it (RFC 3550 section 11). Where the senders
/// were not announced, an RTCP address counts only if it is the RTP's own: nobody else can draw the feedback to themself.
struct WaysBack: Sendable {
    struct Peer: Sendable {
        var address: sockaddr_storage
        var length: socklen_t
        var ip: IPAddress
    }

    private var media: [(ssrc: SSRC, peer: Peer)] = []
    /// By our own port for RTCP; a stream has one for each of its m-lines.
    private var control: [UInt16: Peer] = [:]

    /// An RTP packet of the source passed the gate. As many sources as ``StreamHealth`` knows; the one learned first goes first.
    mutating func learn(media peer: Peer, ssrc: SSRC) {
        if let place = media.firstIndex(where: { $0.ssrc == ssrc }) {
            media[place].peer = peer
        } else {
            if media.count == StreamHealth.sourcesMax { media.removeFirst() }
            media.append((ssrc, peer))
        }
    }

    /// A datagram came to the stream's RTCP port, or its RTCP to the common one.
    mutating func learn(control peer: Peer, port: UInt16) { control[port] = peer }

    /// The address to ask a source at; nil until its first RTP packet.
    func target(_ ssrc: SSRC, rtcpPort: UInt16, isMuxed: Bool, sendersAreAnnounced: Bool) -> Peer? {
        guard var peer = media.first(where: { $0.ssrc == ssrc })?.peer else { return nil }
        if let control = control[rtcpPort], sendersAreAnnounced || control.ip == peer.ip { return control }
        if !isMuxed { Self.advancePort(&peer.address) }
        return peer
    }

    private static func advancePort(_ address: inout sockaddr_storage) {
        // The port lies at the same place in IPv4's and IPv6's form.
        withUnsafeMutableBytes(of: &address) { bytes in
            let port = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            bytes.storeBytes(of: (port == .max ? port : port + 1).bigEndian, toByteOffset: 2, as: UInt16.self)
        }
    }
}
