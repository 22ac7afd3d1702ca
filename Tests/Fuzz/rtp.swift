import Media
import RTP

/// A datagram as RTP: header, extensions, and the payloads that are read from it without knowing a codec.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeRawBufferPointer(start: start, count: count))
    let reader = ExtensionReader([1: HeaderExtensionURI.audioLevel, 2: HeaderExtensionURI.mid, 3: HeaderExtensionURI.rtpStreamID, 4: HeaderExtensionURI.repairedRTPStreamID,
                                  5: HeaderExtensionURI.videoOrientation, 6: HeaderExtensionURI.absoluteCaptureTime])
    bytes.withUnsafeBytes { buffer in
        _ = DatagramClass(buffer)
        guard let header = try? RTPHeader(buffer) else { return }  // an error is an answer, too
        precondition(header.payload.lowerBound >= RTPHeader.fixedBytes && header.payload.upperBound <= buffer.count, "the payload lies in the packet")
        header.forEachExtension(in: buffer) { _, place in precondition(place.upperBound <= header.payload.lowerBound, "an extension lies before the payload") }
        _ = reader.read(header, in: buffer)
        if let restored = Retransmission.restored(header, in: buffer, apt: 96, ssrc: SSRC(rawValue: 1)) {
            precondition(restored.payload.count + 2 == header.payload.count, "a retransmission is two bytes longer")
        }
    }
    return 0
}
