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
    /// Seconds for which an open gate stays open without word that consents can still be read; nil: for ever.
    public var consentSeconds: Double?
    /// Ports that streams' m-lines had before a restart.
    public var fixedPorts: [StreamID: [TapEndpoint]] = [:]
    /// Set: no sockets and no threads. Packets are given with ``CaptureSession/deliver(_:to:arrival:)`` and written with
    /// ``CaptureSession/writeDelivered(isSyncing:)``; this is the clock of their arrivals.
    public var drivenBy: (@Sendable () -> WallTime)?
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
    struct Socket: Sendable {
        var descriptor: Int32
        var port: UInt16
    }

    private struct Shared: Sendable {
        var core: CaptureCore
        var waysBack: [WaysBack]
        var storageError: String?
        var logs: (standings: [TrackLogWriter.Standing], at: WallTime) = ([], WallTime(nanoseconds: 0))
    }

    /// The receiver's pause after it read what was there: 40 packets at 20,000 a second, room for which even a default receive buffer has.
    static let batchPauseUs: UInt32 = 2_000
    /// The writer's pause between two rounds.
    static let writeIntervalMs = 200
    /// Age of the last sync at which a round syncs again: with the pause above, at least once a second.
    static let syncAfterMs: Int64 = 700

    /// Where each stream is to be sent: its first m-line.
    public var endpoints: [TapEndpoint] { layers.map { $0[0] } }
    /// The same for all m-lines of each stream.
    public let layers: [[TapEndpoint]]
    private let streams: [TapStream]
    private let places: [StreamID: Int]
    private let sendersAreAnnounced: Bool
    private let sockets: [Socket]
    private let drivingClock: (@Sendable () -> WallTime)?
    /// The writers of a session without threads, until it is stopped.
    let driven: Mutex<TrackWriters?>
    private let shared: Mutex<Shared>
    private let isStopping = Atomic(false)
    /// Counts openings and resumes: a backlog is over only if the socket was read after the last one. Changed under the lock.
    private let openings = Atomic(0)
    /// When consents were last known, in nanoseconds since the machine started (suspended or not).
    private let confirmed = Atomic(CaptureSession.uptime())
    private let consentSeconds: Double?
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
        // M-lines whose SDPs name the same port share one, and are told apart by SSRC, MID or payload type.
        var pairs: [UInt16: (rtp: UInt16, rtcp: UInt16)] = [:]
        var ports: [[(rtp: UInt16, rtcp: UInt16)]] = []
        for stream in streams {
            var own: [(rtp: UInt16, rtcp: UInt16)] = []
            let before = options.fixedPorts[stream.id] ?? []
            for (layer, media) in stream.media.enumerated() {
                // Port 0 names none: each such m-line has its own.
                if media.port != 0, let pair = pairs[media.port] {
                    own.append(pair)
                    continue
                }
                if options.drivenBy != nil {
                    let rtp = UInt16(10_000 + 2 * (ports.count * 8 + layer))
                    own.append((rtp, rtp + 1))
                    if media.port != 0 { pairs[media.port] = own[own.count - 1] }
                    continue
                }
                do throws(TapError) {
                    let pair = if layer < before.count { try Self.bind(again: before[layer], options) } else { try Self.bind(muxed: media.isRTCPMuxed, options) }
                    sockets += pair
                    own.append((pair[0].port, pair[pair.count - 1].port))
                    if media.port != 0 { pairs[media.port] = own[own.count - 1] }
                } catch {
                    undo()
                    throw error
                }
            }
            ports.append(own)
        }
        self.streams = streams
        places = Dictionary(uniqueKeysWithValues: zip(streams.map(\.id), streams.indices))
        sendersAreAnnounced = !allowed.isEmpty
        consentSeconds = options.consentSeconds
        self.sockets = sockets
        layers = ports.map { $0.map { TapEndpoint(address: options.address, rtpPort: $0.rtp, rtcpPort: $0.rtcp) } }
        var core = CaptureCore(streams: streams, ports: ports, allowed: allowed)
        for socket in sockets { core.note(kernelDrops: 0, receiveBufferBytes: Int(clinux_receive_buffer(socket.descriptor)), port: socket.port, at: Self.now()) }
        shared = Mutex(Shared(core: core, waysBack: Array(repeating: WaysBack(), count: streams.count)))
        let writers: TrackWriters
        do {
            writers = try TrackWriters(streams)
        } catch {
            undo()
            throw TapError(what: "the packet logs cannot be opened: \(error)", hint: "check the data folder's rights and free space")
        }
        drivingClock = options.drivenBy
        guard options.drivenBy == nil else {
            driven = Mutex(writers)
            return
        }
        driven = Mutex(nil)
        guard let batch = clinux_batch_make() else {
            undo()
            throw TapError(what: "no memory for the receive buffers", hint: "stop other programs, or add memory")
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

    /// The clock that the kernel stamps datagrams with.
    private var now: WallTime { drivingClock?() ?? Self.now() }

    private static func now() -> WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    private static func uptime() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    // MARK: What others call

    /// Consents were read just now: open gates may stay open for another ``TapOptions/consentSeconds``.
    public func confirm() { confirmed.store(Self.uptime(), ordering: .releasing) }

    /// Opens or closes a gate; in force when it returns. Opening a video's asks its sender for a key frame.
    public func setGate(_ isOpen: Bool, stream: StreamID, at time: WallTime) { setGates([(stream, isOpen)], at: time) }

    /// The same for several at once: no packet is decided on between them. Streams that are not this session's are let be.
    public func setGates(_ gates: [(stream: StreamID, isOpen: Bool)], at time: WallTime) {
        shared.withLock { shared in
            for gate in gates {
                guard let place = places[gate.stream] else { continue }
                if gate.isOpen { confirm() }
                if shared.core.setGate(gate.isOpen, stream: place, at: time, arrivedFrom: now), gate.isOpen { openings.wrappingAdd(1, ordering: .releasing) }
            }
        }
    }

    /// Closes every gate: consents cannot be read at the moment.
    public func closeAllGates(at time: WallTime) {
        shared.withLock { shared in for place in streams.indices { _ = shared.core.setGate(false, stream: place, at: time) } }
    }

    public func setPaused(_ paused: Bool, at time: WallTime) {
        shared.withLock { shared in
            shared.core.setPaused(paused, at: time, arrivedFrom: now)
            if !paused { openings.wrappingAdd(1, ordering: .releasing) }
        }
    }

    /// Asks a video's sender for a key frame, at most twice a second; nothing happens while its gate is closed.
    public func requestKeyFrame(_ stream: StreamID) {
        guard let place = streams.firstIndex(where: { $0.id == stream }) else { return }
        shared.withLock { shared in if shared.core.isOpen(place) { shared.core.needKeyFrame(place, at: Self.now(), isLoss: false) } }
    }

    public struct Snapshot: Sendable {
        public var streams: [StreamID: StreamStatistics]
        public var open: Set<StreamID>
        public var health: [StreamID: StreamHealth.Report]
        /// Datagrams that belonged to no stream.
        public var unknown = 0
        /// Why packets cannot be written at the moment, if so.
        public var storageError: String?
    }

    public var snapshot: Snapshot {
        shared.withLock { shared in
            Snapshot(streams: Dictionary(uniqueKeysWithValues: zip(streams.map(\.id), shared.core.statistics)),
                     open: Set(streams.indices.filter { shared.core.isOpen($0) }.map { streams[$0].id }),
                     health: Dictionary(uniqueKeysWithValues: zip(streams.map(\.id), shared.core.report(at: now))), unknown: shared.core.unknown,
                     storageError: shared.storageError)
        }
    }

    /// How far each stream's log is closed, and as of when.
    public var logs: (standings: [StreamID: TrackLogWriter.Standing], at: WallTime) {
        shared.withLock { shared in
            (Dictionary(zip(streams.map(\.id), shared.logs.standings)) { first, _ in first }, shared.logs.at)
        }
    }

    /// Closes gates, sockets and logs, and gives the final counts. Blocks until everything is on the disk. May be called again.
    public func stop() -> Snapshot {
        let isFirst = !isStopping.exchange(true, ordering: .acquiringAndReleasing)
        guard drivingClock == nil else {
            endDriven()
            return snapshot
        }
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
            closeUnconfirmed()
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

    /// The last line of defence: this thread needs neither a store nor anybody's help to close gates that nobody vouches for any more.
    private func closeUnconfirmed() {
        guard let consentSeconds, Double(Self.uptime() - confirmed.load(ordering: .acquiring)) > consentSeconds * 1e9 else { return }
        closeAllGates(at: Self.now())
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
            shared.core.note(kernelDrops: Int(datagram.kernel_drops), receiveBufferBytes: Int(clinux_receive_buffer(socket.descriptor)), port: socket.port, at: WallTime(nanoseconds: datagram.arrival))
        }
        let bytes = UnsafeRawBufferPointer(start: datagram.bytes, count: datagram.length)
        let arrival = WallTime(nanoseconds: datagram.arrival)
        let kept = shared.core.receive(bytes, port: socket.port, source: ip, arrival: arrival, isTruncated: datagram.is_truncated != 0)
        // Senders open the way back early, so that it is learned from what the gate drops as well.
        guard let stream = kept ?? shared.core.stream(atControlPort: socket.port), streams[stream].identity.kind != .audio, shared.core.isAllowed(ip) else { return }
        let peer = WaysBack.Peer(address: datagram.source, length: datagram.source_length, ip: ip)
        guard kept != nil, DatagramClass(bytes) == .rtp else {
            let port = layers[stream].first { $0.rtpPort == socket.port || $0.rtcpPort == socket.port }?.rtcpPort ?? socket.port
            return shared.waysBack[stream].learn(control: peer, port: port)
        }
        shared.waysBack[stream].learn(media: peer, ssrc: SSRC(rawValue: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))))
    }

    private func requestKeyFrames() {
        let now = Self.now()
        let due: [(target: WaysBack.Peer, port: UInt16, packet: [UInt8])] = shared.withLock { shared in
            shared.core.dueRequests(at: now).compactMap { stream, request in
                let own = layers[stream][request.layer]
                let target = shared.waysBack[stream].target(request.ssrc, rtcpPort: own.rtcpPort, isMuxed: own.rtpPort == own.rtcpPort,
                                                                  sendersAreAnnounced: sendersAreAnnounced)
                return target.map { ($0, own.rtcpPort, request.kind.packet(from: SSRC(rawValue: 1), about: request.ssrc)) }
            }
        }
        for (target, port, packet) in due {
            guard let socket = sockets.first(where: { $0.port == port }) else { continue }
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
            let now = Self.now()
            // Also when the clock was set back.
            let isSyncing = now < synced || now - synced >= .milliseconds(Self.syncAfterMs)
            round(writers, &pending, at: now, isSyncing: isSyncing, isLast: isLast)
            if isSyncing { synced = now }
            if isLast { return }
            usleep(UInt32(Self.writeIntervalMs) * 1000)
        }
    }

    private func round(_ writers: TrackWriters, _ pending: inout [UInt8], at now: WallTime, isSyncing: Bool, isLast: Bool) {
        if isLast { shared.withLock { $0.core.end(at: now) } }
        shared.withLock { $0.core.exchangePending(&pending) }
        writers.consume(&pending)
        writers.flush(now: now)
        if isSyncing { writers.sync() }
        if isLast { writers.close() }
        let (lost, failure, standings) = (writers.lostToStorage, writers.storageError, writers.standings)
        shared.withLock { shared in
            shared.logs = (standings, now)
            for (place, count) in lost.enumerated() { shared.core.note(lostToStorage: count, isOver: failure == nil, stream: place, at: now) }
            shared.storageError = failure
        }
    }

    // MARK: Without sockets and threads

    /// Takes a datagram as if it had come to the first port of `stream` at `arrival`. Only where ``TapOptions/drivenBy`` is set.
    public func deliver(_ datagram: [UInt8], to stream: StreamID, arrival: WallTime) {
        guard drivingClock != nil, let place = streams.firstIndex(where: { $0.id == stream }) else { return }
        let port = layers[place][0].rtpPort
        datagram.withUnsafeBytes { bytes in shared.withLock { _ = $0.core.receive(bytes, port: port, source: IPAddress(bytes: []), arrival: arrival) } }
    }

    /// What had arrived before the last opening is all delivered.
    public func endBacklog() {
        shared.withLock { shared in for own in layers { for layer in own { shared.core.backlogRead(port: layer.rtpPort) } } }
    }

    /// One round of the writing thread.
    public func writeDelivered(isSyncing: Bool) { driven.withLock { if let writers = $0 { writeDelivered(writers, isSyncing: isSyncing, isLast: false) } } }

    private func endDriven() {
        driven.withLock { driven in
            if let writers = driven { writeDelivered(writers, isSyncing: true, isLast: true) }
            driven = nil
        }
    }

    private func writeDelivered(_ writers: TrackWriters, isSyncing: Bool, isLast: Bool) {
        var pending: [UInt8] = []
        round(writers, &pending, at: now, isSyncing: isSyncing, isLast: isLast)
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
