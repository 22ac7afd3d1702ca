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
/// returns, every packet that was not yet decided on falls under the new state; and what the kernel had received before an opening is
/// dropped, though it is read after it.
///
/// Proof of Sendable: all mutable state lies in the two mutexes; the sockets are closed only after both threads have ended.
public final class CaptureSession: Sendable {
    private struct Socket: Sendable {
        var descriptor: Int32
        var port: UInt16
    }

    private struct Shared: Sendable {
        var core: CaptureCore
        var waysBack: [WayBack]
        var requests: [KeyFrameRequests]
        var storageError: String?
    }

    /// The receiver's pause after it read what was there: 40 packets at 20,000 a second, room for which even a default receive buffer has.
    static let batchPauseUs: UInt32 = 2_000
    /// The writer's pause between two rounds.
    static let writeIntervalMs = 200
    /// Age of the last sync at which a round syncs again: with the pause above, at least once a second.
    static let syncAfterMs: Int64 = 700

    public let endpoints: [TapEndpoint]
    private let streams: [TapStream]
    private let sendersAreAnnounced: Bool
    private let sockets: [Socket]
    private let shared: Mutex<Shared>
    private let isStopping = Atomic(false)
    /// Counts openings and resumes: a backlog is over only if the socket was read after the last one. Changed under the lock.
    private let openings = Atomic(0)
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
        for stream in streams {
            // Port 0 names none: each such stream has its own.
            if stream.media.port != 0, let pair = pairs[stream.media.port] {
                ports.append(pair)
                continue
            }
            do throws(TapError) {
                let pair = if let before = options.fixedPorts[stream.id] { try Self.bind(again: before, options) } else { try Self.bind(muxed: stream.media.isRTCPMuxed, options) }
                sockets += pair
                ports.append((pair[0].port, pair[pair.count - 1].port))
                if stream.media.port != 0 { pairs[stream.media.port] = ports[ports.count - 1] }
            } catch {
                undo()
                throw error
            }
        }
        self.streams = streams
        sendersAreAnnounced = !allowed.isEmpty
        self.sockets = sockets
        endpoints = ports.map { TapEndpoint(address: options.address, rtpPort: $0.rtp, rtcpPort: $0.rtcp) }
        var core = CaptureCore(media: streams.map(\.media), ports: ports, allowed: allowed)
        for socket in sockets { core.note(kernelDrops: 0, receiveBufferBytes: Int(clinux_receive_buffer(socket.descriptor)), port: socket.port) }
        shared = Mutex(Shared(core: core, waysBack: Array(repeating: WayBack(), count: streams.count),
                              requests: Array(repeating: KeyFrameRequests(), count: streams.count)))
        guard let batch = clinux_batch_make() else {
            undo()
            throw TapError(what: "no memory for the receive buffers", hint: "stop other programs, or add memory")
        }
        let writers: TrackWriters
        do {
            writers = try TrackWriters(streams)
        } catch {
            clinux_batch_free(batch)
            undo()
            throw TapError(what: "the packet logs cannot be opened: \(error)", hint: "check the data folder's rights and free space")
        }
        nonisolated(unsafe) let buffers = batch  // handed to the receiving thread, which alone uses and frees it
        start("tap-receive") { $0.receive(buffers) }
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
        // A range is tried to its end; any free port, until one is even.
        let first = options.ports.map { Int($0.lowerBound) + Int($0.lowerBound) % 2 } ?? 0
        let last = options.ports.map { Int($0.upperBound) - (muxed ? 0 : 1) } ?? 1_000
        for candidate in stride(from: first, through: last, by: 2) {
            let wanted = options.ports == nil ? 0 : UInt16(candidate)
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
            guard shared.core.setGate(isOpen, stream: place, at: time, arrivedFrom: Self.now()), isOpen else { return }
            openings.wrappingAdd(1, ordering: .releasing)
            if streams[place].identity.kind != .audio { shared.requests[place].begin() }
        }
    }

    /// Closes every gate: consents cannot be read at the moment.
    public func closeAllGates(at time: WallTime) {
        shared.withLock { shared in for place in streams.indices { _ = shared.core.setGate(false, stream: place, at: time) } }
    }

    public func setPaused(_ paused: Bool, at time: WallTime) {
        shared.withLock { shared in
            shared.core.setPaused(paused, at: time, arrivedFrom: Self.now())
            guard !paused else { return }
            openings.wrappingAdd(1, ordering: .releasing)
            for place in streams.indices where streams[place].identity.kind != .audio && shared.core.isOpen(place) { shared.requests[place].begin() }
        }
    }

    /// Asks a video's sender for a key frame, at most twice a second; nothing happens while its gate is closed.
    public func requestKeyFrame(_ stream: StreamID) {
        guard let place = streams.firstIndex(where: { $0.id == stream }), streams[place].identity.kind != .audio else { return }
        shared.withLock { shared in if shared.core.isOpen(place) { shared.requests[place].begin() } }
    }

    public struct Snapshot: Sendable {
        public var streams: [StreamID: StreamStatistics]
        public var open: Set<StreamID>
        /// Datagrams that belonged to no stream.
        public var unknown = 0
        /// Why packets cannot be written at the moment, if so.
        public var storageError: String?
    }

    public var snapshot: Snapshot {
        shared.withLock { shared in
            Snapshot(streams: Dictionary(uniqueKeysWithValues: zip(streams.map(\.id), shared.core.statistics)),
                     open: Set(streams.indices.filter { shared.core.isOpen($0) }.map { streams[$0].id }), unknown: shared.core.unknown,
                     storageError: shared.storageError)
        }
    }

    /// Closes gates, sockets and logs, and gives the final counts. Blocks until everything is on the disk. May be called again.
    public func stop() -> Snapshot {
        let isFirst = !isStopping.exchange(true, ordering: .acquiringAndReleasing)
        writerEnded.wait()
        if isFirst { for socket in sockets { close(socket.descriptor) } }
        // For whoever else waits for the same end.
        writerEnded.signal()
        return snapshot
    }

    // MARK: The receiving thread

    private func receive(_ batch: OpaquePointer) {
        defer { receiverEnded.signal() }
        defer { clinux_batch_free(batch) }
        var waiting = sockets.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        while !isStopping.load(ordering: .acquiring) {
            let ready = poll(&waiting, nfds_t(waiting.count), 50)
            if ready > 0 {
                for place in waiting.indices where waiting[place].revents != 0 { drain(sockets[place], batch) }
            }
            requestKeyFrames()
            // Packets pile up a little, so that a batch is more than one; their times are the kernel's all the same.
            if ready > 0 { usleep(Self.batchPauseUs) }
        }
        // What arrived before the stop is still taken.
        for socket in sockets { drain(socket, batch) }
    }

    /// Reads a socket until it is empty, at most 64 batches so that no socket starves the others.
    private func drain(_ socket: Socket, _ batch: OpaquePointer) {
        for _ in 0..<64 {
            let before = openings.load(ordering: .acquiring)
            let count = Int(clinux_batch_receive(batch, socket.descriptor))
            guard count >= 0 else { return }
            let isEmpty = count < Int(CLINUX_BATCH_MAX)
            shared.withLock { shared in
                for place in 0..<count {
                    guard let datagram = clinux_batch_at(batch, Int32(place)) else { continue }
                    take(&datagram.pointee, socket, &shared)
                }
                if isEmpty, openings.load(ordering: .relaxed) == before { shared.core.backlogRead(port: socket.port) }
            }
            clinux_batch_wipe(batch)
            if isEmpty { return }
        }
    }

    private func take(_ datagram: inout clinux_datagram, _ socket: Socket, _ shared: inout Shared) {
        var ip = IPAddress(bytes: [])
        guard ip.take(&datagram.source) else { return }
        if datagram.kernel_drops > 0 {
            shared.core.note(kernelDrops: Int(datagram.kernel_drops), receiveBufferBytes: Int(clinux_receive_buffer(socket.descriptor)), port: socket.port)
        }
        let bytes = UnsafeRawBufferPointer(start: datagram.bytes, count: datagram.length)
        let arrival = WallTime(nanoseconds: datagram.arrival)
        let kept = shared.core.receive(bytes, port: socket.port, source: ip, arrival: arrival, isTruncated: datagram.is_truncated != 0)
        // Senders open the way back early, so that it is learned from what the gate drops as well.
        guard let stream = kept ?? shared.core.stream(atControlPort: socket.port), streams[stream].identity.kind != .audio, shared.core.isAllowed(ip) else { return }
        let peer = WayBack.Peer(address: datagram.source, length: datagram.source_length, ip: ip)
        guard kept != nil, DatagramClass(bytes) == .rtp else { return shared.waysBack[stream].learn(control: peer) }
        shared.waysBack[stream].learn(media: peer, ssrc: SSRC(rawValue: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))))
        // A second look at the header only while a key frame is waited for; it parsed a moment ago.
        guard shared.requests[stream].isWaiting, let header = try? RTPHeader(bytes), streams[stream].media.codecs[header.payloadType]?.name == Codec.vp8.name else { return }
        if KeyFrameSight.isVP8KeyFrameStart(UnsafeRawBufferPointer(rebasing: bytes[header.payload])) { shared.requests[stream].satisfy() }
    }

    private func requestKeyFrames() {
        let now = Self.now()
        let due: [(target: WayBack.Peer, about: SSRC, port: UInt16)] = shared.withLock { shared in
            streams.indices.compactMap { place in
                guard shared.requests[place].isWaiting, shared.core.isOpen(place),
                      let target = shared.waysBack[place].target(isMuxed: endpoints[place].rtpPort == endpoints[place].rtcpPort, sendersAreAnnounced: sendersAreAnnounced),
                      shared.requests[place].isDue(at: now) else { return nil }
                return (target, shared.waysBack[place].ssrc, endpoints[place].rtcpPort)
            }
        }
        for (target, ssrc, port) in due {
            guard let socket = sockets.first(where: { $0.port == port }) else { continue }
            let packet = RTCPPacket.pictureLossIndication(from: SSRC(rawValue: 1), about: ssrc)
            var address = target.address
            let sent = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(socket.descriptor, packet, packet.count, Int32(MSG_DONTWAIT), $0, target.length) }
            }
            _ = sent  // feedback may be lost on the way as well; it is repeated
        }
    }

    // MARK: The writing thread

    private func write(_ writers: TrackWriters) {
        defer { writerEnded.signal() }
        var pending: [UInt8] = []
        var synced = Self.now()
        while true {
            // Asked before taking: what is accepted before the end is taken in the last round.
            let isLast = isStopping.load(ordering: .acquiring) && receiverEnded.wait(timeout: .now()) == .success
            if isLast {
                let now = Self.now()
                shared.withLock { $0.core.end(at: now) }
            }
            shared.withLock { $0.core.exchangePending(&pending) }
            writers.consume(&pending)
            let now = Self.now()
            writers.flush(now: now)
            // Also when the clock was set back.
            if now < synced || now - synced >= .milliseconds(Self.syncAfterMs) {
                writers.sync()
                synced = now
            }
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
        self.init(bytes: [])
        guard take(&storage) else { return nil }
    }

    /// Becomes the address of `storage`; false for another family than IP.
    mutating func take(_ storage: inout sockaddr_storage) -> Bool {
        withUnsafeMutableBytes(of: &self) { own in
            clinux_address_bytes(&storage, own.baseAddress?.assumingMemoryBound(to: UInt8.self)) == 0
        }
    }
}
