import Depacketize
import FFmpeg
import Media
import Renditions

/// One sound track decoded on demand and laid at its place on a rendition's time line, in samples at 48 kHz.
///
/// Sound stays where its packets' times lie on the wall clock, whatever the sender's clock does (``SoundPlacer``); stretches known to be
/// silent are not decoded. Memory: one packet and its sound.
final class TrackSound {
    /// The last of a silence is decoded, though not heard: then the decoder is where the sender's encoder was.
    static let convergeSamples = 3_840
    /// Silence of which more than this is left is not even read: the file's index leads to a second before its end. A microphone that is muted
    /// goes on sending.
    static let unreadSamplesMin = 20 * 48_000
    /// A clock this near to ours does not leave its place by more than a packet's rounding for minutes, and by some ms an hour.
    static let driftPPMMin = 1.0

    private let packets: any PacketReading
    private let channels: Int
    private var lines: [Int: SoundLine] = [:]
    private let packet = Packet()
    /// Place of the track's timestamp 0 on the time line.
    private let origin: Int
    /// Places between which nothing is heard, in order.
    private let silences: [Range<Int>]
    private var silence = 0
    /// The silence that was jumped over last: an index with few entries may lead to before its end, and is asked once.
    private var jumped = -1
    private var current: Int?
    private let ready = Ready()
    private var isOver = false
    /// Behind a jump packets come again that were read before it: up to this time they are not taken.
    private var takenUpTo = Int64.min

    /// Sound that was decoded and not mixed yet.
    private final class Ready {
        var stretches: [(at: Int, samples: [Float])] = []
        var used = 0
    }

    convenience init(_ source: any MediaSource, origin: Int, channels: Int, summary: TrackSummary? = nil) throws {
        try self.init(FilePackets(source, as: .matroska), origin: origin, channels: channels, summary: summary)
    }

    init(_ packets: any PacketReading, origin: Int, channels: Int, summary: TrackSummary? = nil) throws {
        self.packets = packets
        self.channels = channels
        self.origin = origin
        let isDrifting = abs(summary?.verdict.driftPPM ?? 0) >= Self.driftPPMMin
        silences = summary.map { summary in
            summary.verdict.silences.map { span in
                let place = { (time: WallTime) in origin + Int(((time - summary.startWall).seconds * 48_000).rounded()) }
                return place(span.start)..<max(place(span.start), place(span.end))
            }
        } ?? []
        let audio = packets.streams.filter(\.isAudio)
        guard !audio.isEmpty else { throw StageFailure(code: .damagedInput, what: "a sound track without sound") }
        for stream in audio {
            lines[stream.index] = try SoundLine(stream, channels: channels, isDrifting: isDrifting) { [ready] in ready.stretches.append(($0, $1)) }
        }
    }

    /// Adds what sounds in `start..<start + mix.count / channels` to `mix`, which is interleaved.
    func add(to mix: UnsafeMutableBufferPointer<Float>, start: Int) throws {
        guard let target = mix.baseAddress else { return }
        let end = start + mix.count / channels
        while true {
            while ready.used < ready.stretches.count {
                let (at, samples) = ready.stretches[ready.used]
                guard at < end else { return }
                let count = samples.count / channels
                let (from, to) = (max(at, start), min(at + count, end))
                if from < to {
                    samples.withUnsafeBufferPointer { source in
                        guard let sound = source.baseAddress else { return }
                        let (sum, part) = (target + (from - start) * channels, sound + (from - at) * channels)
                        for i in 0..<(to - from) * channels { sum[i] += part[i] }
                    }
                }
                guard at + count <= end else { return }
                ready.used += 1
            }
            ready.stretches.removeAll(keepingCapacity: true)
            ready.used = 0
            guard !isOver else { return }
            if try !decodeNext(), try !rest(before: end) { return }
        }
    }

    /// Of a track that grows everything before `end` is there: where nothing goes on up to it, nothing will. False where that is known already.
    private func rest(before end: Int) throws -> Bool {
        guard let current, let line = lines[current], let front = line.front, front < Double(end) else { return false }
        try line.rest()
        return true
    }

    /// False where nothing more is known.
    private func decodeNext() throws -> Bool {
        repeat {
            switch try packets.read(into: packet) {
            case .packet: continue
            case .pending: return false
            case .over:
                isOver = true
                if let current { try lines[current]?.finish(origin: Double(origin)) }
                return true
            }
        } while lines[packet.streamIndex] == nil || !packet.hasTime || packet.pts <= takenUpTo
        takenUpTo = .min
        let index = packet.streamIndex
        // Another codec takes over: what the old one holds back comes first.
        if let current, current != index { try lines[current]?.rest() }
        current = index
        guard let line = lines[index] else { return true }
        let at = origin + Int((Double(packet.pts) * line.secondsPerTick * 48_000).rounded())
        while silence < silences.count, silences[silence].upperBound <= at { silence += 1 }
        let isIn = silence < silences.count && silences[silence].contains(at)
        let isConverging = isIn && at >= silences[silence].upperBound - Self.convergeSamples
        try line.take(packet, origin: Double(origin), isSilent: isIn && !isConverging, isConverging: isConverging)
        if isIn, lines.count == 1 { try jump(from: at, before: silences[silence].upperBound - Self.convergeSamples) }
        return true
    }

    /// Once a silence has begun, nothing is learned from its packets but from the last before the decoder is to know what follows.
    private func jump(from at: Int, before end: Int) throws {
        let target = end - 48_000
        guard target - at >= Self.unreadSamplesMin, silence != jumped else { return }
        jumped = silence
        let last = packet.pts
        if try packets.skip(to: Double(target - origin) / 48_000) { takenUpTo = last }
    }
}
