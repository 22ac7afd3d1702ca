import Media

/// Retransmitted packets (RFC 4588): the payload begins with the sequence number of the packet that was lost.
public enum Retransmission {
    /// The header that the lost packet had: its sequence number, payload type and SSRC, and its payload behind the two bytes.
    ///
    /// `apt` is the payload type that `header`'s one repairs (``mediaTypes(of:)``), `ssrc` that of the media. Nil where there is no number in
    /// it: senders probe the path with retransmissions that hold nothing.
    public static func restored(_ header: RTPHeader, in bytes: UnsafeRawBufferPointer, apt: UInt8, ssrc: SSRC) -> RTPHeader? {
        guard header.payload.count >= 2, header.payload.upperBound <= bytes.count else { return nil }
        var restored = header
        restored.sequenceNumber = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: header.payload.lowerBound, as: UInt16.self))
        restored.payloadType = apt
        restored.ssrc = ssrc
        restored.payload = header.payload.lowerBound + 2..<header.payload.upperBound
        return restored
    }

    /// Which payload type repairs which (`a=fmtp:97 apt=96`, RFC 4588 section 8.1); what repairs a type that is not there is left out.
    public static func mediaTypes(of format: TrackFormat) -> [UInt8: UInt8] {
        var types: [UInt8: UInt8] = [:]
        for (number, codec) in format.codecs where codec.name == "rtx" {
            guard let text = format.parameters[number], let apt = FormatParameters(text)["apt"].flatMap({ UInt8($0) }), apt != number,
                  let media = format.codecs[apt], media.name != "rtx" else { continue }
            types[number] = apt
        }
        return types
    }
}
