/// One packet of a compound RTCP datagram (RFC 3550 section 6), as far as it matters here.
public enum RTCPPacket: Hashable, Sendable {
    case senderReport(SSRC, SenderReport)
    /// What a receiver got of each source (RFC 3550 section 6.4.2).
    case receiverReport(SSRC, [ReportBlock])
    case sourceDescription([SourceDescription])
    case goodbye([SSRC])
    /// Packets that a receiver misses (RFC 4585 section 6.2.1).
    case negativeAcknowledgement(from: SSRC, about: SSRC, lost: [UInt16])
    /// A receiver cannot show pictures until the next key frame (RFC 4585 section 6.3.1).
    case pictureLoss(from: SSRC, about: SSRC)
    /// A receiver asks for key frames (RFC 5104 section 4.3.1).
    case intraRequest(from: SSRC, [IntraRequest])
    /// A type that is not looked into.
    case other(type: UInt8)

    /// Packets of one datagram that are read; what comes behind them is left.
    public static let packetsMax = 64
    /// Sequence numbers of one negative acknowledgement that are read.
    public static let lostMax = 4_096
    /// Sources of one key-frame request that are read.
    public static let intraRequestsMax = 64

    public struct SenderReport: Hashable, Sendable {
        /// 64-bit NTP time: seconds since 1900 and fraction; 0 where the sender has no wall clock.
        public var ntp: UInt64
        public var rtpTimestamp: UInt32
        public var packets: UInt32
        public var octets: UInt32
        /// What the sender got from others.
        public var reports: [ReportBlock]

        public init(ntp: UInt64, rtpTimestamp: UInt32, packets: UInt32, octets: UInt32, reports: [ReportBlock] = []) {
            self.ntp = ntp
            self.rtpTimestamp = rtpTimestamp
            self.packets = packets
            self.octets = octets
            self.reports = reports
        }
    }

    /// Reception of one source (RFC 3550 section 6.4.1).
    public struct ReportBlock: Hashable, Sendable {
        public var source: SSRC
        /// Of 256 packets expected since the last report.
        public var fractionLost: UInt8
        /// Since the beginning; negative where duplicates outnumber losses.
        public var lost: Int32
        public var highestSequence: UInt32
        /// In units of the RTP clock.
        public var jitter: UInt32
        /// The middle 32 bits of the last sender report's NTP time; 0 where there was none.
        public var lastSenderReport: UInt32
        /// Since that report, in 1/65536 s.
        public var delaySinceSenderReport: UInt32

        public init(source: SSRC, fractionLost: UInt8, lost: Int32, highestSequence: UInt32, jitter: UInt32,
                    lastSenderReport: UInt32, delaySinceSenderReport: UInt32) {
            self.source = source
            self.fractionLost = fractionLost
            self.lost = lost
            self.highestSequence = highestSequence
            self.jitter = jitter
            self.lastSenderReport = lastSenderReport
            self.delaySinceSenderReport = delaySinceSenderReport
        }
    }

    /// Who a source is (RFC 3550 section 6.5); of its items only the name that ties a sender's streams together is kept.
    public struct SourceDescription: Hashable, Sendable {
        public var source: SSRC
        public var name: CanonicalName?

        public init(source: SSRC, name: CanonicalName?) {
            self.source = source
            self.name = name
        }
    }

    public struct IntraRequest: Hashable, Sendable {
        public var media: SSRC
        /// Counts requests: the same number again is the same request repeated.
        public var sequenceNumber: UInt8

        public init(media: SSRC, sequenceNumber: UInt8) {
            self.media = media
            self.sequenceNumber = sequenceNumber
        }
    }

    /// Reads a datagram, compound (RFC 3550 section 6.1) or of reduced size (RFC 5506); at most ``packetsMax`` packets of it.
    ///
    /// A count or length that promises more than there is refuses the whole datagram.
    public static func parse(_ bytes: UnsafeRawBufferPointer) throws(RTPError) -> [RTCPPacket] {
        var packets: [RTCPPacket] = []
        var at = 0
        while at < bytes.count, packets.count < packetsMax {
            guard bytes.count - at >= 4 else { throw .truncated(needed: at + 4, available: bytes.count) }
            guard bytes[at] >> 6 == 2 else { throw .badVersion(bytes[at] >> 6) }
            let length = (Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])) * 4 + 4
            guard bytes.count - at >= length else { throw .truncated(needed: at + length, available: bytes.count) }
            var end = at + length
            if bytes[at] & 0x20 != 0 {
                let padding = Int(bytes[end - 1])
                guard padding > 0, padding % 4 == 0, padding <= length - 4 else { throw .badPadding(padding) }
                end -= padding
            }
            packets.append(try RTCPBody(bytes: bytes, start: at, end: end).packet())
            at += length
        }
        return packets
    }
}

