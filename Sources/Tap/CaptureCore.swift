import Depacketize
import Glibc
import Media
import PacketLog
import RTP
import SRTP

/// The deciding half of a capture, live or imported: which stream, may it be kept, and the queue of what may.
///
/// Pure: datagrams and times go in, accepted records pile up in ``takePending()``. A gate is closed until it is opened; what comes before,
/// or from strangers, or fits no stream, is counted by its header and touched no further. What had arrived before an opening and is read
/// after it counts as before: see ``setGate(_:stream:at:arrivedFrom:)``. Protected packets (SRTP) are opened in memory before the gate
/// decides, so that rollover counters and replay windows go on while it is closed; what does not pass is overwritten.
public struct CaptureCore: Sendable {
    /// Accepted bytes that may wait for the writer; beyond it packets are dropped and counted.
    public static let pendingBytesMax = 64 << 20
    /// stream (2), kind (1), arrival (8), length (4): all big-endian.
    static let pendingHeadBytes = 15

    /// Where a gate's opening still has packets before it: those that waited in a socket and came before the consent.
    private struct Gate: Sendable {
        var isOpen = false
        /// While the socket's backlog is read, datagrams that arrived before this are dropped; nil: the backlog is over.
        var rtpFrom: WallTime?
        var rtcpFrom: WallTime?
    }

    private var demultiplexer: StreamDemultiplexer
    private var gates: [Gate]
    private var isPaused = false
    private let allowed: Set<IPAddress>
    private var pending: [UInt8] = []
    /// The m-lines' codecs by payload type, and their ports, of each stream.
    private let codecs: [[UInt8: Codec]]
    private let ports: [[(rtp: UInt16, rtcp: UInt16)]]
    /// What removes the protection of each stream's m-lines, and the ports where any packet is protected.
    private let receivers: [[SRTPReceiver?]]
    private let protectedPorts: Set<UInt16>
    /// Room for a protected packet's plain form; empty while nothing is opened.
    private var scratch: [UInt8] = []
    private var health: [StreamHealth]
    private var kernelDropsAtPort: [UInt16: Int] = [:]
    /// Streams that the disk does not take at the moment.
    private var losesToStorage: Set<Int> = []
    public private(set) var statistics: [StreamStatistics]
    /// Datagrams that fitted no stream at all.
    public private(set) var unknown = 0

    /// `streams` are as they will be counted; `ports` has the RTP and RTCP port of each of their m-lines. `allowed` empty: anybody may send.
    public init(streams: [TapStream], ports: [[(rtp: UInt16, rtcp: UInt16)]], allowed: [IPAddress]) {
        self.init(media: streams.map(\.media), receivers: streams.map(\.receivers), isVideo: streams.map { $0.identity.kind != .audio },
                  ports: ports, allowed: allowed)
    }

    /// Streams with one m-line each, in the clear.
    init(media: [MediaDescription], ports: [(rtp: UInt16, rtcp: UInt16)], allowed: [IPAddress]) {
        self.init(media: media.map { [$0] }, receivers: media.map { _ in [nil] }, isVideo: media.map { $0.type != "audio" },
                  ports: ports.map { [$0] }, allowed: allowed)
    }

    private init(media: [[MediaDescription]], receivers: [[SRTPReceiver?]], isVideo: [Bool], ports: [[(rtp: UInt16, rtcp: UInt16)]], allowed: [IPAddress]) {
        demultiplexer = StreamDemultiplexer(media: media, ports: ports)
        gates = Array(repeating: Gate(), count: media.count)
        statistics = Array(repeating: StreamStatistics(), count: media.count)
        health = isVideo.map(StreamHealth.init)
        codecs = media.map { $0.reduce(into: [:]) { $0.merge($1.codecs) { first, _ in first } } }
        self.ports = ports
        self.receivers = receivers
        protectedPorts = Set(zip(ports, receivers).flatMap { zip($0, $1).flatMap { $1 == nil ? [] : [$0.rtp, $0.rtcp] } })
        if !protectedPorts.isEmpty { scratch = Array(repeating: 0, count: TrackLogWriter.datagramBytesMax) }
        self.allowed = Set(allowed)
    }

    public var pendingBytes: Int { pending.count }

    func isAllowed(_ source: IPAddress) -> Bool { allowed.isEmpty || allowed.contains(source) }

