import RTP

/// A datagram as RTCP.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeRawBufferPointer(start: start, count: count))
    let packets = bytes.withUnsafeBytes { try? RTCPPacket.parse($0) }  // an error is an answer, too
    if let packets { precondition(packets.count <= RTCPPacket.packetsMax, "there is a limit") }
    return 0
}