/// A sender's canonical name (RFC 3550 section 6.5.1): streams that share it share a clock.
///
/// It may name a person or an address, so it does not print: compare it, never log it.
public struct CanonicalName: RawRepresentable, Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public var description: String { "CNAME" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// One packet's bytes, without its padding.
private struct RTCPBody {
    let bytes: UnsafeRawBufferPointer
    let start: Int
    let end: Int

    /// The five bits after version and padding: a count or a format.
    private var count: Int { Int(bytes[start] & 31) }
    private var type: UInt8 { bytes[start + 1] }

    private func word(_ offset: Int) -> UInt32 { UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: start + offset, as: UInt32.self)) }
    private func ssrc(_ offset: Int) -> SSRC { SSRC(rawValue: word(offset)) }
    private func need(_ length: Int) throws(RTPError) {
        guard end - start >= length else { throw .truncated(needed: start + length, available: end) }
    }

    func packet() throws(RTPError) -> RTCPPacket {
        switch (type, count) {
        case (200, _):
            try need(28 + 24 * count)
            let report = RTCPPacket.SenderReport(ntp: UInt64(word(8)) << 32 | UInt64(word(12)), rtpTimestamp: word(16), packets: word(20), octets: word(24),
                                                 reports: reports(at: 28))
            return .senderReport(ssrc(4), report)
        case (201, _):
            try need(8 + 24 * count)
            return .receiverReport(ssrc(4), reports(at: 8))
        case (202, _): return .sourceDescription(try descriptions())
        case (203, _):
            try need(4 + 4 * count)
            return .goodbye((0..<count).map { ssrc(4 + 4 * $0) })
        case (205, 1):
            try need(12)
            return .negativeAcknowledgement(from: ssrc(4), about: ssrc(8), lost: lost())
        case (206, 1):
            try need(12)
            return .pictureLoss(from: ssrc(4), about: ssrc(8))
        case (206, 4):
            try need(12)
            let entries = min((end - start - 12) / 8, RTCPPacket.intraRequestsMax)
            return .intraRequest(from: ssrc(4), (0..<entries).map { .init(media: ssrc(12 + 8 * $0), sequenceNumber: bytes[start + 16 + 8 * $0]) })
        default: return .other(type: type)
        }
    }

    private func reports(at offset: Int) -> [RTCPPacket.ReportBlock] {
        (0..<count).map { place in
            let at = offset + 24 * place
            let lost = Int32(bitPattern: word(at + 4) << 8) >> 8  // 24 bits with a sign
            return .init(source: ssrc(at), fractionLost: bytes[start + at + 4], lost: lost, highestSequence: word(at + 8), jitter: word(at + 12),
                         lastSenderReport: word(at + 16), delaySinceSenderReport: word(at + 20))
        }
    }

    private func descriptions() throws(RTPError) -> [RTCPPacket.SourceDescription] {
        var found: [RTCPPacket.SourceDescription] = []
        var offset = 4
        for _ in 0..<count {
            try need(offset + 4)
            var chunk = RTCPPacket.SourceDescription(source: ssrc(offset), name: nil)
            offset += 4
            // Items up to a null byte; the chunk is filled up to a multiple of 32 bits. A last chunk may lack the null byte.
            while start + offset < end, bytes[start + offset] != 0 {
                try need(offset + 2)
                let length = Int(bytes[start + offset + 1])
                try need(offset + 2 + length)
                if bytes[start + offset] == 1, chunk.name == nil {
                    let text = bytes[start + offset + 2..<start + offset + 2 + length]
                    chunk.name = CanonicalName(rawValue: String(decoding: text, as: UTF8.self))
                }
                offset += 2 + length
            }
            offset += 4 - offset % 4
            found.append(chunk)
        }
        return found
    }

    private func lost() -> [UInt16] {
        var lost: [UInt16] = []
        for offset in stride(from: 12, through: end - start - 4, by: 4) where lost.count < RTCPPacket.lostMax {
            let (first, mask) = (UInt16(word(offset) >> 16), UInt16(truncatingIfNeeded: word(offset)))
            lost.append(first)
            for bit in 0..<16 as Range<UInt16> where mask >> bit & 1 == 1 && lost.count < RTCPPacket.lostMax { lost.append(first &+ bit &+ 1) }
        }
        return lost
    }
}
