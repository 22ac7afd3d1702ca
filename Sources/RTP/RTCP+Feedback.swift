extension RTCPPacket {
    /// Pairs of packet id and mask in one negative acknowledgement that is written: at most 17 packets each.
    public static let lostPairsMax = 256

    /// Asks a sender for a key frame: an empty receiver report and a picture loss indication (RFC 4585 section 6.3.1).
    public static func pictureLossIndication(from sender: SSRC, about media: SSRC) -> [UInt8] {
        emptyReport(sender) + [0x81, 206, 0, 2] + word(sender.rawValue) + word(media.rawValue)
    }

    /// Asks a sender for a key frame behind an empty receiver report, where it does not heed picture loss (RFC 5104 section 4.3.1).
    ///
    /// `sequenceNumber` goes up by one with each request and stays when a request is repeated.
    public static func fullIntraRequest(from sender: SSRC, about media: SSRC, sequenceNumber: UInt8) -> [UInt8] {
        // The feedback header's own media source is not used, so it is 0.
        emptyReport(sender) + [0x84, 206, 0, 4] + word(sender.rawValue) + word(0) + word(media.rawValue) + [sequenceNumber, 0, 0, 0]
    }

    /// Asks a sender to send packets again: an empty receiver report and a generic NACK (RFC 4585 section 6.2.1).
    ///
    /// `lost` is best in ascending order, over the wrap too; what needs more than ``lostPairsMax`` pairs is left out. Empty: nothing to send.
    public static func genericNACK(from sender: SSRC, about media: SSRC, lost: some Collection<UInt16>) -> [UInt8] {
        var pairs: [(first: UInt16, mask: UInt16)] = []
        for number in lost {
            if let last = pairs.last, number == last.first { continue }
            if let last = pairs.last, case let distance = number &- last.first, distance <= 16 {
                pairs[pairs.count - 1].mask |= 1 << (distance - 1)
            } else {
                guard pairs.count < lostPairsMax else { break }
                pairs.append((number, 0))
            }
        }
        guard !pairs.isEmpty else { return [] }
        return emptyReport(sender) + [0x81, 205, UInt8((pairs.count + 2) >> 8), UInt8((pairs.count + 2) & 255)] + word(sender.rawValue) + word(media.rawValue)
            + pairs.flatMap { word(UInt32($0.first) << 16 | UInt32($0.mask)) }
    }

    private static func emptyReport(_ sender: SSRC) -> [UInt8] { [0x80, 201, 0, 1] + word(sender.rawValue) }
    private static func word(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
}
