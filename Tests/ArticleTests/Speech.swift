import Foundation
import Glibc
import Media
import Tap
import TestSupport
import Truth

/// Four and a half seconds of a real conference in which everybody begins with a key frame and sounds their tone.
struct Speech: Sendable {
    struct Route: Hashable, Sendable {
        var letter: String
        var kind: MediaKind
        init(_ letter: String, _ kind: MediaKind) { (self.letter, self.kind) = (letter, kind) }
    }

    struct Packet: Sendable {
        /// Seconds after the first.
        var at: Double
        var route: Route
        var datagram: [UInt8]
        /// RTP without its 12-byte header.
        var payload: [UInt8] { Array(datagram.dropFirst(12)) }
    }

    static let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
    static let shared = Result { try Speech() }
    static let seconds = 10.5...15.0
    /// From where it is sent: an address that is nobody else's, so that it would be found.
    static let source = "127.0.0.77"

    let truth: CaptureTruth
    let packets: [Packet]

    private init() throws {
        truth = try CaptureTruth(capture: Self.capture)
        let routes = Dictionary(uniqueKeysWithValues: truth.streams.map { ($0.rtpPort, Route($0.participant, MediaKind(rawValue: $0.kind)!)) })
        let reader = try CaptureFileReader(path: Self.capture.path)
        var (begin, packets) = (nil as WallTime?, [Packet]())
        while let datagram = try reader.next() {
            begin = begin ?? datagram.arrival
            let at = (datagram.arrival - begin!).seconds
            if Self.seconds.contains(at), let route = routes[datagram.destinationPort] { packets.append(Packet(at: at - Self.seconds.lowerBound, route: route, datagram: datagram.payload)) }
        }
        self.packets = packets
    }

    func of(_ routes: Route...) -> [Packet] { packets.filter { routes.contains($0.route) } }
    func payloads(_ letters: String...) -> [[UInt8]] { packets.filter { letters.contains($0.route.letter) }.map(\.payload) }
    func sdp(_ route: Route) -> String { truth.streams.first { $0.participant == route.letter && $0.kind == route.kind.rawValue }!.sdp }
    func tone(_ letter: String) -> Double { truth.people[letter]!.toneHz }

    /// Sends to every place that its route leads to; `isTimed`: as the conference did, else all at once.
    static func send(_ packets: [Packet], to places: [Route: [UInt16]], isTimed: Bool = false) async throws {
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
            Thread.detachNewThread { done.resume(with: Result { try sendHere(packets, places, isTimed) }) }
        }
    }

    private static func sendHere(_ packets: [Packet], _ places: [Route: [UInt16]], _ isTimed: Bool) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(descriptor) }
        func address(_ host: String, _ port: UInt16) -> sockaddr_in {
            sockaddr_in(sin_family: sa_family_t(AF_INET), sin_port: port.bigEndian, sin_addr: in_addr(s_addr: inet_addr(host)), sin_zero: (0, 0, 0, 0, 0, 0, 0, 0))
        }
        func lend<Value>(_ address: sockaddr_in, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
            withUnsafePointer(to: address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) } }
        }
        guard lend(address(source, 0), { bind(descriptor, $0, $1) }) == 0 else { throw Client.Unexpected(description: "no socket at \(source)") }
        var begin = timespec()
        clock_gettime(CLOCK_MONOTONIC, &begin)
        for packet in packets {
            if isTimed {
                let due = Int64(begin.tv_sec) * 1_000_000_000 + Int64(begin.tv_nsec) + Int64(packet.at * 1e9)
                var wake = timespec(tv_sec: Int(due / 1_000_000_000), tv_nsec: Int(due % 1_000_000_000))
                while clock_nanosleep(CLOCK_MONOTONIC, Int32(TIMER_ABSTIME), &wake, nil) == EINTR {}
            }
            for port in places[packet.route] ?? [] {
                let sent = lend(address("127.0.0.1", port)) { sendto(descriptor, packet.datagram, packet.datagram.count, Int32(MSG_NOSIGNAL), $0, $1) }
                guard sent == packet.datagram.count else { throw Client.Unexpected(description: "a packet could not be sent: \(errno)") }
            }
        }
    }
}
