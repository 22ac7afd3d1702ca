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
    /// Stops after so many packets.
    public var packetsMax = Int.max

    public static let redundancyType: UInt8 = 63
    public static let payloadBytesMax = 1_100
    /// From a picture's capture to its first packet, at least; sound goes out with its last sample.
    public static let encodeLag = Nanoseconds.milliseconds(5)

    private let seed: UInt64
    private var random: Seeded
    private var ticks: Int64 = 0
    /// Of units, from 0.
    private var number = 0
    private var life = 0
    private var sequence: UInt16
    private var firstTimestamp: UInt32
    private var pictureID: Int
    private var queue: [SentPacket] = []
    private var head = 0
    private var nextEvent = 0
    private var nextReport = 0.0
    private var packets = 0
    private var packetsOfLife: UInt32 = 0
    private var octetsOfLife: UInt32 = 0
    private var nextKey = 0.0
    /// The last pictures of the temporal layers 0 and 1.
    private var layers = (-1, -1)
    private var placeInGroup = 0
    private var layerIndex: UInt8 = 0
    private var turnEnds = 0.0
    private var speaks = false
    private var silentFrames = 0
    private var earlier: [(ticks: Int64, payload: [UInt8])] = []
    private var lastSent = WallTime(nanoseconds: .min)

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
    private func trueTime(_ ticks: Int64) -> WallTime {
        start + Nanoseconds(count: Int64((Double(ticks) * (1e9 / Double(codec.clockRate)) * (1 + driftPPM * 1e-6)).rounded()))
    }

    public mutating func next() -> SentPacket? {
        guard packets < packetsMax else { return nil }
        while head == queue.count {
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
        let elapsed = Int64((truth / (1 + driftPPM * 1e-6) * Double(codec.clockRate)).rounded())
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

    private mutating func unit(isKey: Bool = true, isDiscontinuous: Bool = false, filling: Int, needs: [Int] = []) -> SentUnit {
        defer { number += 1 }
        return SentUnit(number: number, captured: trueTime(ticks), isKey: isKey, isDiscontinuous: isDiscontinuous, filling: filling, needs: needs, life: life)
    }
}

/// Sound: one unit, one packet.
extension PacketSource {
    private mutating func opus(_ frameMs: Int, _ isDiscontinuous: Bool, _ now: Double) {
        let length = Int64(frameMs * 48)
        if isDiscontinuous, now >= turnEnds {
            speaks.toggle()
            turnEnds = now + (speaks ? .random(in: 0.5...8, using: &random) : .random(in: 0.5...20, using: &random))
            silentFrames = 0
        }
        if isDiscontinuous, !speaks {
            silentFrames += 1
            // Every 400 ms comfort noise and one byte; nothing between.
            switch (silentFrames - 1) * frameMs % 400 {
            case 0: sound(unit(filling: 6), length: length, marker: false)
            case 1...frameMs: sound(unit(isDiscontinuous: true, filling: 0), length: length, marker: false)
            default: ticks += length
            }
            return
        }
        sound(unit(filling: 6 * Int.random(in: 6...24, using: &random)), length: length, marker: isDiscontinuous && silentFrames > 0)
        silentFrames = 0
    }

    private mutating func sound(_ unit: SentUnit, length: Int64, marker: Bool) {
        let payload = payload(of: unit)
        let sentAt = Swift.max(lastSent, trueTime(ticks + length))
        if redundancy > 0 {
            var red: [UInt8] = []
            red.reserveCapacity(payload.count * (redundancy + 1) + 16)
            let carried = earlier.filter { ticks - $0.ticks < 1 << 14 && $0.payload.count < 1 << 10 }
            for block in carried {
                let place = UInt32(truncatingIfNeeded: ticks - block.ticks) << 10 | UInt32(block.payload.count)
                red += [0x80 | payloadType, UInt8(truncatingIfNeeded: place >> 16), UInt8(truncatingIfNeeded: place >> 8), UInt8(truncatingIfNeeded: place)]
            }
            red.append(payloadType)
            for block in carried { red += block.payload }
            red += payload
            earlier = (earlier + [(ticks, payload)]).suffix(redundancy)
            send(red, unit, at: sentAt, type: Self.redundancyType, marker: marker)
        } else {
            send(payload, unit, at: sentAt, type: payloadType, marker: marker)
        }
        ticks += length
    }

    private mutating func send(_ payload: [UInt8], _ unit: SentUnit, at time: WallTime, type: UInt8, marker: Bool) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(payload.count + 20)
        var level: UInt8?
        if case .opus(_, let isDiscontinuous, true) = content { level = isDiscontinuous && !speaks ? 127 : 0x80 | UInt8.random(in: 20...40, using: &random) }
        bytes.append(level == nil ? 0x80 : 0x90)
        bytes.append(type | (marker ? 0x80 : 0))
        bytes.append(be: sequence)
        bytes.append(be: firstTimestamp &+ UInt32(truncatingIfNeeded: ticks))
        bytes.append(be: ssrc(life: life).rawValue)
        if let level { bytes += [0xBE, 0xDE, 0, 1, 0x10, level, 0, 0] }
        bytes += payload
        sequence &+= 1
        packetsOfLife &+= 1
        octetsOfLife &+= UInt32(payload.count)
        lastSent = time
        queue.append(SentPacket(sentAt: time, bytes: bytes, unit: unit))
    }
}

