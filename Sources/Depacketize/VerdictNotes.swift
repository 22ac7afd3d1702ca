import Media
import RTP

/// Writes a track's verdict while its units go by.
struct VerdictNotes: Sendable {
    /// A pause between two access units of at least this is a gap in the verdict.
    static let gapMin = Nanoseconds.seconds(1)
    /// A picture that stood still because of losses for at least this long is a freeze.
    static let freezeMin = Nanoseconds.milliseconds(200)
    /// Louder than this (-dBov), or flagged as voice, counts as speech; pauses up to the hangover belong to it.
    static let speechLevel: UInt8 = 45
    static let speechHangover = Nanoseconds.milliseconds(600)
    /// Shorter silences are decoded: beginning and ending one costs more.
    static let silenceMin = Nanoseconds.milliseconds(500)
    /// Discontinuous transmission sends a packet every 400 ms; a longer hole is none of its.
    static let silencePacketGapMax = Nanoseconds.milliseconds(500)

    var verdict = TrackVerdict()
    /// Sound units of SSRCs that were not the one that is heard.
    var ignored = 0
    private(set) var lastTime: WallTime?
    private var lastEnd: WallTime?
    private var lastKey: WallTime?
    private var silence: TrackVerdict.Span?

    init(_ timeline: TrackTimeline, isLayered: Bool) { take(timeline, isLayered: isLayered) }

    mutating func take(_ timeline: TrackTimeline, isLayered: Bool) {
        // Layers begin beside each other: of each only what comes after its first epoch is a new beginning.
        verdict.epochs = timeline.epochs.count - (isLayered ? Set(timeline.epochs.map(\.ssrc)).count - 1 : 0)
        verdict.driftPPM = timeline.epochs.last { $0.driftPPM != nil }?.driftPPM
        let longest = timeline.epochs.max { $0.packets < $1.packets }
        verdict.clock = longest?.isByReports == true ? "sender-reports" : "arrival"
        verdict.reportsLessArrivalMs = longest?.reportsLessArrival?.milliseconds
    }

    /// The gate closed or opened: what stands still now does so for another reason than losses.
    mutating func interrupt() {
        lastKey = nil
        closeSilence()
        wasInterrupted = true
    }
    private var wasInterrupted = false

    mutating func finish() {
        closeSilence()
        if ignored > 0 { verdict.droppedUnits += ignored }
    }

    mutating func take(_ frame: VideoFrame, _ codec: Codec, _ time: WallTime, rotation: Int?, isLayered: Bool) {
        if frame.followsLoss, !wasInterrupted, let lastTime, time - lastTime >= Self.freezeMin, verdict.freezes.count < TrackVerdict.listMax {
            verdict.freezes.append(.init(start: lastTime, end: time))
        }
        if frame.isKey {
            verdict.keyFrames += 1
            if let lastKey { verdict.longestKeyFrameGapMs = max(verdict.longestKeyFrameGapMs, (time - lastKey).milliseconds) }
            lastKey = time
        }
        if let width = frame.width, let height = frame.height, verdict.resolutions.count < TrackVerdict.listMax,
           verdict.resolutions.last.map({ $0.width != width || $0.height != height }) ?? true {
            if isLayered, !verdict.resolutions.isEmpty, verdict.layers.count < TrackVerdict.listMax { verdict.layers.append(.init(at: time, width: width, height: height)) }
            verdict.resolutions.append(.init(at: time, width: width, height: height))
        }
        if let rotation, verdict.rotations.last?.degrees ?? 0 != rotation, verdict.rotations.count < TrackVerdict.listMax {
            verdict.rotations.append(.init(at: time, degrees: rotation))
        }
        take(time, time, codec)
    }

    mutating func take(soundAt time: WallTime, _ duration: Nanoseconds, _ codec: Codec, level: AudioLevel?, isDTX: Bool) {
        noteSilence(time, duration, isSilent: isDTX || level?.level == 127)
        if let level { noteSpeech(time, duration, level) }
        take(time, time + duration, codec)
    }

    private mutating func take(_ time: WallTime, _ end: WallTime, _ codec: Codec) {
        if let lastEnd, time - lastEnd >= Self.gapMin, verdict.gaps.count < TrackVerdict.listMax { verdict.gaps.append(.init(start: lastEnd, end: time)) }
        (lastTime, lastEnd, wasInterrupted) = (time, end, false)
        verdict.accessUnits += 1
        verdict.first = verdict.first ?? time
        verdict.last = end
        if verdict.codecs.last?.codec != codec.description, verdict.codecs.count < TrackVerdict.listMax { verdict.codecs.append(.init(at: time, codec: codec.description)) }
    }

    private mutating func noteSpeech(_ time: WallTime, _ duration: Nanoseconds, _ level: AudioLevel) {
        guard level.level < 127, level.voice || level.level <= Self.speechLevel else { return }
        if let last = verdict.speech.last, time - last.end <= Self.speechHangover {
            verdict.speech[verdict.speech.count - 1].end = max(last.end, time + duration)
        } else if verdict.speech.count < TrackVerdict.listMax {
            verdict.speech.append(.init(start: time, end: time + duration))
        }
    }

    private mutating func noteSilence(_ time: WallTime, _ duration: Nanoseconds, isSilent: Bool) {
        if let open = silence, !isSilent || time - open.end > Self.silencePacketGapMax { 
            // Discontinuous transmission is silent up to the next packet.
            if !isSilent, time - open.end <= Self.silencePacketGapMax { silence?.end = time }
            closeSilence()
        }
        guard isSilent else { return }
        silence = .init(start: silence?.start ?? time, end: time + duration)
    }

    private mutating func closeSilence() {
        if let silence, silence.end - silence.start >= Self.silenceMin, verdict.silences.count < TrackVerdict.listMax { verdict.silences.append(silence) }
        silence = nil
    }
}