    /// The only stream whose RTCP, and nothing else, comes to `port`.
    func stream(atControlPort port: UInt16) -> Int? {
        let here = demultiplexer.streams(atRTCPPort: port)
        return here.count == 1 && demultiplexer.streams(atRTPPort: port).isEmpty ? here[0] : nil
    }

    /// Takes one datagram. Returns the stream it was kept for, or nil.
    @discardableResult
    public mutating func receive(_ bytes: UnsafeRawBufferPointer, port: UInt16, source: IPAddress, arrival: WallTime, isTruncated: Bool = false) -> Int? {
        guard isAllowed(source) else {
            count(port) { $0.strangers += 1 }
            return nil
        }
        guard !isTruncated, bytes.count <= TrackLogWriter.datagramBytesMax else {
            count(port) { $0.malformed += 1 }
            return nil
        }
        switch DatagramClass(bytes) {
        case .rtp: return protectedPorts.contains(port) ? open(bytes, isControl: false, port, arrival) : receiveRTP(bytes, port, arrival)
        case .rtcp: return protectedPorts.contains(port) ? open(bytes, isControl: true, port, arrival) : receiveRTCP(bytes, port, arrival)
        case .other:
            count(port) { $0.malformed += 1 }
            return nil
        }
    }

    private mutating func receiveRTP(_ bytes: UnsafeRawBufferPointer, _ port: UInt16, _ arrival: WallTime) -> Int? {
        // Why it does not parse does not matter to anybody: it is counted.
        guard let header = try? RTPHeader(bytes), let stream = demultiplexer.stream(ofRTP: header, in: bytes, port: port) else {
            count(port) { $0.malformed += 1 }
            return nil
        }
        return keepRTP(header, bytes, stream, port, arrival)
    }

    private mutating func keepRTP(_ header: RTPHeader, _ bytes: UnsafeRawBufferPointer, _ stream: Int, _ port: UInt16, _ arrival: WallTime) -> Int? {
        guard passes(stream, gates[stream].rtpFrom, arrival) else {
            statistics[stream].droppedByGate += 1
            return nil
        }
        guard enqueue(stream, 1, arrival, bytes) else {
            statistics[stream].overflow += 1
            return nil
        }
        statistics[stream].packets += 1
        statistics[stream].bytes += bytes.count
        statistics[stream].lastArrival = arrival
        if statistics[stream].ssrcs.last != header.ssrc.rawValue, statistics[stream].ssrcs.count < 64, !statistics[stream].ssrcs.contains(header.ssrc.rawValue) {
            statistics[stream].ssrcs.append(header.ssrc.rawValue)
        }
        health[stream].take(facts(header, bytes, stream, port, arrival))
        return stream
    }

    private func facts(_ header: RTPHeader, _ bytes: UnsafeRawBufferPointer, _ stream: Int, _ port: UInt16, _ arrival: WallTime) -> PacketFacts {
        let layer = ports[stream].firstIndex { $0.rtp == port } ?? 0
        var facts = PacketFacts(ssrc: header.ssrc, layer: layer, sequence: header.sequenceNumber, bytes: bytes.count, arrival: arrival)
        guard let codec = codecs[stream][header.payloadType] else { return facts }
        let payload = UnsafeRawBufferPointer(rebasing: bytes[header.payload])
        facts.isRepair = codec.isRepair
        if codec.name == "rtx", payload.count >= 2 { facts.repaired = UInt16(bigEndian: payload.loadUnaligned(as: UInt16.self)) }
        if health[stream].isVideo, !codec.isAuxiliary { facts.beginsKeyFrame = VideoFormats.beginsKeyFrame(payload, codec: codec) }
        return facts
    }

    private mutating func receiveRTCP(_ bytes: UnsafeRawBufferPointer, _ port: UInt16, _ arrival: WallTime) -> Int? {
        // As with RTP: it is read to its end before it may be kept.
        guard bytes.count >= 8, (try? RTCPPacket.parse(bytes)) != nil else {
            count(port) { $0.malformed += 1 }
            return nil
        }
        guard let stream = demultiplexer.stream(ofRTCP: Self.sender(bytes), port: port) else {
            unknown += 1
            return nil
        }
        return keepRTCP(bytes, stream, arrival)
    }

    private mutating func keepRTCP(_ bytes: UnsafeRawBufferPointer, _ stream: Int, _ arrival: WallTime) -> Int? {
        // Reports can name a person (SDES): they pass the same gate.
        passes(stream, gates[stream].rtcpFrom, arrival) && enqueue(stream, 2, arrival, bytes) ? stream : nil
    }

