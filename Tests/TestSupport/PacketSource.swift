import Media
import RTP

/// One packet as its sender sent it.
public struct SentPacket: Sendable {
    /// True time.
    public var sentAt: WallTime
    /// RTP, or a sender report.
    public var bytes: [UInt8]
    /// What it carries, wholly or a part of it; nil for reports.
    public var unit: SentUnit?
}

/// What a sender captured and a depacketizer is to give out: a packet's sound or a picture.
public struct SentUnit: Hashable, Sendable {
    /// From 0, in the order of capture; the payload carries it, too (``PacketSource/payload(of:)``), unless it is discontinuous transmission.
    public var number: Int
    /// When its first sample or its picture was captured, in true time.
    public var captured: WallTime
    public var isKey: Bool
    /// One byte, as Opus sends it in silence.
    public var isDiscontinuous: Bool
    /// Length of the filling behind the number, in bytes.
    public var filling: Int
    /// Pictures without which it cannot be decoded.
    public var needs: [Int]
    /// Pictures that it does not need, but a receiver cannot tell.
    public var mayNeed: [Int]
    /// Which of the sender's lives (``PacketSource/Event/rejoin(after:)``) it belongs to, from 0.
    public var life: Int
}

/// A sender: its packets in the order of sending, with the true times. The same seed, the same packets; memory for one picture.
///
/// Everything is counted in true time, in which the sender's clocks run wrong: a `driftPPM` of 300 means that a second on the media clock
/// takes 1.000300 s, the sign of ``TrackVerdict/driftPPM``.
public struct PacketSource: Sequence, IteratorProtocol, Sendable {
    public enum Content: Hashable, Sendable {
        /// `frameMs`: 20, 40, 60 or 120. With `isDiscontinuous` the person speaks in turns of seconds, and silence is hardly sent.
        case opus(frameMs: Int = 20, isDiscontinuous: Bool = false, hasLevels: Bool = false)
        case pcmu
        /// With `hasLayers` in three temporal layers.
        case vp8(framesPerSecond: Int = 25, keySeconds: Double = 2, hasLayers: Bool = false)
        case h264(framesPerSecond: Int = 25, keySeconds: Double = 2)
    }

    public enum Event: Hashable, Sendable {
        /// The sender goes and comes back after so many seconds with another SSRC and another numbering.
        case rejoin(after: Double)
        /// Nothing is sent for so many seconds; the time stamps go on.
        case mute(seconds: Double)
        /// The time stamps jump by so many ticks.
        case jump(ticks: Int64)
        /// So much is lost between microphone and encoder, or made up (below zero, by less than a packet); the time stamps know nothing of it.
        case slip(Nanoseconds)
    }

    public var content: Content
    public var start = WallTime(seconds: 1_700_000_000)
    public var seconds: Double
    public var driftPPM = 0.0
    /// What happens, in the order of time (seconds on the media clock from the start).
    public var events: [(at: Double, event: Event)] = []
    /// Sender reports this often; nil: none.
    public var reportSeconds: Double?
    /// The reports' clock: true time + offset, and its own drift.
    public var reportOffset = Nanoseconds.zero
    public var reportDriftPPM = 0.0
    /// Opus: so many earlier packets in each (RFC 2198), as payload type ``redundancyType``.
    public var redundancy = 0
    /// Bytes of a picture: key pictures have ten times as much.
    public var pictureBytes = 200...1_400
    /// Stops after so many packets, with the unit that is being sent.
    public var packetsMax = Int.max

    public static let redundancyType: UInt8 = 63
    public static let payloadBytesMax = 1_100
    /// From a picture's capture to its first packet, at least; sound goes out with its last sample.
    public static let encodeLag = Nanoseconds.milliseconds(5)

    let seed: UInt64
    // What its formats change, too (the extensions in files of their own).
    var random: Seeded
    var ticks: Int64 = 0
    var slipped = Nanoseconds.zero
    /// Of units, from 0.
    var number = 0
    var life = 0
    var sequence: UInt16
    var firstTimestamp: UInt32
    var pictureID: Int
    var queue: [SentPacket] = []
    var head = 0
    var nextEvent = 0
    var nextReport = 0.0
    var packets = 0
    var packetsOfLife: UInt32 = 0
    var octetsOfLife: UInt32 = 0
    var nextKey = 0.0
    /// The last pictures of the temporal layers 0 and 1.
    var layers = (-1, -1)
    var placeInGroup = 0
    var layerIndex: UInt8 = 0
    var turnEnds = 0.0
    var speaks = false
    var silentFrames = 0
    var earlier: [(ticks: Int64, payload: [UInt8])] = []
    var lastSent = WallTime(nanoseconds: .min)

    /// `sequence` and `timestamp`: what the first packet has; at random without them, so that any run may wrap.
    public init(_ content: Content, seconds: Double, seed: UInt64, sequence: UInt16? = nil, timestamp: UInt32? = nil) {
        (self.content, self.seconds, self.seed) = (content, seconds, seed)
        random = Seeded(seed &* 0x9E37_79B9 &+ 1)
        self.sequence = sequence ?? .random(in: .min ... .max, using: &random)
        firstTimestamp = timestamp ?? .random(in: .min ... .max, using: &random)
        pictureID = .random(in: 0..<0x8000, using: &random)
    }

    public var codec: Codec {
        switch content {
        case .opus: .opus
        case .pcmu: Codec(name: "PCMU", clockRate: 8_000)
        case .vp8: .vp8
        case .h264: Codec(name: "H264", clockRate: 90_000)
        }
    }

