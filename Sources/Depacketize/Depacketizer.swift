import Media
import RTP

/// The second pass: packets to access units with wall times, in order.
///
/// Each SSRC has a ``Substream`` of its own, so that layers, re-joins and collisions do not disturb each other; retransmissions and
/// redundant copies go into the place of what they repair. Memory is bounded by the reorder windows and one frame per SSRC. Time never
/// goes back; an epoch that overlaps the one before loses its overlap.
///
/// | packet of | goes to | gives |
/// |---|---|---|
/// | sound | its SSRC's reorder buffer | one unit, if its SSRC is the one that is heard |
/// | pictures | its SSRC's reorder buffer, then its format's assembler | frames, if its SSRC is the layer that is shown |
/// | RED (RFC 2198) | its SSRC's reorder buffer, block by block | as its primary block |
/// | RTX (RFC 4588) | the repaired SSRC's reorder buffer | as the packet that was lost |
/// | telephone-event (RFC 4733) | its SSRC's reorder buffer | a tone in the verdict |
/// | comfort noise, parity | its SSRC's reorder buffer, for its number | nothing |
public struct Depacketizer: Sendable {
    /// A mapped time this far before or after the arrival is an outlier: no media waits a minute, and none comes from the future.
    static let behindMax = Nanoseconds.seconds(60)
    static let aheadMax = Nanoseconds.seconds(2)
    /// SSRCs that are followed at the same time; beyond it the one that was silent longest is forgotten.
    static let substreamsMax = 64

    let types: PayloadTypes
    let format: TrackFormat
    let timeline: TrackTimeline
    private let extensions: ExtensionReader
    /// Of the dependency descriptor, where it was announced.
    let descriptorID: UInt8?
    /// The epochs of each SSRC, for a substream that begins.
    private let epochs: [SSRC: [(firstRecord: Int, place: Int)]]
    var substreams: [SSRC: Substream] = [:]
    private var records = 0
    /// The SSRC that is heard or shown.
    var current: SSRC?
    var notes: VerdictNotes
    var sound = SoundNotes()
    /// Pictures of layers, in the order of capture, until it is clear which are shown.
    let isLayered: Bool
    var held: [HeldFrame] = []
    /// Arrival of the newest packet.
    var now = WallTime(nanoseconds: 0)
    /// A switch of layers may nudge times that are close to those of the layer before.
    var switchedAt: WallTime?
    /// What substreams that were forgotten had lost.
    private var lostBefore = 0
    private var droppedBefore = 0
    private var malformedBefore = 0
    private var unsupported: Set<String> = []
    /// The last packet with this extension, for pictures between which it is not repeated.
    var rotations: [SSRC: Int] = [:]

    public init(format: TrackFormat, timeline: TrackTimeline) {
        (self.format, self.timeline) = (format, timeline)
        types = PayloadTypes(format)
        isLayered = format.kind != .audio && Self.isLayered(timeline)
        extensions = ExtensionReader(format.extensions)
        descriptorID = format.extensions.first { $0.value == VideoFormats.dependencyDescriptorURI }?.key
        epochs = Dictionary(grouping: timeline.epochs.enumerated(), by: \.element.ssrc).mapValues { $0.map { ($0.element.firstRecord, $0.offset) } }
        notes = VerdictNotes(timeline, isLayered: isLayered)
        // A list with at least one codec that can be read is tried.
        if types.supported.isEmpty { notes.verdict.unsupported = Set(types.unsupported.map(\.description)).sorted().joined(separator: ", ") }
    }

    /// Whether access units of this codec can be put together.
    public static func isSupported(_ codec: Codec) -> Bool { AudioFormats.isSupported(codec) || VideoFormats.isSupported(codec) }

    /// What was found so far; complete after ``finish(emit:)``.
    public var verdict: TrackVerdict {
        var verdict = notes.verdict
        verdict.lost = lostBefore + substreams.values.reduce(0) { $0 + $1.buffer.lost }
        verdict.droppedUnits += droppedBefore + substreams.values.reduce(0) { $0 + $1.dropped }
        verdict.malformed += malformedBefore + substreams.values.reduce(0) { $0 + $1.malformed }
        if verdict.unsupported == nil, !unsupported.isEmpty { verdict.unsupported = unsupported.sorted().joined(separator: ", ") }
        return verdict
    }

    public mutating func push(_ record: TrackRecord, emit: (TrackEvent) throws -> Void) rethrows {
        switch record {
        case .rtcp: return
        case .mark(let time, let mark): try take(mark, time, emit)
        case .rtp(let arrival, let bytes):
            defer { records += 1 }
            now = arrival
            notes.verdict.packets += 1
            guard let header = bytes.withUnsafeBytes({ try? RTPHeader($0) }) else {  // counted here, named nowhere: it is noise
                notes.verdict.malformed += 1
                return
            }
            try route(header, bytes, arrival, emit)
            if isLayered { try showHeld(upTo: arrival - Self.holdTime, emit) }
        }
    }

