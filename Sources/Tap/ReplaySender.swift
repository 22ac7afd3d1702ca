import CLinux
import Glibc
import Media

/// Sends a capture's UDP payloads to other ports at their original timing: a stand-in for the conference that was captured. Blocks.
public struct ReplaySender {
    public struct Target: Hashable, Sendable {
        public var address: String
        public var port: UInt16
        public init(address: String, port: UInt16) {
            self.address = address
            self.port = port
        }
    }

    public struct Report: Hashable, Sendable {
        public var sent = 0
        public var failed = 0
        /// What was added to the capture's times, in seconds, by sending it later.
        public var shift = 0.0
    }

    /// Captured destination port to where its packets go; others are left out.
    public var map: [UInt16: Target]
    /// 1 is the original timing.
    public var speed: Double

    public init(map: [UInt16: Target], speed: Double = 1) {
        self.map = map
        self.speed = speed
    }

    /// Sends everything; `progress` is called about ten times a second with the share of the file and the packets sent so far.
    public func run(_ reader: CaptureFileReader, started: (Double) -> Void, progress: (Double, Int) -> Void) throws -> Report {
        var report = Report()
        var sockets: [UInt32: Int32] = [:]
        defer { for socket in sockets.values { close(socket) } }
        var origin: (media: WallTime, monotonic: Int64)?
        var told: Int64 = 0
        while let datagram = try reader.next() {
            guard let target = map[datagram.destinationPort] else { continue }
            if origin == nil {
                let begin = (datagram.arrival, Self.clock(CLOCK_MONOTONIC))
                origin = begin
                report.shift = Double(Self.clock(CLOCK_REALTIME) - datagram.arrival.nanoseconds) / 1e9
                started(report.shift)
            }
            guard let origin else { continue }
            let due = origin.monotonic + Int64(Double((datagram.arrival - origin.media).count) / speed)
            var until = timespec(tv_sec: Int(due / 1_000_000_000), tv_nsec: Int(due % 1_000_000_000))
            if due > Self.clock(CLOCK_MONOTONIC) { while clock_nanosleep(CLOCK_MONOTONIC, Int32(TIMER_ABSTIME), &until, nil) == EINTR {} }
            // One socket per original source and destination, so that a re-join looks like one.
            let key = UInt32(datagram.sourcePort) << 16 | UInt32(datagram.destinationPort)
            let socket: Int32
            if let known = sockets[key] {
                socket = known
            } else {
                guard sockets.count < 4_096 else { continue }
                socket = try Self.connect(target)
                sockets[key] = socket
            }
            let count = send(socket, datagram.payload, datagram.payload.count, Int32(MSG_NOSIGNAL))
            if count == datagram.payload.count { report.sent += 1 } else { report.failed += 1 }
            let now = Self.clock(CLOCK_MONOTONIC)
            if now - told > 100_000_000 {
                told = now
                progress(Double(reader.bytesRead) / Double(max(reader.size, 1)), report.sent)
            }
        }
        progress(1, report.sent)
        return report
    }

    private static func connect(_ target: Target) throws -> Int32 {
        var storage = sockaddr_storage()
        let length = clinux_socket_address(target.address, target.port, &storage)
        guard length > 0 else { throw TapError(what: "'\(target.address)' is no numeric IP address") }
        let descriptor = socket(Int32(storage.ss_family), Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let connected = withUnsafePointer(to: &storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, length) } }
        guard descriptor >= 0, connected == 0 else { throw TapError(what: "no socket to \(target.address):\(target.port): \(String(cString: strerror(errno)))") }
        return descriptor
    }

    private static func clock(_ id: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(id, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
