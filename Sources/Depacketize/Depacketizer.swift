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
    private(set) var timeline: TrackTimeline
    private let extensions: ExtensionReader
    /// Of the dependency descriptor, where it was announced.
    let descriptorID: UInt8?
    /// The epochs of each SSRC, for a substream that begins.
    private var epochs: [SSRC: [(firstRecord: Int, place: Int)]]
    var substreams = Substreams()
    private var records = 0
    /// The SSRC that is heard or shown.
    var current: SSRC?
    var notes: VerdictNotes
    var sound = SoundNotes()
    /// Pictures of layers, in the order of capture, until it is clear which are shown.
    private(set) var isLayered: Bool
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
        epochs = Self.places(timeline.epochs)
        notes = VerdictNotes(timeline, isLayered: isLayered)
        // A list with at least one codec that can be read is tried.
        if types.supported.isEmpty { notes.verdict.unsupported = Set(types.unsupported.map(\.description)).sorted().joined(separator: ", ") }
    }

    private static func places(_ epochs: [TrackTimeline.Epoch]) -> [SSRC: [(firstRecord: Int, place: Int)]] {
        Dictionary(grouping: epochs.enumerated(), by: \.element.ssrc).mapValues { $0.map { ($0.element.firstRecord, $0.offset) } }
    }

    /// Takes a timeline that knows more: of the epochs there were only the clocks may differ, and those that are added begin with records that
    /// were not pushed yet. Whether there are layers is settled by the first that has epochs.
    mutating func extend(_ timeline: TrackTimeline) {
        if self.timeline.epochs.isEmpty { isLayered = format.kind != .audio && Self.isLayered(timeline) }
        self.timeline = timeline
        epochs = Self.places(timeline.epochs)
        for place in substreams.places { substreams[place].extend(epochs[substreams.ssrcs[place]] ?? []) }
        notes.take(timeline, isLayered: isLayered)
    }

    /// Nothing that arrived before `now` is missing any more: what waited for it in vain is given out.
    mutating func pass(to now: WallTime, emit: (TrackEvent) throws -> Void) rethrows {
        self.now = max(self.now, now)
        for place in substreams.byFirstArrival { try pop(place, self.now, emit) }
        if isLayered { try showHeld(upTo: self.now - Self.holdTime, emit) }
    }

    /// Whether access units of this codec can be put together.
    public static func isSupported(_ codec: Codec) -> Bool { AudioFormats.isSupported(codec) || VideoFormats.isSupported(codec) }

    /// What was found so far; complete after ``finish(emit:)``.
    public var verdict: TrackVerdict {
        var verdict = notes.verdict
        verdict.lost = lostBefore + substreams.places.reduce(0) { $0 + substreams[$1].buffer.lost }
        verdict.droppedUnits += droppedBefore + substreams.places.reduce(0) { $0 + substreams[$1].dropped }
        verdict.malformed += malformedBefore + substreams.places.reduce(0) { $0 + substreams[$1].malformed }
        if verdict.unsupported == nil, !unsupported.isEmpty { verdict.unsupported = unsupported.sorted().joined(separator: ", ") }
        return verdict
    }

    public mutating func push(_ record: TrackRecord, emit: (TrackEvent) throws -> Void) rethrows {
        try record.lend { try push(lent: $0, emit: emit) }
    }

    /// The same; of the bytes only what has to wait is copied.
    public mutating func push(lent record: LentRecord, emit: (TrackEvent) throws -> Void) rethrows {
        switch record {
        case .rtcp: return
        case .mark(let time, let mark): try take(mark, time, emit)
        case .rtp(let arrival, let bytes):
            defer { records += 1 }
            now = arrival
            notes.verdict.packets += 1
            guard let header = try? RTPHeader(bytes) else {  // counted here, named nowhere: it is noise
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

    private mutating func route(_ header: RTPHeader, _ bytes: UnsafeRawBufferPointer, _ arrival: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        let read = extensions.read(header, in: bytes)
        switch types[header.payloadType] {
        case .unknown: notes.verdict.malformed += 1
        case .unsupported(let codec): if unsupported.count < 16 { unsupported.insert(codec.description) }
        case .retransmission(let apt): try takeRetransmission(header, apt, Array(bytes), arrival, read, emit)
        case .picture, .sound, .redundant, .tone, .noise, .filler:
            let place = try enter(header.ssrc, emit)
            guard let epoch = substreams[place].epoch else { return }
            var packet = TrackPacket(sequence: 0, epoch: epoch, arrival: arrival, marker: header.marker, timestamp: header.timestamp, payloadType: header.payloadType, bytes: [],
                                     payload: header.payload, extensions: read)
            // Mostly it is the next one and nothing waits: then it goes on at once, and its bytes stay where they are.
            if !types.isRedundant(header.payloadType), !substreams.areWaiting, substreams[place].passes(&packet, header.sequenceNumber, record: records) {
                return try give(&packet, bytes, place, emit)
            }
            packet.bytes = Array(bytes)
            try take(packet, header.sequenceNumber, place, emit)
        }
    }

    private mutating func take(_ packet: TrackPacket, _ number: UInt16, _ place: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        let (numbered, beganAnew) = substreams[place].receive(packet, number, record: records)
        if beganAnew {
            try drain(place, emit)
            substreams[place].buffer.restart()
        }
        for packet in numbered {
            guard types.isRedundant(packet.payloadType) else {
                insert(packet, place)
                continue
            }
            for block in unpacked(packet, place) { insert(block, place) }
        }
        // Time passes for the others, too: what an SSRC that is gone waited for in vain comes before what its successor sends.
        guard substreams.count > 1 else { return try pop(place, packet.arrival, emit) }
        for place in substreams.byFirstArrival { try pop(place, packet.arrival, emit) }
    }

    /// The payloads in a redundant packet: earlier ones under the numbers before it (RFC 2198 section 4), its own last.
    private mutating func unpacked(_ packet: TrackPacket, _ place: Int) -> [TrackPacket] {
        let blocks = packet.bytes.withUnsafeBytes { RedundantAudio.blocks(UnsafeRawBufferPointer(rebasing: $0[packet.payload])) }
        guard let blocks else {
            notes.verdict.malformed += 1
            return []
        }
        return blocks.enumerated().compactMap { number, block in
            // Nothing is redundant twice.
            guard format.codecs[block.payloadType] != nil, !types.isRedundant(block.payloadType) else { return nil }
            var inner = packet
            inner.payloadType = block.payloadType
            inner.payload = packet.payload.lowerBound + block.range.lowerBound..<packet.payload.lowerBound + block.range.upperBound
            inner.timestamp = packet.timestamp &- UInt32(block.timestampOffset)
            inner.sequence = packet.sequence - Int64(blocks.count - 1 - number)
            if number < blocks.count - 1 {
                // What was sent before the sender's clock jumped has no place on this side of it.
                guard !substreams[place].precedesEpoch(inner, timeline) else { return nil }
                (inner.origin, inner.marker) = (.redundancy, false)
                inner.extensions = PacketExtensions()
            }
            return inner
        }
    }

    private mutating func takeRetransmission(_ header: RTPHeader, _ apt: UInt8, _ bytes: [UInt8], _ arrival: WallTime, _ read: PacketExtensions,
                                             _ emit: (TrackEvent) throws -> Void) rethrows {
        guard format.codecs[apt] != nil, let place = repaired(by: header, read, bytes),
              let restored = bytes.withUnsafeBytes({ Retransmission.restored(header, in: $0, apt: apt, ssrc: substreams.ssrcs[place]) }) else { return }  // a probe, or of nobody
        guard let epoch = substreams[place].epoch else { return }
        var packet = TrackPacket(sequence: substreams[place].extended(restored.sequenceNumber), epoch: epoch, arrival: arrival, marker: restored.marker,
                                 timestamp: restored.timestamp, payloadType: apt, bytes: bytes, payload: restored.payload, extensions: read)
        packet.origin = .retransmission
        insert(packet, place)
        try pop(place, arrival, emit)
    }

    /// Whose packet is sent again: as announced, by the name of the encoding, or the only one that misses this number.
    private func repaired(by header: RTPHeader, _ read: PacketExtensions, _ bytes: [UInt8]) -> Int? {
        if let announced = format.repairs[header.ssrc.rawValue] { return substreams.place(of: SSRC(rawValue: announced)) }
        if let name = read.repairedRid, let named = substreams.places.first(where: { substreams[$0].rid == name }) { return named }
        guard header.payload.count >= 2 else { return nil }
        let number = UInt16(bytes[header.payload.lowerBound]) << 8 | UInt16(bytes[header.payload.lowerBound + 1])
        let missing = substreams.places.filter { substreams[$0].buffer.isMissing(substreams[$0].extended(number)) }
        return missing.count == 1 ? missing.first : nil
    }

    private mutating func insert(_ packet: TrackPacket, _ place: Int) {
        switch (substreams[place].buffer.insert(packet), packet.origin) {
        case (.inTime, .retransmission): notes.verdict.recoveredByRetransmission += 1
        case (.inTime, .redundancy): notes.verdict.recoveredByRedundancy += 1
        case (.duplicate, .itself): notes.verdict.duplicates += 1
        case (.late, .itself), (.late, .retransmission): notes.verdict.late += 1
        case (.superseded(.retransmission), _): notes.verdict.recoveredByRetransmission -= 1
        case (.superseded(.redundancy), _): notes.verdict.recoveredByRedundancy -= 1
        default: break  // a copy of what is there already is what copies are for
        }
    }

    /// The place of the SSRC, which gets one if it has none, in the epoch that this record belongs to (none before its first).
    private mutating func enter(_ ssrc: SSRC, _ emit: (TrackEvent) throws -> Void) rethrows -> Int {
        let place: Int
        if let known = substreams.place(of: ssrc) {
            place = known
        } else if substreams.count < Self.substreamsMax {
            place = substreams.append(ssrc, Substream(epochs: epochs[ssrc] ?? []))
        } else {
            place = substreams.byLastRecord[0]
            try drain(place, emit)
            lostBefore += substreams[place].buffer.lost
            droppedBefore += substreams[place].dropped
            malformedBefore += substreams[place].malformed
            rotations[substreams.ssrcs[place]] = nil
            substreams.replace(at: place, ssrc, Substream(epochs: epochs[ssrc] ?? []))
        }
        substreams[place].enter(record: records)
        return place
    }

    // MARK: Out of the substreams

    private mutating func pop(_ place: Int, _ now: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        while var packet = substreams[place].buffer.pop(now: now) { try give(&packet, place, emit) }
    }

    private mutating func drain(_ place: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        for var packet in substreams[place].buffer.drain() { try give(&packet, place, emit) }
        try giveOpenFrames(place, emit)
        giveTones(place)
    }

    private mutating func drainAll(_ emit: (TrackEvent) throws -> Void) rethrows {
        for place in substreams.byLastRecord { try drain(place, emit) }
        try showHeld(upTo: WallTime(nanoseconds: .max), emit)
    }

    private mutating func take(_ mark: TrackRecord.Mark, _ time: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        try drainAll(emit)
        // What did not pass the gate is not lost: numbering starts anew when it opens.
        for place in substreams.places {
            substreams[place].restart()
            substreams[place].assembler?.formats.lose()
        }
        notes.interrupt()
        sound.interrupt()
        switch mark {
        case .gateClosed, .paused, .streamEnded: try emit(.blank(time))
        case .gateOpened, .resumed: return
        }
    }

    private mutating func give(_ packet: inout TrackPacket, _ place: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        let bytes = packet.bytes
        try bytes.withUnsafeBytes { try give(&packet, $0, place, emit) }
    }

    /// `bytes` are the packet's, wherever they lie.
    private mutating func give(_ packet: inout TrackPacket, _ bytes: UnsafeRawBufferPointer, _ place: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        let role = types[packet.payloadType]
        let isFiller = switch role { case .sound, .picture: packet.payload.isEmpty; default: true }
        guard let (epoch, timestamp, time) = substreams[place].place(&packet, isFiller: isFiller, timeline) else {
            notes.verdict.outliers += 1
            return
        }
        switch role {
        case .sound(let codec): try giveSound(packet, bytes, codec, time, epoch, emit)
        case .picture(let codec): try givePicture(packet, bytes, codec, timestamp, place, epoch, emit)
        case .tone(let clockRate): takeTone(packet, bytes, timestamp, clockRate, place, epoch)
        case .noise, .filler, .redundant, .retransmission, .unsupported, .unknown: return
        }
    }
}