    public mutating func finish(emit: (TrackEvent) throws -> Void) rethrows {
        try drainAll(emit)
        notes.finish()
    }

    // MARK: To the substreams

    private mutating func route(_ header: RTPHeader, _ bytes: [UInt8], _ arrival: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        let read = bytes.withUnsafeBytes { extensions.read(header, in: $0) }
        switch types[header.payloadType] {
        case .unknown: notes.verdict.malformed += 1
        case .unsupported(let codec): if unsupported.count < 16 { unsupported.insert(codec.description) }
        case .retransmission(let apt): try takeRetransmission(header, apt, bytes, arrival, read, emit)
        case .picture, .sound, .redundant, .tone, .noise, .filler:
            guard let codec = format.codecs[header.payloadType] else { return }
            try enter(header.ssrc, emit)
            guard let epoch = substreams[header.ssrc]?.epoch else { return }
            let packet = TrackPacket(sequence: 0, epoch: epoch, arrival: arrival, marker: header.marker, timestamp: header.timestamp, codec: codec, payloadType: header.payloadType,
                                     bytes: bytes, payload: header.payload, extensions: read)
            try take(packet, header.sequenceNumber, header.ssrc, emit)
        }
    }

    private mutating func take(_ packet: TrackPacket, _ number: UInt16, _ ssrc: SSRC, _ emit: (TrackEvent) throws -> Void) rethrows {
        // In place, here and below: a copy would make the frame in progress be copied with every packet.
        guard let (numbered, beganAnew) = substreams[ssrc]?.receive(packet, number, record: records) else { return }
        if beganAnew {
            try drain(ssrc, emit)
            substreams[ssrc]?.buffer.restart()
        }
        for packet in numbered {
            guard case .redundant = types[packet.payloadType] else {
                insert(packet, ssrc)
                continue
            }
            for block in unpacked(packet, ssrc) { insert(block, ssrc) }
        }
        // Time passes for the others, too: what an SSRC that is gone waited for in vain comes before what its successor sends.
        guard substreams.count > 1 else { return try pop(ssrc, packet.arrival, emit) }
        for ssrc in waiting { try pop(ssrc, packet.arrival, emit) }
    }

    /// The payloads in a redundant packet: earlier ones under the numbers before it (RFC 2198 section 4), its own last.
    private mutating func unpacked(_ packet: TrackPacket, _ ssrc: SSRC) -> [TrackPacket] {
        let blocks = packet.bytes.withUnsafeBytes { RedundantAudio.blocks(UnsafeRawBufferPointer(rebasing: $0[packet.payload])) }
        guard let blocks else {
            notes.verdict.malformed += 1
            return []
        }
        return blocks.enumerated().compactMap { place, block in
            // Nothing is redundant twice.
            guard let codec = format.codecs[block.payloadType], types[block.payloadType] != .redundant else { return nil }
            var inner = packet
            (inner.codec, inner.payloadType) = (codec, block.payloadType)
            inner.payload = packet.payload.lowerBound + block.range.lowerBound..<packet.payload.lowerBound + block.range.upperBound
            inner.timestamp = packet.timestamp &- UInt32(block.timestampOffset)
            inner.sequence = packet.sequence - Int64(blocks.count - 1 - place)
            if place < blocks.count - 1 {
                // What was sent before the sender's clock jumped has no place on this side of it.
                guard substreams[ssrc]?.precedesEpoch(inner, timeline) == false else { return nil }
                (inner.origin, inner.marker) = (.redundancy, false)
                inner.extensions = PacketExtensions()
            }
            return inner
        }
    }

    private mutating func takeRetransmission(_ header: RTPHeader, _ apt: UInt8, _ bytes: [UInt8], _ arrival: WallTime, _ read: PacketExtensions,
                                             _ emit: (TrackEvent) throws -> Void) rethrows {
        guard let codec = format.codecs[apt], let ssrc = repaired(by: header, read, bytes),
              let restored = bytes.withUnsafeBytes({ Retransmission.restored(header, in: $0, apt: apt, ssrc: ssrc) }) else { return }  // a probe, or of nobody
        guard let epoch = substreams[ssrc]?.epoch, let sequence = substreams[ssrc]?.extended(restored.sequenceNumber) else { return }
        var packet = TrackPacket(sequence: sequence, epoch: epoch, arrival: arrival, marker: restored.marker, timestamp: restored.timestamp,
                                 codec: codec, payloadType: apt, bytes: bytes, payload: restored.payload, extensions: read)
        packet.origin = .retransmission
        insert(packet, ssrc)
        try pop(ssrc, arrival, emit)
    }

