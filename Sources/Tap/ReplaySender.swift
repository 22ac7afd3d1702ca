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

    /// One flow of the capture.
    private struct Flow: Hashable {
        var source: IPAddress
        var sourcePort: UInt16
        var destinationPort: UInt16
    }

    /// Nanoseconds after the first packet at which the last one may be due: three years.
    private static let laterMax = 1e17
    /// Longest sleep without a look at `isCancelled`.
    private static let napNanoseconds: Int64 = 100_000_000

    /// Sends everything; `progress` is called about ten times a second with the share of the file and the packets sent so far.
    /// Ends early, with what was sent until then, once `isCancelled` says so; it is asked at least ten times a second.
    public func run(_ reader: CaptureFileReader, isCancelled: () -> Bool = { false }, started: (Double) -> Void, progress: (Double, Int) -> Void) throws -> Report {
        var report = Report()
        var sockets: [Flow: Int32] = [:]
        defer { for socket in sockets.values { close(socket) } }
        var origin: (media: WallTime, monotonic: Int64)?
        var told: Int64 = 0
        /// Reports now and then; false once it is to end.
        func goesOn(_ now: Int64) -> Bool {
            guard now - told >= Self.napNanoseconds else { return true }
            told = now
            progress(Double(reader.bytesRead) / Double(max(reader.size, 1)), report.sent)
            return !isCancelled()
        }
        sending: while let datagram = try reader.next() {
            guard let target = map[datagram.destinationPort] else { continue }
            if origin == nil {
                let begin = (datagram.arrival, Self.clock(CLOCK_MONOTONIC))
                origin = begin
                report.shift = Double(Self.clock(CLOCK_REALTIME) - datagram.arrival.nanoseconds) / 1e9
                started(report.shift)
            }
            guard let origin else { continue }
            // A time that jumps by years waits for the end of the run, not for an overflow.
            let due = origin.monotonic + Int64(min(max(Double((datagram.arrival - origin.media).count) / speed, 0), Self.laterMax))
            var now = Self.clock(CLOCK_MONOTONIC)
            while now < due {
                let until = min(due, now + Self.napNanoseconds)
                var wake = timespec(tv_sec: Int(until / 1_000_000_000), tv_nsec: Int(until % 1_000_000_000))
                while clock_nanosleep(CLOCK_MONOTONIC, Int32(TIMER_ABSTIME), &wake, nil) == EINTR {}
                now = Self.clock(CLOCK_MONOTONIC)
                guard goesOn(now) else { break sending }
            }
            // One socket per original source and destination, so that a re-join looks like one.
            let key = Flow(source: datagram.source, sourcePort: datagram.sourcePort, destinationPort: datagram.destinationPort)
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
            guard goesOn(now) else { break }
        }
        progress(Double(reader.bytesRead) / Double(max(reader.size, 1)), report.sent)
        return report
    }

    private static func connect(_ target: Target) throws -> Int32 {
        var storage = sockaddr_storage()
        let length = clinux_socket_address(target.address, target.port, &storage)
        guard length > 0 else { throw TapError(what: "'\(target.address)' is no numeric IP address") }
        let descriptor = socket(Int32(storage.ss_family), Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let connected = withUnsafePointer(to: &storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, length) } }
        guard descriptor >= 0, connected == 0 else {
            let why = String(cString: strerror(errno))
            if descriptor >= 0 { close(descriptor) }
            throw TapError(what: "no socket to \(target.address):\(target.port): \(why)")
        }
        return descriptor
    }

    private static func clock(_ id: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(id, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
