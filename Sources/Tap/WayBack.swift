import Glibc
import RTP

/// Where a video's sender listens for feedback, learned from what it sends: addresses in memory, never stored.
///
/// Its RTCP port is where its datagrams to our RTCP port come from, be they RTCP or only sent to open the path (Janus sends two empty
/// packets); else where its RTP comes from with `a=rtcp-mux` (RFC 5761), else the port after it (RFC 3550 section 11). Where the senders
/// were not announced, an RTCP address counts only if it is the RTP's own: nobody else can draw the feedback to themself.
struct WayBack: Sendable {
    struct Peer: Sendable {
        var address: sockaddr_storage
        var length: socklen_t
        var ip: IPAddress
    }

    private(set) var ssrc = SSRC(rawValue: 0)
    private var media: Peer?
    private var control: Peer?

    /// An RTP packet of the stream passed the gate.
    mutating func learn(media peer: Peer, ssrc: SSRC) { (media, self.ssrc) = (peer, ssrc) }

    /// A datagram came to the stream's RTCP port, or its RTCP to the common one.
    mutating func learn(control peer: Peer) { control = peer }

    /// The address to ask at; nil until the first RTP packet.
    func target(isMuxed: Bool, sendersAreAnnounced: Bool) -> Peer? {
        guard var media else { return nil }
        if let control, sendersAreAnnounced || control.ip == media.ip { return control }
        if !isMuxed { Self.advancePort(&media.address) }
        return media
    }

    private static func advancePort(_ address: inout sockaddr_storage) {
        // The port lies at the same place in IPv4's and IPv6's form.
        withUnsafeMutableBytes(of: &address) { bytes in
            let port = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            bytes.storeBytes(of: (port == .max ? port : port + 1).bigEndian, toByteOffset: 2, as: UInt16.self)
        }
    }
}