/// Pictures: one unit, one packet or many, a fifth of a millisecond apart.
extension PacketSource {
    private mutating func pictureBytes(isKey: Bool) -> Int { Int.random(in: pictureBytes, using: &random) * (isKey ? 10 : 1) }

    private mutating func vp8(_ rate: Int, _ keySeconds: Double, _ hasLayers: Bool, _ now: Double) {
        let isKey = now >= nextKey
        if isKey { (nextKey, placeInGroup) = (now + keySeconds, 0) }
        // Layers 0 2 1 2: nothing needs layer 2; layer 1 and the first of layer 2 need only layer 0.
        let (layer, needs): (UInt8, [Int]) = switch placeInGroup {
        case _ where isKey: (0, [])
        case _ where !hasLayers: (0, [number - 1])
        case 0: (0, [layers.0])
        case 2: (1, [layers.0])
        case 3: (2, [layers.0, layers.1])
        default: (2, [layers.0])
        }
        let unit = unit(isKey: isKey, filling: pictureBytes(isKey: isKey), needs: needs)
        if layer == 0 {
            layers = (unit.number, unit.number)
            layerIndex &+= 1
        }
        if layer == 1 { layers.1 = unit.number }
        let isSync = layer > 0 && placeInGroup < 3
        placeInGroup = (placeInGroup + 1) % 4
        pictureID = (pictureID + 1) & 0x7FFF
        var descriptor: [UInt8] = [layer == 2 ? 0xA0 : 0x80, hasLayers ? 0xE0 : 0x80, 0x80 | UInt8(pictureID >> 8), UInt8(pictureID & 255)]
        if hasLayers { descriptor += [layerIndex, layer << 6 | (isSync ? 0x20 : 0)] }
        let payload = payload(of: unit)
        var time = sendTime()
        for from in stride(from: 0, to: payload.count, by: Self.payloadBytesMax) {
            let to = Swift.min(payload.count, from + Self.payloadBytesMax)
            descriptor[0] = descriptor[0] & 0xEF | (from == 0 ? 0x10 : 0)
            send(descriptor + payload[from..<to], unit, at: time, type: payloadType, marker: to == payload.count)
            time = time + Nanoseconds(count: 200_000)
        }
        ticks += Int64(90_000 / rate)
    }

    private mutating func h264(_ rate: Int, _ keySeconds: Double, _ now: Double) {
        let isKey = now >= nextKey
        if isKey { nextKey = now + keySeconds }
        let unit = unit(isKey: isKey, filling: pictureBytes(isKey: isKey), needs: isKey ? [] : [number - 1])
        var time = sendTime()
        if isKey {
            // Both parameter sets in one packet (RFC 6184 section 5.7.1).
            var sets: [UInt8] = [0x78]
            for set in [Self.sequenceParameters, Self.pictureParameters] { sets += [0, UInt8(set.count)] + set }
            send(sets, unit, at: time, type: payloadType, marker: false)
        }
        let slice = slice(of: unit)
        if slice.count <= Self.payloadBytesMax {
            send(slice, unit, at: time, type: payloadType, marker: true)
        } else {
            for from in stride(from: 1, to: slice.count, by: Self.payloadBytesMax) {
                time = time + Nanoseconds(count: 200_000)
                let to = Swift.min(slice.count, from + Self.payloadBytesMax)
                let head = [slice[0] & 0xE0 | 28, slice[0] & 0x1F | (from == 1 ? 0x80 : 0) | (to == slice.count ? 0x40 : 0)]
                send(head + slice[from..<to], unit, at: time, type: payloadType, marker: to == slice.count)
            }
        }
        ticks += Int64(90_000 / rate)
    }

