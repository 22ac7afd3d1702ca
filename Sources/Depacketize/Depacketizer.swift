import Media
import RTP

/// The second pass: packets to access units with wall times, in order.
///
/// Memory is bounded by the reorder window and one frame. Time never goes back; an epoch that overlaps the one before loses its overlap.
public struct Depacketizer {
    /// A mapped time this far before or after the arrival is an outlier: no media waits a minute, and none comes from the future.
    static let behindMax = Nanoseconds.seconds(60)
    static let aheadMax = Nanoseconds.seconds(2)
    /// A pause between two access units of at least this is a gap in the verdict.
    static let gapMin = Nanoseconds.seconds(1)
    /// Louder than this (-dBov), or flagged as voice, counts as speech; pauses up to the hangover belong to it.
    static let speechLevel: UInt8 = 45
    static let speechHangover = Nanoseconds.milliseconds(600)

    private let format: TrackFormat
    private let timeline: TrackTimeline
    private let levelID: UInt8?
    private var buffer = ReorderBuffer()
    private var assembler = VP8Assembler()
    private var sequences = SequenceExtender()
    private var timestamps = TimestampExtender()
    private var epoch: Int?
    private var records = 0
    private var lastTime: WallTime?
    private var lastEnd: WallTime?
    private var lastKey: WallTime?
    private var verdictSoFar = TrackVerdict()

    public init(format: TrackFormat, timeline: TrackTimeline) {
        self.format = format
        self.timeline = timeline
        levelID = format.extensions.first { $0.value == AudioLevel.uri }?.key
        verdictSoFar.epochs = timeline.epochs.count
        verdictSoFar.driftPPM = timeline.epochs.last { $0.driftPPM != nil }?.driftPPM
        // A list with at least one codec that can be read is tried.
        let codecs = Set(format.codecs.values)
        if !codecs.contains(where: Self.isSupported) {
            verdictSoFar.unsupported = codecs.map(\.description).sorted().joined(separator: ", ")
        }
    }

    /// Whether access units of this codec can be put together.
    public static func isSupported(_ codec: Codec) -> Bool { codec.name == "opus" || codec.name == "vp8" }

    /// What was found so far; complete after ``finish(emit:)``.
    public var verdict: TrackVerdict {
        var verdict = verdictSoFar
        verdict.lost = buffer.lost
        verdict.droppedUnits += assembler.dropped
        return verdict
    }

    public mutating func push(_ record: TrackRecord, emit: (TrackEvent) throws -> Void) rethrows {
        switch record {
        case .rtcp: return
        case .mark(let time, let mark): try take(mark, time, emit)
        case .rtp(let arrival, let bytes):
            defer { records += 1 }
            verdictSoFar.packets += 1
            let header = bytes.withUnsafeBytes { buffer in try? RTPHeader(buffer) }  // counted just below
            guard let header, let codec = format.codecs[header.payloadType], Self.isSupported(codec) else {
                verdictSoFar.malformed += 1
                return
            }
            try enter(epochOf: header, emit)
            let sequence = sequences.extend(header.sequenceNumber)
            switch buffer.insert(.init(sequence: sequence, arrival: arrival, header: header, bytes: bytes)) {
            case .duplicate: verdictSoFar.duplicates += 1
            case .late: verdictSoFar.late += 1
            case .inTime: break
            }
            while let (packet, isContiguous) = buffer.pop(now: arrival) { try give(packet, isContiguous, emit) }
        }
    }

    public mutating func finish(emit: (TrackEvent) throws -> Void) rethrows {
        for (packet, isContiguous) in buffer.drain() { try give(packet, isContiguous, emit) }
        assembler.lose()
    }

    private mutating func take(_ mark: TrackRecord.Mark, _ time: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        for (packet, isContiguous) in buffer.drain() { try give(packet, isContiguous, emit) }
        assembler.lose()
        // What did not pass the gate is not lost: numbering starts anew when it opens.
        buffer.restart()
        switch mark {
        case .gateClosed, .paused, .streamEnded: try emit(.blank(time))
        case .gateOpened, .resumed: return
        }
    }

    private mutating func enter(epochOf header: RTPHeader, _ emit: (TrackEvent) throws -> Void) rethrows {
        let current = timeline.epochs.lastIndex { $0.ssrc == header.ssrc && $0.firstRecord <= records }
        guard current != epoch else { return }
        for (packet, isContiguous) in buffer.drain() { try give(packet, isContiguous, emit) }
        assembler.lose()
        buffer.restart()
        (sequences, timestamps, epoch) = (.init(), .init(), current)
    }

