import Media
import PacketLog
import RTP

/// The deciding half of a capture, live or imported: which stream, may it be kept, and the queue of what may.
///
/// Pure: datagrams and times go in, accepted records pile up in ``takePending()``. A gate is closed until it is opened; what comes before,
/// or from strangers, or fits no stream, is counted by its header and touched no further.
public struct CaptureCore: Sendable {
    /// Accepted bytes that may wait for the writer; beyond it packets are dropped and counted.
    public static let pendingBytesMax = 64 << 20
    /// stream (2), kind (1), arrival (8), length (4): all big-endian.
    static let pendingHeadBytes = 15

    private var demultiplexer: StreamDemultiplexer
    private var gates: [Bool]
    private var isPaused = false
    private let allowed: Set<IPAddress>
    private var pending: [UInt8] = []
    public private(set) var statistics: [StreamStatistics]
    /// Datagrams that fitted no stream at all.
    public private(set) var unknown = 0

    /// `allowed` empty: anybody may send.
    public init(media: [MediaDescription], ports: [(rtp: UInt16, rtcp: UInt16)], allowed: [IPAddress]) {
        demultiplexer = StreamDemultiplexer(media: media, ports: ports)
        gates = Array(repeating: false, count: media.count)
        statistics = Array(repeating: StreamStatistics(), count: media.count)
        self.allowed = Set(allowed)
    }

    public var pendingBytes: Int { pending.count }

    /// Takes one datagram. Returns the stream it was kept for, or nil.
    @discardableResult
    public mutating func receive(_ bytes: UnsafeRawBufferPointer, port: UInt16, source: IPAddress, arrival: WallTime, isTruncated: Bool = false) -> Int? {
        guard allowed.isEmpty || allowed.contains(source) else {
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
        guard gates[stream], !isPaused else {
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
        guard bytes.count >= 8 else {
            count(port) { $0.malformed += 1 }
            return nil
        }
        let sender = SSRC(rawValue: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        guard let stream = demultiplexer.stream(ofRTCP: sender, port: port) else {
            unknown += 1
            return nil
        }
        // Reports can name a person (SDES): they pass the same gate.
        guard gates[stream], !isPaused, enqueue(stream, 2, arrival, bytes) else { return nil }
        return stream
    }

    private mutating func count(_ port: UInt16, _ change: (inout StreamStatistics) -> Void) {
        let here = demultiplexer.streams(atPort: port)
        if here.count == 1 { change(&statistics[here[0]]) } else { unknown += 1 }
    }

    /// Opens or closes one stream's gate; a mark goes into its log. Returns whether anything changed.
    public mutating func setGate(_ isOpen: Bool, stream: Int, at time: WallTime) -> Bool {
        guard gates[stream] != isOpen else { return false }
        gates[stream] = isOpen
        mark(isOpen ? .gateOpened : .gateClosed, stream, time)
        return true
    }

    public func isOpen(_ stream: Int) -> Bool { gates[stream] && !isPaused }

    public mutating func setPaused(_ paused: Bool, at time: WallTime) {
        guard isPaused != paused else { return }
        isPaused = paused
        for stream in gates.indices where gates[stream] { mark(paused ? .paused : .resumed, stream, time) }
    }

    /// Closes every gate for good.
    public mutating func end(at time: WallTime) {
        for stream in gates.indices where gates[stream] { mark(.streamEnded, stream, time) }
        gates = gates.map { _ in false }
    }

    private mutating func mark(_ mark: TrackRecord.Mark, _ stream: Int, _ time: WallTime) {
        withUnsafeBytes(of: mark.rawValue) { _ = enqueue(stream, 3, time, $0, always: true) }
    }

    private mutating func enqueue(_ stream: Int, _ kind: UInt8, _ arrival: WallTime, _ bytes: UnsafeRawBufferPointer, always: Bool = false) -> Bool {
        guard always || pending.count + bytes.count + Self.pendingHeadBytes <= Self.pendingBytesMax else { return false }
        withUnsafeBytes(of: UInt16(stream).bigEndian) { pending.append(contentsOf: $0) }
        pending.append(kind)
        withUnsafeBytes(of: arrival.nanoseconds.bigEndian) { pending.append(contentsOf: $0) }
        withUnsafeBytes(of: UInt32(bytes.count).bigEndian) { pending.append(contentsOf: $0) }
        pending.append(contentsOf: bytes)
        return true
    }

    /// Hands over what was accepted since the last call; `empty` becomes the new queue, so that its memory is used again.
    public mutating func takePending(replacingWith empty: [UInt8] = []) -> [UInt8] {
        let taken = pending
        pending = empty
        pending.removeAll(keepingCapacity: true)
        return taken
    }

    mutating func note(kernelDrops: Int, receiveBufferBytes: Int, port: UInt16) {
        for stream in demultiplexer.streams(atPort: port) {
            statistics[stream].kernelDrops = max(statistics[stream].kernelDrops, kernelDrops)
            statistics[stream].receiveBufferBytes = receiveBufferBytes
        }
    }

    mutating func note(lostToStorage: Int, stream: Int) { statistics[stream].lostToStorage = lostToStorage }
}
