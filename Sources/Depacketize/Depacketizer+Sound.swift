import Media
import RTP

/// What is remembered between one sound packet and the next, to say what a loss cost.
struct SoundNotes: Sendable {
    /// The epoch that is heard.
    var epoch: Int?
    var lastEnd: WallTime?
    var lastDuration = Nanoseconds.zero

    mutating func interrupt() { (lastEnd, lastDuration) = (nil, .zero) }
}

extension Depacketizer {
    /// Packets an SSRC must have sent before it takes the place of one that still sends.
    static let newcomerPacketsMin = 5
    /// Lost sound up to this length, less what redundancy gives back, is concealed; beyond it is silence (as the mix does).
    public static let concealMax = Nanoseconds.milliseconds(100)

    mutating func giveSound(_ packet: TrackPacket, _ bytes: UnsafeRawBufferPointer, _ codec: Codec, _ time: WallTime, _ epoch: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        let range = packet.payload
        guard !range.isEmpty else { return }
        let payload = UnsafeRawBufferPointer(rebasing: bytes[range])
        let isOpus = codec.name == Codec.opus.name
        let (carriesPrevious, isDTX) = (isOpus && OpusFormat.carriesRedundancy(payload), isOpus && OpusFormat.isDTX(payload))
        guard let duration = AudioFormats.duration(of: payload, codec: codec) else {
            notes.verdict.malformed += 1
            return
        }
        guard hears(epoch, time) else {
            notes.ignored += 1
            return
        }
        if let last = notes.lastTime, time <= last {
            notes.verdict.droppedUnits += 1
            return
        }
        if packet.followsLoss, let end = sound.lastEnd, time > end { noteLoss(time - end, carriesPrevious) }
        (sound.lastEnd, sound.lastDuration) = (time + duration, duration)
        notes.take(soundAt: time, duration, codec, level: packet.extensions.level, isDTX: isDTX)
        try emit(.accessUnit(AccessUnit(payload: Array(payload), codec: codec, time: time, duration: duration, isKey: true)))
    }

    /// What becomes of a hole of this length: the last packet of it may be in the next one, some is concealed, the rest is silence.
    private mutating func noteLoss(_ missing: Nanoseconds, _ carriesPrevious: Bool) {
        var left = missing
        if carriesPrevious, sound.lastDuration > .zero {
            notes.verdict.recoveredByFEC += 1
            left = max(.zero, left - sound.lastDuration)
        }
        if missing <= Self.concealMax {
            notes.verdict.concealedMs += left.milliseconds
        } else {
            notes.verdict.silencedMs += left.milliseconds
        }
    }

    /// Whether this epoch's sound is the one to hear. Somebody who joined again goes on at once, though the old connection may send a little
    /// longer; of two at the same time the newer one is heard.
    private mutating func hears(_ epoch: Int, _ time: WallTime) -> Bool {
        guard let now = sound.epoch, now != epoch else {
            sound.epoch = epoch
            return true
        }
        let (heard, other) = (timeline.epochs[now], timeline.epochs[epoch])
        let isNewer = other.first > heard.first && other.packets >= Self.newcomerPacketsMin
        guard isNewer || heard.last < time || heard.ssrc == other.ssrc else { return false }
        sound.epoch = epoch
        return true
    }

    mutating func takeTone(_ packet: TrackPacket, _ bytes: UnsafeRawBufferPointer, _ timestamp: Int64, _ clockRate: Int, _ place: Int, _ epoch: Int) {
        let tone = substreams[place].tones.push(timestamp: timestamp, payload: UnsafeRawBufferPointer(rebasing: bytes[packet.payload]), marker: packet.marker)
        if let tone { note(tone, clockRate, epoch) }
    }

    /// What is still due of key presses whose ends were lost.
    mutating func giveTones(_ place: Int) {
        guard let epoch = substreams[place].epoch else { return }
        let clockRate = format.codecs.values.first { $0.name == "telephone-event" }?.clockRate ?? 8_000
        while let tone = substreams[place].tones.finish() { note(tone, clockRate, epoch) }
    }

    private mutating func note(_ tone: Tone, _ clockRate: Int, _ epoch: Int) {
        guard notes.verdict.tones.count < TrackVerdict.listMax else { return }
        notes.verdict.tones.append(.init(at: timeline.epochs[epoch].clock.wall(tone.timestamp), digit: String(tone.digit),
                                         durationMs: Double(tone.duration) * 1000 / Double(clockRate)))
    }
}