    private mutating func give(_ packet: ReorderBuffer.Packet, _ isContiguous: Bool, _ emit: (TrackEvent) throws -> Void) rethrows {
        guard let epoch, let codec = format.codecs[packet.header.payloadType] else { return }
        var tentative = timestamps
        let timestamp = tentative.extend(packet.header.timestamp)
        let time = timeline.epochs[epoch].wall(timestamp)
        guard packet.arrival - time <= Self.behindMax, time - packet.arrival <= Self.aheadMax else {
            verdictSoFar.outliers += 1
            return
        }
        timestamps = tentative
        if codec.name == "opus" {
            try giveOpus(packet, time, emit)
        } else {
            let frames = packet.bytes.withUnsafeBytes {
                assembler.push(UnsafeRawBufferPointer(rebasing: $0[packet.header.payload]), timestamp: timestamp, marker: packet.header.marker, isContiguous: isContiguous)
            }
            for frame in frames { try giveFrame(frame, timeline.epochs[epoch].wall(frame.timestamp), emit) }
        }
    }

    private mutating func giveOpus(_ packet: ReorderBuffer.Packet, _ time: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        let samples = packet.bytes.withUnsafeBytes { OpusFormat.samples(UnsafeRawBufferPointer(rebasing: $0[packet.header.payload])) }
        guard let samples else {
            verdictSoFar.malformed += 1
            return
        }
        let duration = Nanoseconds(count: Int64(samples) * 1_000_000_000 / 48_000)
        noteLevel(packet, time, duration)
        try give(AccessUnit(payload: Array(packet.bytes[packet.header.payload]), codec: .opus, time: time, duration: duration, isKey: true), emit)
    }

    private mutating func giveFrame(_ frame: VideoFrame, _ time: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        if frame.isKey {
            verdictSoFar.keyFrames += 1
            if let lastKey { verdictSoFar.longestKeyFrameGapMs = max(verdictSoFar.longestKeyFrameGapMs, (time - lastKey).milliseconds) }
            lastKey = time
            if let width = frame.width, let height = frame.height, verdictSoFar.resolutions.count < TrackVerdict.listMax,
               verdictSoFar.resolutions.last.map({ $0.width != width || $0.height != height }) ?? true {
                verdictSoFar.resolutions.append(.init(at: time, width: width, height: height))
            }
        }
        try give(AccessUnit(payload: frame.bytes, codec: .vp8, time: time, isKey: frame.isKey, width: frame.width, height: frame.height), emit)
    }

    private mutating func give(_ unit: AccessUnit, _ emit: (TrackEvent) throws -> Void) rethrows {
        if let lastTime, unit.time <= lastTime {
            verdictSoFar.droppedUnits += 1
            assembler.lose()
            return
        }
        if let lastEnd, unit.time - lastEnd >= Self.gapMin, verdictSoFar.gaps.count < TrackVerdict.listMax {
            verdictSoFar.gaps.append(.init(start: lastEnd, end: unit.time))
        }
        lastTime = unit.time
        lastEnd = unit.time + (unit.duration ?? .zero)
        verdictSoFar.accessUnits += 1
        verdictSoFar.first = verdictSoFar.first ?? unit.time
        verdictSoFar.last = lastEnd
        try emit(.accessUnit(unit))
    }

    private mutating func noteLevel(_ packet: ReorderBuffer.Packet, _ time: WallTime, _ duration: Nanoseconds) {
        guard let levelID else { return }
        var level: AudioLevel?
        packet.bytes.withUnsafeBytes { bytes in
            packet.header.forEachExtension(in: bytes) { id, place in
                if id == levelID, let byte = bytes[place].first { level = AudioLevel(byte) }
            }
        }
        guard let level, level.level < 127, level.voice || level.level <= Self.speechLevel else { return }
        if let last = verdictSoFar.speech.last, time - last.end <= Self.speechHangover {
            verdictSoFar.speech[verdictSoFar.speech.count - 1].end = max(last.end, time + duration)
        } else if verdictSoFar.speech.count < TrackVerdict.listMax {
            verdictSoFar.speech.append(.init(start: time, end: time + duration))
        }
    }
}