    /// Whose packet is sent again: as announced, by the name of the encoding, or the only one that misses this number.
    private func repaired(by header: RTPHeader, _ read: PacketExtensions, _ bytes: [UInt8]) -> SSRC? {
        if let announced = format.repairs[header.ssrc.rawValue] { return SSRC(rawValue: announced) }
        if let name = read.repairedRid, let named = substreams.first(where: { $0.value.rid == name }) { return named.key }
        guard header.payload.count >= 2 else { return nil }
        let number = UInt16(bytes[header.payload.lowerBound]) << 8 | UInt16(bytes[header.payload.lowerBound + 1])
        let missing = substreams.filter { $0.value.buffer.isMissing($0.value.extended(number)) }
        return missing.count == 1 ? missing.first?.key : nil
    }

    private mutating func insert(_ packet: TrackPacket, _ ssrc: SSRC) {
        switch (substreams[ssrc]?.buffer.insert(packet), packet.origin) {
        case (.inTime, .retransmission): notes.verdict.recoveredByRetransmission += 1
        case (.inTime, .redundancy): notes.verdict.recoveredByRedundancy += 1
        case (.duplicate, .itself): notes.verdict.duplicates += 1
        case (.late, .itself), (.late, .retransmission): notes.verdict.late += 1
        case (.superseded(.retransmission), _): notes.verdict.recoveredByRetransmission -= 1
        case (.superseded(.redundancy), _): notes.verdict.recoveredByRedundancy -= 1
        default: break  // a copy of what is there already is what copies are for
        }
    }

    /// Makes sure that the SSRC has a substream, in the epoch that this record belongs to (none before its first).
    private mutating func enter(_ ssrc: SSRC, _ emit: (TrackEvent) throws -> Void) rethrows {
        if substreams[ssrc] == nil {
            if substreams.count >= Self.substreamsMax, let oldest = substreams.min(by: { ($0.value.lastRecord, $0.key.rawValue) < ($1.value.lastRecord, $1.key.rawValue) })?.key {
                try drain(oldest, emit)
                if let gone = substreams.removeValue(forKey: oldest) {
                    lostBefore += gone.buffer.lost
                    droppedBefore += gone.dropped
                    malformedBefore += gone.malformed
                }
                rotations[oldest] = nil
            }
            substreams[ssrc] = Substream(epochs: epochs[ssrc] ?? [])
        }
        substreams[ssrc]?.enter(record: records)
    }

    // MARK: Out of the substreams

    private mutating func pop(_ ssrc: SSRC, _ now: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        while let packet = substreams[ssrc]?.buffer.pop(now: now) { try give(packet, ssrc, emit) }
    }

    private mutating func drain(_ ssrc: SSRC, _ emit: (TrackEvent) throws -> Void) rethrows {
        for packet in substreams[ssrc]?.buffer.drain() ?? [] { try give(packet, ssrc, emit) }
        try giveOpenFrames(ssrc, emit)
        giveTones(ssrc)
    }

    /// The SSRCs whose packets wait, by how long.
    private var waiting: [SSRC] {
        substreams.compactMap { ssrc, substream in substream.buffer.firstArrival.map { (arrival: $0, ssrc: ssrc) } }
            .sorted { ($0.arrival, $0.ssrc.rawValue) < ($1.arrival, $1.ssrc.rawValue) }.map(\.ssrc)
    }

    /// The SSRCs, those first that were silent longest.
    private var inOrder: [SSRC] { substreams.sorted { ($0.value.lastRecord, $0.key.rawValue) < ($1.value.lastRecord, $1.key.rawValue) }.map(\.key) }

    private mutating func drainAll(_ emit: (TrackEvent) throws -> Void) rethrows {
        for ssrc in inOrder { try drain(ssrc, emit) }
        try showHeld(upTo: WallTime(nanoseconds: .max), emit)
    }

    private mutating func take(_ mark: TrackRecord.Mark, _ time: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        try drainAll(emit)
        // What did not pass the gate is not lost: numbering starts anew when it opens.
        for ssrc in substreams.keys {
            substreams[ssrc]?.restart()
            substreams[ssrc]?.assembler?.formats.lose()
        }
        notes.interrupt()
        sound.interrupt()
        switch mark {
        case .gateClosed, .paused, .streamEnded: try emit(.blank(time))
        case .gateOpened, .resumed: return
        }
    }

    private mutating func give(_ packet: TrackPacket, _ ssrc: SSRC, _ emit: (TrackEvent) throws -> Void) rethrows {
        let isFiller = switch types[packet.payloadType] { case .sound, .picture: packet.payload.isEmpty; default: true }
        var packet = packet
        guard let (epoch, timestamp, time) = substreams[ssrc]?.place(&packet, isFiller: isFiller, timeline) else {
            notes.verdict.outliers += 1
            return
        }
        switch types[packet.payloadType] {
        case .sound(let codec): try giveSound(packet, codec, time, ssrc, epoch, emit)
        case .picture(let codec): try givePicture(packet, codec, timestamp, ssrc, epoch, emit)
        case .tone(let clockRate): takeTone(packet, timestamp, clockRate, ssrc, epoch)
        case .noise, .filler, .redundant, .retransmission, .unsupported, .unknown: return
        }
    }
}