    public var payloadType: UInt8 {
        switch content {
        case .opus: 111
        case .pcmu: 0
        case .vp8: 96
        case .h264: 102
        }
    }

    public var isPicture: Bool {
        switch content {
        case .opus, .pcmu: false
        case .vp8, .h264: true
        }
    }

    /// Least time from a unit's time to its packet's sending, after the sound's own length.
    public var leastLag: Nanoseconds { isPicture ? Self.encodeLag : .zero }

    /// The SSRC of each of the sender's lives.
    public func ssrc(life: Int) -> SSRC {
        var random = Seeded(seed &+ UInt64(life) &* 7_919)
        return SSRC(rawValue: UInt32(truncatingIfNeeded: random.next()))
    }

    /// As its SDP would say it. Retransmissions (``Network/Retransmission``) are announced as the payload type after the media's own,
    /// with the SSRCs of all lives.
    public func format(isRepeated: Bool = false) -> TrackFormat {
        var format = TrackFormat(kind: isPicture ? .video : .audio, codecs: [payloadType: codec])
        if case .opus(_, _, true) = content { format.extensions[1] = AudioLevel.uri }
        if redundancy > 0 {
            format.codecs[Self.redundancyType] = Codec(name: "red", clockRate: 48_000, channels: 2)
            format.parameters[Self.redundancyType] = "111/111"
        }
        if isRepeated {
            format.codecs[payloadType + 1] = Codec(name: "rtx", clockRate: codec.clockRate)
            format.parameters[payloadType + 1] = "apt=\(payloadType)"
            let lives = events.reduce(1) { count, event in if case .rejoin = event.event { count + 1 } else { count } }
            for life in 0..<lives { format.repairs[Network.Retransmission.ssrc(for: ssrc(life: life)).rawValue] = ssrc(life: life).rawValue }
        }
        if case .h264 = content { format.parameters[payloadType] = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c00d" }
        return format
    }

    /// True time of a place on the media clock.
    func trueTime(_ ticks: Int64) -> WallTime {
        start + slipped + Nanoseconds(count: Int64((Double(ticks) * (1e9 / Double(codec.clockRate)) * (1 + driftPPM * 1e-6)).rounded()))
    }

    public mutating func next() -> SentPacket? {
        while head == queue.count {
            guard packets < packetsMax else { return nil }
            queue.removeAll(keepingCapacity: true)
            head = 0
            guard Double(ticks) < seconds * Double(codec.clockRate) else { return nil }
            produce()
        }
        packets += 1
        head += 1
        return queue[head - 1]
    }

    /// Puts the next unit's packets into the queue, or lets time pass.
    private mutating func produce() {
        let now = Double(ticks) / Double(codec.clockRate)
        if nextEvent < events.count, events[nextEvent].at <= now {
            take(events[nextEvent].event)
            nextEvent += 1
            return
        }
        if let reportSeconds, packetsOfLife > 0, now >= nextReport {
            nextReport = now + reportSeconds
            report()
        }
        switch content {
        case .opus(let frameMs, let isDiscontinuous, _): opus(frameMs, isDiscontinuous, now)
        case .pcmu:
            sound(unit(filling: 160 - Self.numberBytes), length: 160, marker: false)
        case .vp8(let rate, let keySeconds, let hasLayers): vp8(rate, keySeconds, hasLayers, now)
        case .h264(let rate, let keySeconds): h264(rate, keySeconds, now)
        }
    }

    private mutating func take(_ event: Event) {
        switch event {
        case .jump(let by): firstTimestamp &+= UInt32(truncatingIfNeeded: by)
        case .slip(let length): slipped = slipped + length
        case .mute(let length): ticks += Int64(length * Double(codec.clockRate))
        case .rejoin(let gap):
            ticks += Int64(gap * Double(codec.clockRate))
            life += 1
            sequence = .random(in: .min ... .max, using: &random)
            firstTimestamp = .random(in: .min ... .max, using: &random)
            (packetsOfLife, octetsOfLife, nextKey) = (0, 0, 0)
            earlier = []
        }
    }

    /// RFC 3550 section 6.4.1: both clocks at the moment of sending.
    private mutating func report() {
        let now = Swift.max(lastSent, trueTime(ticks) + leastLag)
        let truth = (now - start).seconds
        let elapsed = Int64(((truth - slipped.seconds) / (1 + driftPPM * 1e-6) * Double(codec.clockRate)).rounded())
        let ntp = now + reportOffset + Nanoseconds(seconds: truth * reportDriftPPM * 1e-6)
        let whole = ntp.nanoseconds / 1_000_000_000
        var bytes: [UInt8] = [0x80, 200, 0, 6]
        bytes.append(be: ssrc(life: life).rawValue)
        bytes.append(be: UInt32(truncatingIfNeeded: whole + 2_208_988_800))
        bytes.append(be: UInt32(truncatingIfNeeded: UInt64(ntp.nanoseconds - whole * 1_000_000_000) << 32 / 1_000_000_000))
        bytes.append(be: firstTimestamp &+ UInt32(truncatingIfNeeded: elapsed))
        bytes.append(be: packetsOfLife)
        bytes.append(be: octetsOfLife)
        lastSent = now
        queue.append(SentPacket(sentAt: now, bytes: bytes, unit: nil))
    }

    mutating func unit(isKey: Bool = true, isDiscontinuous: Bool = false, filling: Int, needs: [Int] = [], mayNeed: [Int] = []) -> SentUnit {
        defer { number += 1 }
        return SentUnit(number: number, captured: trueTime(ticks), isKey: isKey, isDiscontinuous: isDiscontinuous, filling: filling, needs: needs, mayNeed: mayNeed, life: life)
    }
}
