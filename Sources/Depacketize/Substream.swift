import Media
import RTP

/// What is kept about one SSRC of a track while its packets go by.
struct Substream {
    /// A jump of the sequence number by more is believed only when the next packet confirms it (RFC 3550 appendix A.1).
    static let dropoutMax: Int64 = 3_000

    /// The epochs of this SSRC: the record from which each holds, and its place in the timeline. Ascending.
    private var epochs: [(firstRecord: Int, place: Int)]
    private var nextEpoch = 0
    /// Of the packets that arrive.
    private(set) var epoch: Int?
    /// Of the packets that are given out, each with how far its time stamps are; the last two.
    private var lines: [(place: Int, timestamps: TimestampExtender)] = []

    private var sequences = SequenceExtender()
    private var highest: Int64?
    /// A packet whose number jumped, kept until the next one says whether it is to be believed.
    private var jumped: TrackPacket?
    var buffer = ReorderBuffer()
    /// What puts its pictures together, for the codec it sends at the moment.
    var assembler: (codec: Codec, formats: any VideoAssembler)?
    /// The payload type that it was chosen for.
    var payloadType: UInt8?
    /// What was not given out, by assemblers that are gone.
    private var droppedBefore = 0
    private var malformedBefore = 0
    /// Frames that were being sent when the gate closed or the stream ended: cut, and no loss.
    private var cut = 0
    var tones = ToneCollector()
    /// The last key frame's size.
    var area = 0
    /// When its last picture that could be decoded was captured.
    var lastFrame: WallTime?
    /// Its encoding's name, latched: it is sent only at times (RFC 8852).
    var rid: String?
    /// A packet without media came after a loss: the loss is the next one's.
    var lossIsPending = false
    var lastRecord = 0

    init(epochs: [(firstRecord: Int, place: Int)]) { self.epochs = epochs }

    /// Takes a longer list, which begins as this one.
    mutating func extend(_ epochs: [(firstRecord: Int, place: Int)]) { self.epochs = epochs }

    /// Brings the SSRC into the epoch that record number `record` belongs to.
    ///
    /// Numbers go on over it: a sender's clock may jump without a packet being lost.
    mutating func enter(record: Int) {
        while nextEpoch < epochs.count, epochs[nextEpoch].firstRecord <= record {
            epoch = epochs[nextEpoch].place
            nextEpoch += 1
        }
    }

    /// Where a packet's time stamp lies: extended, with its epoch. Its own if that makes sense; else, for packets that came out of order
    /// around a jump, the one before or after it; nil for an outlier.
    ///
    /// What is missing before a packet without media is missing before the next one with it.
    mutating func place(_ packet: inout TrackPacket, isFiller: Bool, _ timeline: TrackTimeline) -> (epoch: Int, timestamp: Int64, time: WallTime)? {
        if let line = lines.last, line.place == packet.epoch {
            // Mostly: the line that the last packet was on.
            var extender = line.timestamps
            let timestamp = extender.extend(packet.timestamp)
            let time = timeline.epochs[line.place].clock.wall(timestamp)
            if packet.arrival - time <= Depacketizer.behindMax, time - packet.arrival <= Depacketizer.aheadMax {
                lines[lines.count - 1].timestamps = extender
                settleLoss(&packet, isFiller)
                return (line.place, timestamp, time)
            }
        }
        let own = epochs.firstIndex { $0.place == packet.epoch } ?? 0
        for neighbour in [own, own - 1, own + 1] where epochs.indices.contains(neighbour) {
            let epoch = epochs[neighbour].place
            var extender = lines.first { $0.place == epoch }?.timestamps ?? TimestampExtender(from: timeline.epochs[epoch].origin)
            let timestamp = extender.extend(packet.timestamp)
            let time = timeline.epochs[epoch].clock.wall(timestamp)
            guard packet.arrival - time <= Depacketizer.behindMax, time - packet.arrival <= Depacketizer.aheadMax else { continue }
            lines.removeAll { $0.place == epoch }
            if lines.count > 1 { lines.removeFirst() }
            lines.append((epoch, extender))
            settleLoss(&packet, isFiller)
            return (epoch, timestamp, time)
        }
        return nil
    }

