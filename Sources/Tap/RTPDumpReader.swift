import Media

/// rtpdump as the rtptools write it: a line `#!rtpplay1.0 ADDRESS/PORT`, a header of 16 bytes, then records of length, packet length (0: RTCP)
/// and milliseconds since the start. RTP is said to go to PORT, RTCP to the one after it.
final class RTPDumpReader: CaptureReader {
    private let bytes: CaptureBytes
    private let port: UInt16
    private let source: IPAddress
    private let start: WallTime
    let saysTime: Bool
    private(set) var counts = CaptureCounts()

    init(_ bytes: CaptureBytes, start given: WallTime?) throws(CaptureFileError) {
        self.bytes = bytes
        guard let line = try bytes.line(max: 256), line.starts(with: "#!rtpplay1.0 ".utf8) else { throw bytes.error("is no rtpdump: its first line is not '#!rtpplay1.0 ADDRESS/PORT'") }
        guard let head = try bytes.take(16, begun: true) else { throw bytes.error("is cut in its header") }
        port = String(decoding: line, as: UTF8.self).split(separator: "/").last.flatMap { UInt16($0) } ?? CaptureFileReader.portWithoutPorts
        source = IPAddress(bytes: [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + head[8..<12])
        let (seconds, fraction) = (Int64(head.big32(0)), Int64(min(head.big32(4), 999_999)))
        saysTime = seconds > 0
        self.start = saysTime ? WallTime(nanoseconds: seconds * 1_000_000_000 + fraction * 1_000) : given ?? WallTime(nanoseconds: 0)
    }

    func next() throws(CaptureFileError) -> CapturedDatagram? {
        while true {
            let place = bytes.position
            guard let head = try bytes.take(8) else { return nil }
            let (length, packet) = (Int(head.big16(0)) - 8, Int(head.big16(2)))
            guard length >= 0 else { throw bytes.error("is damaged: a record of \(length + 8) bytes at byte \(place)") }
            guard let body = try bytes.take(length, begun: true) else { return nil }
            // rtpdump can be told to keep headers only.
            guard packet <= body.count else {
                counts.cut += 1
                continue
            }
            guard !body.isEmpty else {
                counts.skipped += 1
                continue
            }
            return CapturedDatagram(arrival: start + .milliseconds(Int64(head.big32(4))), source: source, sourcePort: port, destinationPort: packet == 0 ? port &+ 1 : port,
                                    payload: packet == 0 ? body : Array(body[..<packet]))
        }
    }
}