    private mutating func sendTime() -> WallTime {
        Swift.max(lastSent, trueTime(ticks) + Self.encodeLag + Nanoseconds(count: Int64.random(in: 0...3_000_000, using: &random)))
    }
}

/// What is in the units: each holds its number, and the rest follows from it.
extension PacketSource {
    static let numberBytes = 8
    static let sequenceParameters: [UInt8] = [0x67, 0x42, 0xC0, 0x0D, 0xDA, 0x05, 0x07, 0xE4]  // Baseline, 320x240
    static let pictureParameters: [UInt8] = [0x68, 0xCE, 0x38, 0x80]

    /// What the depacketizer is to give out for it, byte for byte (H.264: as parameter sets and slice with start codes of four bytes).
    public func payload(of unit: SentUnit) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(unit.filling + 32)
        switch content {
        case .opus(let frameMs, _, _):
            switch frameMs {
            case _ where unit.isDiscontinuous: bytes.append(0xF8)
            case 20: bytes.append(0xF8)
            case 40: bytes.append(0xF9)
            default: bytes += [0xFB, UInt8(frameMs / 20)]
            }
            guard !unit.isDiscontinuous else { return bytes }
        case .pcmu: break
        case .vp8:
            bytes += unit.isKey ? [0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0] : [0x11, 0, 0]
        case .h264:
            let code: [UInt8] = [0, 0, 0, 1]
            return (unit.isKey ? code + Self.sequenceParameters + code + Self.pictureParameters : []) + code + slice(of: unit)
        }
        bytes.append(number: unit.number)
        bytes.append(filling: unit.filling, of: seed ^ UInt64(unit.number))
        return bytes
    }

    private func slice(of unit: SentUnit) -> [UInt8] {
        var bytes: [UInt8] = unit.isKey ? [0x65, 0x88] : [0x41, 0x9A]
        bytes.reserveCapacity(unit.filling + 16)
        bytes.append(number: unit.number)
        bytes.append(filling: unit.filling, of: seed ^ UInt64(unit.number))
        return bytes
    }

    /// The number in a unit that came out; nil where it has none (discontinuous transmission), or is no unit of ours.
    public func number(in payload: [UInt8]) -> Int? {
        let at: Int
        switch content {
        case .opus(let frameMs, _, _): at = frameMs > 40 ? 2 : 1
        case .pcmu: at = 0
        case .vp8: at = payload.first.map { $0 & 1 == 0 ? 10 : 3 } ?? 0
        case .h264:
            // The slice is the last of the NAL units; there is no zero byte in it.
            let zero = payload.lastIndex(of: 0).map { $0 + 1 } ?? 0
            at = zero + 3
        }
        guard payload.count >= at + Self.numberBytes else { return nil }
        var number = 0
        for byte in payload[at..<at + Self.numberBytes] {
            guard byte & 0x80 != 0 else { return nil }
            number = number << 7 | Int(byte & 0x7F)
        }
        return number
    }
}

/// Bytes without a zero among them.
private let noise: [UInt8] = {
    var random = Seeded(0)
    return random.bytes(1 << 17).map { $0 | 1 }
}()

extension [UInt8] {
    mutating func append<Value: FixedWidthInteger>(be value: Value) { Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) } }

    /// In eight bytes of seven bits: none is zero, so that no start code comes about.
    fileprivate mutating func append(number: Int) {
        for shift in stride(from: 49, through: 0, by: -7) { append(0x80 | UInt8(number >> shift & 0x7F)) }
    }

    fileprivate mutating func append(filling count: Int, of seed: UInt64) {
        var random = Seeded(seed)
        let from = Int(random.next() % UInt64(noise.count - count))
        append(contentsOf: noise[from..<from + count])
    }
}