    private mutating func settleLoss(_ packet: inout TrackPacket, _ isFiller: Bool) {
        lossIsPending = lossIsPending || packet.followsLoss
        if !isFiller { (packet.followsLoss, lossIsPending) = (lossIsPending, false) }
    }

    /// Whether a packet's time stamp lies before the first one of its epoch.
    func precedesEpoch(_ packet: TrackPacket, _ timeline: TrackTimeline) -> Bool {
        let origin = timeline.epochs[packet.epoch].origin
        var extender = lines.first { $0.place == packet.epoch }?.timestamps ?? TimestampExtender(from: origin)
        return extender.extend(packet.timestamp) < origin
    }

    /// Numbers go on anew: a gate opened, what was sent before is not lost.
    mutating func restart() {
        (sequences, highest, jumped) = (.init(), nil, nil)
        buffer.restart()
    }

    /// Takes note of a packet that arrived and extends its sequence number: see ``number(_:_:)``.
    mutating func receive(_ packet: TrackPacket, _ sequenceNumber: UInt16, record: Int) -> (packets: [TrackPacket], beganAnew: Bool) {
        lastRecord = record
        if let name = packet.extensions.rid { rid = name }
        return number(packet, sequenceNumber)
    }

    /// The same for a packet that is the next one of those given out, while nothing waits: it goes past the buffer. False, and nothing done,
    /// for any other.
    mutating func passes(_ packet: inout TrackPacket, _ sequenceNumber: UInt16, record: Int) -> Bool {
        var tentative = sequences
        let sequence = tentative.extend(sequenceNumber)
        if let highest, abs(sequence - highest) > Self.dropoutMax { return false }
        guard buffer.passes(sequence) else { return false }
        lastRecord = record
        if let name = packet.extensions.rid { rid = name }
        packet.sequence = sequence
        (jumped, sequences) = (nil, tentative)
        highest = max(highest ?? sequence, sequence)
        return true
    }

    /// Extends `packet`'s sequence number; nothing for a packet that waits to be believed, two when it is. `beganAnew`: the sender
    /// went back to other numbers, so that nothing between is lost.
    mutating func number(_ packet: TrackPacket, _ number: UInt16) -> (packets: [TrackPacket], beganAnew: Bool) {
        var packet = packet
        var tentative = sequences
        packet.sequence = tentative.extend(number)
        if let highest, abs(packet.sequence - highest) > Self.dropoutMax {
            guard let before = jumped, UInt16(truncatingIfNeeded: before.sequence &+ 1) == number else {
                jumped = packet
                return ([], false)
            }
            jumped = nil
            sequences = tentative
            self.highest = packet.sequence
            return ([before, packet], packet.sequence < highest)
        }
        jumped = nil
        sequences = tentative
        highest = max(highest ?? packet.sequence, packet.sequence)
        return ([packet], false)
    }

    /// The extended number of another packet of this SSRC, near the newest.
    func extended(_ number: UInt16) -> Int64 {
        var tentative = sequences
        return tentative.extend(number)
    }

    mutating func change(to codec: Codec, _ formats: any VideoAssembler) {
        droppedBefore += assembler?.formats.dropped ?? 0
        malformedBefore += assembler?.formats.malformed ?? 0
        assembler = (codec, formats)
    }

    /// What can be given of an open frame: nothing more comes for it now.
    mutating func finishFrame() -> [VideoFrame] {
        guard assembler != nil else { return [] }
        let before = dropped
        defer { cut += dropped - before }
        return assembler?.formats.finish() ?? []
    }

    var dropped: Int { droppedBefore + (assembler?.formats.dropped ?? 0) - cut }
    var malformed: Int { malformedBefore + (assembler?.formats.malformed ?? 0) }
}
