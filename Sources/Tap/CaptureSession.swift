import CLinux
import Foundation
import Glibc
import Media
import PacketLog
import RTP
import SealedFile
import Synchronization

/// Where a stream's packets are to be sent.
public struct TapEndpoint: Hashable, Sendable {
    public var address: String
    public var rtpPort: UInt16
    public var rtcpPort: UInt16

    public init(address: String, rtpPort: UInt16, rtcpPort: UInt16) {
        self.address = address
        self.rtpPort = rtpPort
        self.rtcpPort = rtcpPort
    }
}

/// Why a tap could not be opened.
public struct TapError: Error, Hashable, Sendable, CustomStringConvertible {
    public var what: String
    public var hint: String?
    public var description: String { hint.map { "\(what); \($0)" } ?? what }
}

/// How a tap is opened.
public struct TapOptions: Sendable {
    /// Numeric address to listen at.
    public var address = "127.0.0.1"
    /// Ports to take from; nil: any free ones.
    public var ports: ClosedRange<UInt16>?
    /// Asked of the kernel for each socket.
    public var receiveBufferBytes = 8 << 20
    /// Addresses that may send; empty: any.
    public var allowedSources: [String] = []
    /// Ports that streams had before a restart.
    public var fixedPorts: [StreamID: TapEndpoint] = [:]
    public init() {}
}

/// The live capture of one recording: its sockets, a thread that receives and decides, and a thread that seals and writes.
///
/// One lock guards ``CaptureCore``; the receiving thread holds it for a batch of at most 64 datagrams. So when ``setGate(_:stream:at:)``
/// returns, every packet that was not yet decided on falls under the new state.
///
/// Proof of Sendable: all mutable state lies in the two mutexes; the sockets are closed only after both threads have ended.
public final class CaptureSession: Sendable {
    private struct Socket: Sendable {
        var descriptor: Int32
        var port: UInt16
    }

    private struct WayBack: Sendable {
        var address = sockaddr_storage()
        var length: socklen_t = 0
        var ssrc = SSRC(rawValue: 0)
        var isFromRTCP = false
    }

    private struct Shared: Sendable {
        var core: CaptureCore
        var waysBack: [WayBack]
        var requests: [KeyFrameRequests]
        var storageError: String?
    }

    /// Longest time that the writer waits before it writes, and between two syncs.
    static let writeIntervalMs = 200
    static let syncEvery = 4

    public let endpoints: [TapEndpoint]
    private let streams: [TapStream]
    private let checksSources: Bool
    private let sockets: [Socket]
    private let shared: Mutex<Shared>
    private let isStopping = Atomic(false)
    private let receiverEnded = DispatchSemaphore(value: 0)
    private let writerEnded = DispatchSemaphore(value: 0)

    /// Binds the sockets and starts the threads; every gate is closed.
    public init(streams: [TapStream], options: TapOptions) throws(TapError) {
        var sockets: [Socket] = []
        func undo() { for socket in sockets { close(socket.descriptor) } }
        var allowed: [IPAddress] = []
        for source in options.allowedSources {
            guard let address = IPAddress(source) else { throw TapError(what: "'\(source)' is no IP address", hint: "numeric, such as 192.0.2.7") }
            allowed.append(address)
        }
        // Streams whose SDPs name the same port share one, and are told apart by SSRC, MID or payload type.
        var pairs: [UInt16: (rtp: UInt16, rtcp: UInt16)] = [:]
        var ports: [(rtp: UInt16, rtcp: UInt16)] = []
        for (place, stream) in streams.enumerated() {
            let key = stream.media.port == 0 ? UInt16(truncatingIfNeeded: place) : stream.media.port
            if let pair = pairs[key], stream.media.port != 0 {
                ports.append(pair)
                continue
            }
            do throws(TapError) {
                let pair = if let before = options.fixedPorts[stream.id] { try Self.bind(again: before, options) } else { try Self.bind(muxed: stream.media.isRTCPMuxed, options) }
                sockets += pair
                ports.append((pair[0].port, pair[pair.count - 1].port))
                pairs[key] = ports[ports.count - 1]
            } catch {
                undo()
                throw error
            }
        }
        self.streams = streams
        checksSources = !allowed.isEmpty
        self.sockets = sockets
        endpoints = ports.map { TapEndpoint(address: options.address, rtpPort: $0.rtp, rtcpPort: $0.rtcp) }
        var core = CaptureCore(media: streams.map(\.media), ports: ports, allowed: allowed)
        for socket in sockets { core.note(kernelDrops: 0, receiveBufferBytes: Int(clinux_receive_buffer(socket.descriptor)), port: socket.port) }
        shared = Mutex(Shared(core: core, waysBack: Array(repeating: WayBack(), count: streams.count),
                              requests: Array(repeating: KeyFrameRequests(), count: streams.count)))
        let writers: TrackWriters
        do {
            writers = try TrackWriters(streams)
        } catch {
            undo()
            throw TapError(what: "the packet logs cannot be opened: \(error)", hint: "check the data folder's rights and free space")
        }
        start("tap-receive") { $0.receive() }
        nonisolated(unsafe) let owned = writers  // handed to the writing thread, which alone uses it
        start("tap-write") { $0.write(owned) }
    }