    private static func sender(_ bytes: UnsafeRawBufferPointer) -> SSRC { SSRC(rawValue: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))) }

    /// A packet at a port where some are protected: whose it is stands in the clear (RFC 3711 sections 3.1 and 3.4).
    private mutating func open(_ bytes: UnsafeRawBufferPointer, isControl: Bool, _ port: UInt16, _ arrival: WallTime) -> Int? {
        var room: [UInt8] = []
        swap(&room, &scratch)
        defer { swap(&room, &scratch) }
        return room.withUnsafeMutableBytes { room in
            let plain = UnsafeMutableRawBufferPointer(rebasing: room[..<bytes.count])
            defer { if let base = plain.baseAddress { explicit_bzero(base, plain.count) } }
            let stream: Int?
            if isControl {
                stream = bytes.count >= 8 ? demultiplexer.stream(ofRTCP: Self.sender(bytes), port: port) : nil
            } else {
                plain.copyMemory(from: bytes)
                // How long the padding is stands in the encrypted part.
                plain[0] &= ~0x20
                stream = (try? RTPHeader(UnsafeRawBufferPointer(plain))).flatMap { demultiplexer.stream(ofRTP: $0, in: UnsafeRawBufferPointer(plain), port: port) }
            }
            guard let stream else {
                if isControl { unknown += 1 } else { count(port) { $0.malformed += 1 } }
                return nil
            }
            guard let receiver = receivers[stream][ports[stream].firstIndex { $0.rtp == port || isControl && $0.rtcp == port } ?? 0] else {
                return isControl ? receiveRTCP(bytes, port, arrival) : receiveRTP(bytes, port, arrival)
            }
            return take(receiver.unprotect(bytes, isControl: isControl, into: plain), UnsafeRawBufferPointer(plain), isControl, stream, port, arrival)
        }
    }

    private mutating func take(_ outcome: SRTPReceiver.Outcome, _ plain: UnsafeRawBufferPointer, _ isControl: Bool, _ stream: Int, _ port: UInt16,
                               _ arrival: WallTime) -> Int? {
        switch outcome {
        case .plain(let length):
            let packet = UnsafeRawBufferPointer(rebasing: plain[..<length])
            health[stream].authenticated(true, at: arrival)
            if isControl, packet.count >= 8, (try? RTCPPacket.parse(packet)) != nil { return keepRTCP(packet, stream, arrival) }
            if !isControl, let header = try? RTPHeader(packet) { return keepRTP(header, packet, stream, port, arrival) }
            statistics[stream].malformed += 1
        case .replayed: statistics[stream].replayed += 1
        case .notAuthentic:
            statistics[stream].notAuthentic += 1
            health[stream].authenticated(false, at: arrival)
        case .malformed: statistics[stream].malformed += 1
        }
        return nil
    }

    private func passes(_ stream: Int, _ from: WallTime?, _ arrival: WallTime) -> Bool {
        guard gates[stream].isOpen, !isPaused else { return false }
        return from.map { arrival >= $0 } ?? true
    }

    private mutating func count(_ port: UInt16, _ change: (inout StreamStatistics) -> Void) {
        let here = demultiplexer.streams(atPort: port)
        if here.count == 1 { change(&statistics[here[0]]) } else { unknown += 1 }
    }

    /// Opens or closes one stream's gate; a mark goes into its log. Returns whether anything changed.
    ///
    /// `arrivedFrom` is the moment on the clock of the arrivals: until ``backlogRead(port:)`` says that the socket was empty, what arrived
    /// before it is dropped although the gate is open by now, for it was sent before the consent. Nil where nothing can have waited.
    public mutating func setGate(_ isOpen: Bool, stream: Int, at time: WallTime, arrivedFrom: WallTime? = nil) -> Bool {
        guard gates[stream].isOpen != isOpen else { return false }
        gates[stream] = Gate(isOpen: isOpen, rtpFrom: arrivedFrom, rtcpFrom: arrivedFrom)
        mark(isOpen ? .gateOpened : .gateClosed, stream, time)
        if isOpen, !isPaused { health[stream].opened(at: arrivedFrom ?? time) } else { health[stream].closed() }
        return true
    }

    public func isOpen(_ stream: Int) -> Bool { gates[stream].isOpen && !isPaused }

    /// Begins or ends a pause. What arrived during it is not kept, even if it is read after it: see `arrivedFrom` above.
    public mutating func setPaused(_ paused: Bool, at time: WallTime, arrivedFrom: WallTime? = nil) {
        guard isPaused != paused else { return }
        isPaused = paused
        for stream in gates.indices where gates[stream].isOpen {
            gates[stream] = Gate(isOpen: true, rtpFrom: arrivedFrom, rtcpFrom: arrivedFrom)
            mark(paused ? .paused : .resumed, stream, time)
            if paused { health[stream].closed() } else { health[stream].opened(at: arrivedFrom ?? time) }
        }
    }

    /// The socket at `port` was empty after the last opening: what is read from it now arrived after that.
    public mutating func backlogRead(port: UInt16) {
        for stream in demultiplexer.streams(atRTPPort: port) { gates[stream].rtpFrom = nil }
        for stream in demultiplexer.streams(atRTCPPort: port) { gates[stream].rtcpFrom = nil }
    }

    /// Closes every gate for good.
    public mutating func end(at time: WallTime) {
        for stream in gates.indices where gates[stream].isOpen { mark(.streamEnded, stream, time) }
        gates = gates.map { _ in Gate() }
        for stream in health.indices { health[stream].closed() }
    }

    private mutating func mark(_ mark: TrackRecord.Mark, _ stream: Int, _ time: WallTime) {
        withUnsafeBytes(of: mark.rawValue) { _ = enqueue(stream, 3, time, $0, always: true) }
    }

    private mutating func enqueue(_ stream: Int, _ kind: UInt8, _ arrival: WallTime, _ bytes: UnsafeRawBufferPointer, always: Bool = false) -> Bool {
        guard always || pending.count + bytes.count + Self.pendingHeadBytes <= Self.pendingBytesMax else { return false }
        withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { head in
            head.storeBytes(of: UInt16(stream).bigEndian, as: UInt16.self)
            head[2] = kind
            head.storeBytes(of: arrival.nanoseconds.bigEndian, toByteOffset: 3, as: Int64.self)
            head.storeBytes(of: UInt32(bytes.count).bigEndian, toByteOffset: 11, as: UInt32.self)
            pending.append(contentsOf: UnsafeRawBufferPointer(rebasing: head[..<Self.pendingHeadBytes]))
        }
        pending.append(contentsOf: bytes)
        return true
    }

    /// Hands over what was accepted since the last call.
    public mutating func takePending() -> [UInt8] {
        var taken: [UInt8] = []
        exchangePending(&taken)
        return taken
    }

    /// The same without new memory: `queue` is emptied and becomes the next queue, and holds what was accepted.
    public mutating func exchangePending(_ queue: inout [UInt8]) {
        queue.removeAll(keepingCapacity: true)
        swap(&pending, &queue)
    }

    // MARK: How it goes

    /// How each stream comes in at `now`, on the clock of the arrivals.
    public mutating func report(at now: WallTime) -> [StreamHealth.Report] { health.indices.map { health[$0].report(at: now) } }

    /// The key frames to ask for now, by stream; they then count as asked for.
    mutating func dueRequests(at now: WallTime) -> [(stream: Int, request: StreamHealth.Request)] {
        health.indices.flatMap { stream in health[stream].dueRequests(at: now).map { (stream, $0) } }
    }

    mutating func needKeyFrame(_ stream: Int, at now: WallTime, isLoss: Bool) { health[stream].needKeyFrame(at: now, isLoss: isLoss) }

    mutating func note(kernelDrops: Int, receiveBufferBytes: Int, port: UInt16, at now: WallTime) {
        let isMore = kernelDrops > kernelDropsAtPort[port] ?? 0
        if isMore { kernelDropsAtPort[port] = kernelDrops }
        for stream in demultiplexer.streams(atPort: port) {
            statistics[stream].receiveBufferBytes = receiveBufferBytes
            guard isMore else { continue }
            statistics[stream].kernelDrops = Set(ports[stream].flatMap { [$0.rtp, $0.rtcp] }).reduce(0) { $0 + (kernelDropsAtPort[$1] ?? 0) }
            // Whose packets they were nobody knows.
            health[stream].needKeyFrame(at: now, isLoss: true)
        }
    }

    /// `isOver`: the disk takes packets again.
    mutating func note(lostToStorage: Int, isOver: Bool, stream: Int, at now: WallTime) {
        if lostToStorage > statistics[stream].lostToStorage { losesToStorage.insert(stream) }
        statistics[stream].lostToStorage = lostToStorage
        if isOver, losesToStorage.remove(stream) != nil { health[stream].needKeyFrame(at: now, isLoss: true) }
    }
}
