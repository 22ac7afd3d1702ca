import Media

/// Janus' own recordings: one stream a file, RTP packets as they came. All numbers are big-endian.
///
/// Version 0: `MEETECHO`, a length of 5, `audio` or `video`, then frames `MEETECHO`, length, RTP. Version 1: `MJR00001`, length, JSON, frames as
/// before. Version 2: `MJR00002`, length, JSON, frames `MEET`, milliseconds since the first, length, RTP. Before version 2 no arrival times were
/// kept: there the RTP time stamps say when (see ``TimestampPace``), from the header's time on, or from `start`, or from 1970.
final class JanusReader: CaptureReader {
    static let headerBytesMax = 16 << 10

    /// Nil: a data channel, which has no packets for us.
    let track: JanusTrack?
    let saysTime: Bool
    private let bytes: CaptureBytes
    private let hasArrivals: Bool
    private let start: WallTime
    private var pace: TimestampPace
    private(set) var counts = CaptureCounts()

    init(_ bytes: CaptureBytes, start given: WallTime?) throws(CaptureFileError) {
        self.bytes = bytes
        guard let head = try bytes.take(10, begun: true) else { throw bytes.error("is cut in its header") }
        let (magic, length) = (String(decoding: head.prefix(8), as: UTF8.self), Int(head.big16(8)))
        guard ["MEETECHO", "MJR00001", "MJR00002"].contains(magic) else { throw bytes.error("is an .mjr of an unknown version, '\(magic)'") }
        guard length <= Self.headerBytesMax, let header = try bytes.take(length, begun: true) else { throw bytes.error("is cut in its header of \(length) bytes") }
        var found: JanusTrack?
        if magic == "MEETECHO" {
            switch String(decoding: header, as: UTF8.self) {
            case "audio": found = .withoutHeader(.audio)
            case "video": found = .withoutHeader(.video)
            default: throw bytes.error("is an .mjr of the first version, but neither 'audio' nor 'video'")
            }
        } else {
            switch JanusTrack.read(header) {
            case .success(let track): found = track
            case .failure(let fault): throw bytes.error(fault.what)
            }
        }
        track = found
        hasArrivals = magic == "MJR00002"
        saysTime = found?.firstFrame != nil
        start = found?.firstFrame ?? given ?? WallTime(nanoseconds: 0)
        pace = TimestampPace(start: start, clockRate: found?.codec.clockRate ?? 90_000)
    }

    func next() throws(CaptureFileError) -> CapturedDatagram? {
        let marker = hasArrivals ? "MEET" : "MEETECHO"
        while true {
            let place = bytes.position
            guard let head = try bytes.take(10) else { return nil }
            guard head.starts(with: marker.utf8) else { throw bytes.error("is damaged: no frame at byte \(place)") }
            guard let packet = try bytes.take(Int(head.big16(8)), begun: true) else { return nil }
            guard track != nil, packet.count >= 12, packet[0] >> 6 == 2 else {
                counts.skipped += 1
                continue
            }
            let arrival = hasArrivals ? start + .milliseconds(Int64(head.big32(4))) : pace.arrival(timestamp: packet.big32(4))
            return CapturedDatagram(arrival: arrival, source: IPAddress(bytes: []), sourcePort: CaptureFileReader.portWithoutPorts,
                                    destinationPort: CaptureFileReader.portWithoutPorts, payload: packet)
        }
    }
}

/// Arrival times for packets that have none: their RTP time stamps, as far as they go on. Pure.
///
/// A step of more than a minute, forward or back, is no time that passed: time stands still for that packet and goes on from it. What is a
/// little older than what came before it, came late.
struct TimestampPace: Sendable {
    private static let stepSecondsMax = 60
    private let clockRate: Int
    private let start: WallTime
    private var last: UInt32?
    /// Ticks since `start`.
    private var passed: Int64 = 0

    init(start: WallTime, clockRate: Int) { (self.start, self.clockRate) = (start, max(1, clockRate)) }

    mutating func arrival(timestamp: UInt32) -> WallTime {
        let step = Int(Int32(bitPattern: timestamp &- (last ?? timestamp)))
        if abs(step) > Self.stepSecondsMax * clockRate || last == nil { last = timestamp } else if step > 0 {
            last = timestamp
            passed &+= Int64(step)
        }
        let (seconds, rest) = passed.quotientAndRemainder(dividingBy: Int64(clockRate))
        return start + Nanoseconds(count: seconds &* 1_000_000_000 &+ rest * 1_000_000_000 / Int64(clockRate))
    }
}