    private func start(_ name: String, _ body: @escaping @Sendable (CaptureSession) -> Void) {
        let thread = Thread { body(self) }
        thread.name = name
        thread.start()
    }

    private static func bind(again endpoint: TapEndpoint, _ options: TapOptions) throws(TapError) -> [Socket] {
        var sockets: [Socket] = []
        for port in endpoint.rtpPort == endpoint.rtcpPort ? [endpoint.rtpPort] : [endpoint.rtpPort, endpoint.rtcpPort] {
            let descriptor = clinux_udp_bind(endpoint.address, port, Int32(clamping: options.receiveBufferBytes))
            guard descriptor >= 0 else {
                let why = String(cString: strerror(errno))
                for socket in sockets { close(socket.descriptor) }
                throw TapError(what: "UDP port \(port) at \(endpoint.address) cannot be used again: \(why)", hint: "free it and restart, or stop the recording")
            }
            sockets.append(Socket(descriptor: descriptor, port: port))
        }
        return sockets
    }

    /// An even RTP port and the next one for RTCP (RFC 3550 section 11), or one for both.
    private static func bind(muxed: Bool, _ options: TapOptions) throws(TapError) -> [Socket] {
        let bytes = Int32(clamping: options.receiveBufferBytes)
        var lastError: Int32 = 0
        for attempt in 0..<500 {
            var wanted: UInt16 = 0
            if let range = options.ports {
                let candidate = Int(range.lowerBound) + (Int(range.lowerBound) % 2) + attempt * 2
                guard candidate < Int(range.upperBound) else { break }
                wanted = UInt16(candidate)
            }
            let rtp = clinux_udp_bind(options.address, wanted, bytes)
            guard rtp >= 0 else {
                lastError = errno
                if options.ports == nil { break }
                continue
            }
            let port = clinux_bound_port(rtp)
            if muxed { return [Socket(descriptor: rtp, port: port)] }
            if port % 2 == 0 {
                let rtcp = clinux_udp_bind(options.address, port + 1, bytes)
                if rtcp >= 0 { return [Socket(descriptor: rtp, port: port), Socket(descriptor: rtcp, port: port + 1)] }
                lastError = errno
            }
            close(rtp)
        }
        throw TapError(what: "no free pair of UDP ports at \(options.address): \(String(cString: strerror(lastError)))",
                       hint: options.ports.map { "widen the port range \($0.lowerBound)-\($0.upperBound)" } ?? "check the address")
    }

    /// The clock that the kernel stamps datagrams with.
    private static func now() -> WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    // MARK: What others call

    /// Opens or closes a gate; in force when it returns. Opening a video's asks its sender for a key frame.
    public func setGate(_ isOpen: Bool, stream: StreamID, at time: WallTime) {
        guard let place = streams.firstIndex(where: { $0.id == stream }) else { return }
        shared.withLock { shared in
            guard shared.core.setGate(isOpen, stream: place, at: time) else { return }
            if isOpen, streams[place].identity.kind != .audio { shared.requests[place].begin(at: time) }
        }
    }

    /// Closes every gate: consents cannot be read at the moment.
    public func closeAllGates(at time: WallTime) {
        shared.withLock { shared in for place in streams.indices { _ = shared.core.setGate(false, stream: place, at: time) } }
    }

    public func setPaused(_ paused: Bool, at time: WallTime) {
        shared.withLock { shared in
            shared.core.setPaused(paused, at: time)
            guard !paused else { return }
            for place in streams.indices where streams[place].identity.kind != .audio && shared.core.isOpen(place) { shared.requests[place].begin(at: time) }
        }
    }

    public struct Snapshot: Sendable {
        public var streams: [StreamID: StreamStatistics]
        public var open: Set<StreamID>
        /// Why packets cannot be written at the moment, if so.
        public var storageError: String?
    }

    public var snapshot: Snapshot {
        shared.withLock { shared in
            Snapshot(streams: Dictionary(uniqueKeysWithValues: zip(streams.map(\.id), shared.core.statistics)),
                     open: Set(streams.indices.filter { shared.core.isOpen($0) }.map { streams[$0].id }), storageError: shared.storageError)
        }
    }

    /// Closes gates, sockets and logs, and gives the final counts. Blocks until everything is on the disk.
    public func stop() -> Snapshot {
        isStopping.store(true, ordering: .releasing)
        writerEnded.wait()
        for socket in sockets { close(socket.descriptor) }
        return snapshot
    }

    // MARK: The receiving thread

