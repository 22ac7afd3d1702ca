import Media
import PacketLog
import RTP

/// The deciding half of a capture, live or imported: which stream, may it be kept, and the queue of what may.
///
/// Pure: datagrams and times go in, accepted records pile up in ``takePending()``. A gate is closed until it is opened; what comes before,
/// or from strangers, or fits no stream, is counted by its header and touched no further. What had arrived before an opening and is read
/// after it counts as before: see ``setGate(_:stream:at:arrivedFrom:)``.
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
    public private(set) var statistics: [StreamStatistics]
    /// Datagrams that fitted no stream at all.
    public private(set) var unknown = 0

    /// `allowed` empty: anybody may send.
    public init(media: [MediaDescription], ports: [(rtp: UInt16, rtcp: UInt16)], allowed: [IPAddress]) {
        demultiplexer = StreamDemultiplexer(media: media, ports: ports)
        gates = Array(repeating: Gate(), count: media.count)
        statistics = Array(repeating: StreamStatistics(), count: media.count)
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
        case .rtp: return receiveRTP(bytes, port, arrival)
        case .rtcp: return receiveRTCP(bytes, port, arrival)
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
        return stream
    }

    private mutating func receiveRTCP(_ bytes: UnsafeRawBufferPointer, _ port: UInt16, _ arrival: WallTime) -> Int? {
        // As with RTP: it is read to its end before it may be kept.
        guard bytes.count >= 8, (try? RTCPPacket.parse(bytes)) != nil else {
            count(port) { $0.malformed += 1 }
            return nil
        }
        let sender = SSRC(rawValue: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        guard let stream = demultiplexer.stream(ofRTCP: sender, port: port) else {
            unknown += 1
            return nil
        }
        // Reports can name a person (SDES): they pass the same gate.
        guard passes(stream, gates[stream].rtcpFrom, arrival), enqueue(stream, 2, arrival, bytes) else { return nil }
        return stream
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

    mutating func note(kernelDrops: Int, receiveBufferBytes: Int, port: UInt16) {
        for stream in demultiplexer.streams(atPort: port) {
            statistics[stream].kernelDrops = max(statistics[stream].kernelDrops, kernelDrops)
            statistics[stream].receiveBufferBytes = receiveBufferBytes
        }
    }

    mutating func note(lostToStorage: Int, stream: Int) { statistics[stream].lostToStorage = lostToStorage }
}
