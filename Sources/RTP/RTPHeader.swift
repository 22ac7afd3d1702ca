/// Why bytes are no RTP or RTCP packet.
public enum RTPError: Error, Hashable, Sendable {
    case truncated(needed: Int, available: Int)
    case badVersion(UInt8)
    case badPadding(Int)
}

/// The fixed header of an RTP packet, its extension and where its payload lies (RFC 3550 section 5.1).
public struct RTPHeader: Hashable, Sendable {
    public static let fixedBytes = 12

    public var marker: Bool
    public var payloadType: UInt8
    public var sequenceNumber: UInt16
    public var timestamp: UInt32
    public var ssrc: SSRC
    /// Without padding; may be empty.
    public var payload: Range<Int>
    public var extensionProfile: UInt16
    /// Empty where there is no extension.
    public var extensionBytes: Range<Int>

    /// Reads a header; every length is checked against the datagram.
    public init(_ bytes: UnsafeRawBufferPointer) throws(RTPError) {
        guard bytes.count >= Self.fixedBytes else { throw .truncated(needed: Self.fixedBytes, available: bytes.count) }
        guard bytes[0] >> 6 == 2 else { throw .badVersion(bytes[0] >> 6) }
        marker = bytes[1] & 0x80 != 0
        payloadType = bytes[1] & 0x7F
        sequenceNumber = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        timestamp = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        ssrc = SSRC(rawValue: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
        var offset = Self.fixedBytes + Int(bytes[0] & 0x0F) * 4
        extensionProfile = 0
        extensionBytes = offset..<offset
        if bytes[0] & 0x10 != 0 {
            guard bytes.count >= offset + 4 else { throw .truncated(needed: offset + 4, available: bytes.count) }
            extensionProfile = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            let length = Int(UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self))) * 4
            extensionBytes = offset + 4..<offset + 4 + length
            offset = extensionBytes.upperBound
        }
        guard bytes.count >= offset else { throw .truncated(needed: offset, available: bytes.count) }
        var end = bytes.count
        if bytes[0] & 0x20 != 0 {
            let padding = Int(bytes[end - 1])
            guard padding > 0, end - padding >= offset else { throw .badPadding(padding) }
            end -= padding
        }
        payload = offset..<end
    }

    /// Calls `body` with each header extension element's id and place (RFC 8285, one- and two-byte forms); other profiles have none.
    public func forEachExtension(in bytes: UnsafeRawBufferPointer, _ body: (UInt8, Range<Int>) -> Void) {
        var at = extensionBytes.lowerBound
        let end = min(extensionBytes.upperBound, bytes.count)
        switch extensionProfile {
        case 0xBEDE:
            while at < end {
                let (id, length) = (bytes[at] >> 4, Int(bytes[at] & 0x0F) + 1)
                if bytes[at] == 0 {  // padding
                    at += 1
                    continue
                }
                // Id 0 with a length, and id 15, end the list (RFC 8285 section 4.2).
                guard id != 0, id != 15, at + 1 + length <= end else { return }
                body(id, at + 1..<at + 1 + length)
                at += 1 + length
            }
        case 0x1000...0x100F:
            while at < end {
                guard bytes[at] != 0 else {
                    at += 1
                    continue
                }
                guard at + 2 <= end, at + 2 + Int(bytes[at + 1]) <= end else { return }
                body(bytes[at], at + 2..<at + 2 + Int(bytes[at + 1]))
                at += 2 + Int(bytes[at + 1])
            }
        default: return
        }
    }
}

/// What a datagram is, by its first bytes (RFC 7983, RFC 5761 section 4).
public enum DatagramClass: Hashable, Sendable {
    case rtp, rtcp, other

    public init(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 2, (128...191).contains(bytes[0]) else {
            self = .other
            return
        }
        self = (192...223).contains(bytes[1]) ? .rtcp : .rtp
    }
}