    private func receive() {
        defer { receiverEnded.signal() }
        guard let batch = clinux_batch_make() else { return }
        defer { clinux_batch_free(batch) }
        var waiting = sockets.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        while !isStopping.load(ordering: .acquiring) {
            let ready = poll(&waiting, nfds_t(waiting.count), 50)
            if ready > 0 {
                for place in waiting.indices where waiting[place].revents != 0 { drain(sockets[place], batch) }
            }
            requestKeyFrames()
        }
        // What arrived before the stop is still taken.
        for socket in sockets { drain(socket, batch) }
    }

    /// Reads a socket until it is empty, at most 64 batches so that no socket starves the others.
    private func drain(_ socket: Socket, _ batch: OpaquePointer) {
        for _ in 0..<64 {
            let count = Int(clinux_batch_receive(batch, socket.descriptor))
            guard count > 0 else { return }
            shared.withLock { shared in
                for place in 0..<count {
                    guard let datagram = clinux_batch_at(batch, Int32(place)) else { continue }
                    take(&datagram.pointee, socket, &shared)
                }
            }
            clinux_batch_wipe(batch)
            if count < Int(CLINUX_BATCH_MAX) { return }
        }
    }

    private func take(_ datagram: inout clinux_datagram, _ socket: Socket, _ shared: inout Shared) {
        var address = IPAddress(bytes: [])
        if checksSources {
            address.bytes = [UInt8](repeating: 0, count: 16)
            guard clinux_address_bytes(&datagram.source, &address.bytes) == 0 else { return }
        }
        if datagram.kernel_drops > 0 {
            shared.core.note(kernelDrops: Int(datagram.kernel_drops), receiveBufferBytes: Int(clinux_receive_buffer(socket.descriptor)), port: socket.port)
        }
        let bytes = UnsafeRawBufferPointer(start: datagram.bytes, count: datagram.length)
        guard let stream = shared.core.receive(bytes, port: socket.port, source: address, arrival: WallTime(nanoseconds: datagram.arrival),
                                               isTruncated: datagram.is_truncated != 0), streams[stream].identity.kind != .audio else { return }
        // The way back to the sender: where its RTCP comes from, else where its RTP comes from.
        let isRTCP = DatagramClass(bytes) == .rtcp
        guard isRTCP || !shared.waysBack[stream].isFromRTCP, bytes.count >= 12 else { return }
        let ssrc = SSRC(rawValue: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: isRTCP ? 4 : 8, as: UInt32.self)))
        shared.waysBack[stream] = WayBack(address: datagram.source, length: datagram.source_length, ssrc: ssrc, isFromRTCP: isRTCP)
    }

    private func requestKeyFrames() {
        let now = Self.now()
        let due: [(WayBack, UInt16)] = shared.withLock { shared in
            streams.indices.compactMap { place in
                guard shared.waysBack[place].length > 0, shared.requests[place].isDue(at: now) else { return nil }
                return (shared.waysBack[place], endpoints[place].rtcpPort)
            }
        }
        for (wayBack, port) in due {
            guard let socket = sockets.first(where: { $0.port == port }) else { continue }
            let packet = RTCPPacket.pictureLossIndication(from: SSRC(rawValue: 1), about: wayBack.ssrc)
            var address = wayBack.address
            let sent = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(socket.descriptor, packet, packet.count, Int32(MSG_DONTWAIT), $0, wayBack.length) }
            }
            _ = sent  // feedback may be lost on the way as well; it is repeated
        }
    }

    // MARK: The writing thread

    private func write(_ writers: TrackWriters) {
        defer { writerEnded.signal() }
        var pending: [UInt8] = []
        var rounds = 0
        while true {
            // Asked before taking: what is accepted before the end is taken in the last round.
            let isLast = isStopping.load(ordering: .acquiring) && receiverEnded.wait(timeout: .now()) == .success
            if isLast {
                let now = Self.now()
                shared.withLock { $0.core.end(at: now) }
            }
            let empty = pending
            pending = shared.withLock { $0.core.takePending(replacingWith: empty) }
            writers.consume(&pending)
            writers.flush(now: Self.now())
            rounds += 1
            if rounds % Self.syncEvery == 0 { writers.sync() }
            if isLast { writers.close() }
            let (lost, failure) = (writers.lostToStorage, writers.storageError)
            shared.withLock { shared in
                for (place, count) in lost.enumerated() { shared.core.note(lostToStorage: count, stream: place) }
                shared.storageError = failure
            }
            if isLast { return }
            usleep(UInt32(Self.writeIntervalMs) * 1000)
        }
    }
}

extension IPAddress {
    /// Reads a numeric IPv4 or IPv6 address.
    public init?(_ text: String) {
        var storage = sockaddr_storage()
        guard clinux_socket_address(text, 0, &storage) > 0 else { return nil }
        bytes = [UInt8](repeating: 0, count: 16)
        guard clinux_address_bytes(&storage, &bytes) == 0 else { return nil }
    }
}
