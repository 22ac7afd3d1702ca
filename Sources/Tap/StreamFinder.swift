import Media
import RTP

/// Finds the RTP streams in a capture without being told by an SDP. Pure: datagrams go in, ``flows`` come out.
///
/// One packet proves nothing. A stream is what has one SSRC from one address and port to another, version 2, and at least five packets whose
/// numbers go on by small steps with time stamps that could be true (RFC 7983 and RFC 5761 tell other protocols apart first).
public struct StreamFinder: Sendable {
    static let runMin = 5
    static let candidatesMax = 4_096
    static let payloadTypesMax = 16
    /// Numbers may be missing, but not many at a time.
    static let stepMax = 100
    /// Between two packets, in ticks of the fastest clock: a minute.
    static let ticksMax = 90_000 * 60

    /// How a codec is known.
    public enum Evidence: String, Hashable, Sendable {
        /// An SDP in the capture says so.
        case announced = "announced by an SDP in the capture"
        /// The payload type is assigned (RFC 3551 section 6).
        case assigned = "by its payload type"
        case guessed = "guessed from what the packets look like"
        case unknown = "codec unknown"
    }

    public struct Payload: Hashable, Sendable {
        public var type: UInt8
        public var packets: Int
        public var codec: Codec?
        public var evidence: Evidence
    }

    public struct Flow: Hashable, Sendable {
        public var destinationPort: UInt16
        public var ssrc: SSRC
        public var packets: Int
        public var first: WallTime
        public var last: WallTime
        /// Most packets first.
        public var payloads: [Payload]
    }

    private struct Key: Hashable, Sendable {
        var source: IPAddress
        var sourcePort: UInt16
        var destination: IPAddress
        var destinationPort: UInt16
        var ssrc: SSRC
    }

    fileprivate struct Candidate: Sendable {
        var packets = 0
        var first: WallTime
        var last: WallTime
        var sequence: UInt16
        var timestamp: UInt32
        var run = 1
        var isStream = false
        /// What the time stamps went on by, for the clock rate.
        var ticks: Int64 = 0
        var payloads: [UInt8: PayloadEvidence] = [:]
    }

    public private(set) var sessions = SessionFinder()
    private var candidates: [Key: Candidate] = [:]
    /// There is no room, and looking for some again before this would be a pass over all for each packet of noise.
    private var fullUntil: WallTime?
    /// Datagrams that were RTP and belonged to no stream that was found, or to one too many.
    public private(set) var overlooked = 0

    public init() {}

    public mutating func take(_ datagram: CapturedDatagram) {
        datagram.payload.withUnsafeBytes { bytes in
            // What does not parse is no RTP: nothing to be said about it.
            guard DatagramClass(bytes) == .rtp, let header = try? RTPHeader(bytes), !(64...95).contains(header.payloadType) else {
                _ = sessions.take(datagram.payload)
                return
            }
            let key = Key(source: datagram.source, sourcePort: datagram.sourcePort, destination: datagram.destination, destinationPort: datagram.destinationPort, ssrc: header.ssrc)
            guard candidates[key] != nil || makeRoom(datagram.arrival) else {
                overlooked += 1
                return
            }
            let fresh = Candidate(first: datagram.arrival, last: datagram.arrival, sequence: header.sequenceNumber, timestamp: header.timestamp)
            candidates[key, default: fresh].take(header, UnsafeRawBufferPointer(rebasing: bytes[header.payload]), datagram.arrival)
        }
    }

    /// Noise makes candidates by the thousand: those that came to nothing for 10 s give way.
    private mutating func makeRoom(_ now: WallTime) -> Bool {
        guard candidates.count >= Self.candidatesMax else { return true }
        guard fullUntil.map({ now >= $0 }) ?? true else { return false }
        fullUntil = now + .seconds(1)
        let before = candidates.count
        candidates = candidates.filter { $0.value.isStream || now - $0.value.last <= .seconds(10) }
        overlooked += before - candidates.count
        return candidates.count < Self.candidatesMax
    }

    /// What was found so far, in the order of their first packets.
    public var flows: [Flow] {
        candidates.filter(\.value.isStream).map { key, found in
            let seconds = (found.last - found.first).seconds
            let rate = seconds >= 1 ? Double(found.ticks) / seconds : nil
            let payloads = found.payloads.map { type, evidence in payload(type, evidence, at: key.destinationPort, rate) }
            return Flow(destinationPort: key.destinationPort, ssrc: key.ssrc, packets: found.packets, first: found.first, last: found.last,
                        payloads: payloads.sorted { ($1.packets, $0.type) < ($0.packets, $1.type) })
        }.sorted { ($0.first, $0.destinationPort, $0.ssrc.rawValue) < ($1.first, $1.destinationPort, $1.ssrc.rawValue) }
    }

    private func payload(_ type: UInt8, _ evidence: PayloadEvidence, at port: UInt16, _ rate: Double?) -> Payload {
        if let codec = sessions.announced[port]?.codecs[type] { return Payload(type: type, packets: evidence.packets, codec: codec, evidence: .announced) }
        if let codec = Self.assigned[type] { return Payload(type: type, packets: evidence.packets, codec: codec, evidence: .assigned) }
        let guess = type >= 96 ? evidence.guess(clockRate: rate) : nil
        return Payload(type: type, packets: evidence.packets, codec: guess, evidence: guess == nil ? .unknown : .guessed)
    }

    /// RFC 3551 section 6, tables 4 and 5.
    private static let assigned: [UInt8: Codec] = {
        func audio(_ name: String, _ rate: Int = 8_000, _ channels: Int = 1) -> Codec { Codec(name: name, clockRate: rate, channels: channels) }
        return [0: audio("PCMU"), 3: audio("GSM"), 4: audio("G723"), 5: audio("DVI4"), 6: audio("DVI4", 16_000), 7: audio("LPC"), 8: audio("PCMA"), 9: audio("G722"),
                10: audio("L16", 44_100, 2), 11: audio("L16", 44_100), 12: audio("QCELP"), 13: audio("CN"), 14: audio("MPA", 90_000), 15: audio("G728"), 18: audio("G729"),
                25: audio("CelB", 90_000), 26: audio("JPEG", 90_000), 28: audio("nv", 90_000), 31: audio("H261", 90_000), 32: audio("MPV", 90_000),
                33: audio("MP2T", 90_000), 34: audio("H263", 90_000)]
    }()
}

extension StreamFinder.Candidate {
    fileprivate mutating func take(_ header: RTPHeader, _ payload: UnsafeRawBufferPointer, _ arrival: WallTime) {
        packets += 1
        last = max(last, arrival)
        let step = Int(Int16(bitPattern: header.sequenceNumber &- sequence))
        let ticks = Int(Int32(bitPattern: header.timestamp &- timestamp))
        if packets > 1, step > 0 || step < -StreamFinder.stepMax {
            let goesOn = step > 0 && step <= StreamFinder.stepMax && abs(ticks) <= StreamFinder.ticksMax
            run = goesOn ? run + 1 : 1
            if goesOn { self.ticks &+= Int64(ticks) }
            (sequence, timestamp) = (header.sequenceNumber, header.timestamp)
        }
        isStream = isStream || run >= StreamFinder.runMin
        if payloads[header.payloadType] != nil || payloads.count < StreamFinder.payloadTypesMax {
            payloads[header.payloadType, default: PayloadEvidence()].take(payload, sequence: header.sequenceNumber, timestamp: header.timestamp)
        }
    }
}
