import Media

/// One UDP datagram out of a capture file.
public struct CapturedDatagram: Hashable, Sendable {
    public var arrival: WallTime
    public var source: IPAddress
    public var sourcePort: UInt16
    public var destination: IPAddress
    public var destinationPort: UInt16
    public var payload: [UInt8]

    public init(arrival: WallTime, source: IPAddress, sourcePort: UInt16, destination: IPAddress = IPAddress(bytes: []), destinationPort: UInt16, payload: [UInt8]) {
        self.arrival = arrival
        self.source = source
        self.sourcePort = sourcePort
        self.destination = destination
        self.destinationPort = destinationPort
        self.payload = payload
    }
}

/// Why a file cannot be read as a capture.
public struct CaptureFileError: Error, Hashable, Sendable, CustomStringConvertible {
    public var path: String
    public var what: String
    public var description: String { "\(path): \(what)" }
}

/// What was counted while a capture was read.
public struct CaptureCounts: Hashable, Sendable {
    /// Records that hold no UDP datagram of ours, or say no time (pcapng's simple packets).
    public var skipped = 0
    /// Packets that were captured only in part (a snap length): never used.
    public var cut = 0
    /// Fragments of datagrams that never became whole.
    public var fragments = 0

    public init() {}
}

/// One kind of capture, read datagram by datagram with memory for one packet (and for the fragments of some).
protocol CaptureReader: AnyObject {
    var counts: CaptureCounts { get }
    /// The next UDP datagram; nil at the end of the file.
    func next() throws(CaptureFileError) -> CapturedDatagram?
}

/// Reads a capture file of whatever kind, told by its first bytes: pcap, pcapng, Janus' .mjr, rtpdump.
///
/// A file of 10 GB needs no more memory than a small one. What is no UDP or was cut is skipped and counted; a file that ends in the middle of
/// a packet yields what was whole; one that is damaged throws, with the place.
public final class CaptureFileReader {
    public enum Format: String, Hashable, Sendable {
        case pcap, pcapng, mjr, rtpdump
    }

    /// The port that a file without ports (.mjr) is said to have been sent to.
    public static let portWithoutPorts: UInt16 = 5_004

    public let format: Format
    /// What an .mjr says about itself; nil for the others, and for one of a data channel.
    public let track: JanusTrack?
    /// False where the file says no time of day: then it begins at `start`, and without that in 1970.
    public let saysTime: Bool
    private let bytes: CaptureBytes
    private let reader: any CaptureReader

    /// Opens a file. `start` is the time of its first packet where it says none by itself; it is not asked otherwise.
    public init(path: String, start: WallTime? = nil) throws(CaptureFileError) {
        bytes = try CaptureBytes(path: path)
        let head = try bytes.peek(8)
        guard head.count >= 4 else { throw bytes.error("is no capture: it has fewer than 4 bytes") }
        switch head.prefix(4) {
        case [0x0A, 0x0D, 0x0D, 0x0A]:
            (format, track, saysTime) = (.pcapng, nil, true)
            reader = PcapngReader(bytes)
        case [0xA1, 0xB2, 0xC3, 0xD4], [0xD4, 0xC3, 0xB2, 0xA1], [0xA1, 0xB2, 0x3C, 0x4D], [0x4D, 0x3C, 0xB2, 0xA1]:
            (format, track, saysTime) = (.pcap, nil, true)
            reader = try PcapReader(bytes)
        case Array("#!rt".utf8)[...]:
            let dump = try RTPDumpReader(bytes, start: start)
            (format, track, saysTime) = (.rtpdump, nil, dump.saysTime)
            reader = dump
        case Array("MJR0".utf8)[...], Array("MEET".utf8)[...]:
            let janus = try JanusReader(bytes, start: start)
            (format, track, saysTime) = (.mjr, janus.track, janus.saysTime)
            reader = janus
        default: throw bytes.error("is no capture: neither pcap, pcapng, .mjr nor rtpdump")
        }
    }

    /// The next UDP datagram; nil at the end of the file.
    public func next() throws(CaptureFileError) -> CapturedDatagram? { try reader.next() }

    public var counts: CaptureCounts { reader.counts }
    public var skipped: Int { reader.counts.skipped }
    /// The file ended in the middle of a record.
    public var isTruncated: Bool { bytes.isTruncated }
    public var bytesRead: Int { bytes.position }
    public var size: Int { bytes.size }
    /// Whether packets are told apart by port. An .mjr and an rtpdump hold one stream whatever its port.
    public var hasPorts: Bool { format == .pcap || format == .pcapng }
}
