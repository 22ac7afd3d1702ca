import Media

/// What the payloads of one payload type look like. Pure; header fields of the formats only, a few bytes a packet.
///
/// A guess is made only where noise, or an encrypted stream, could not look the same: VP8 by the start code of its key frames, H.264 by its
/// parameter sets, Opus by the length that each packet announces and the next one's time stamp confirms, telephone-event by its form.
struct PayloadEvidence: Sendable {
    private(set) var packets = 0
    private var empty = 0
    private var vp8 = (valid: 0, keyFrames: 0)
    private var h264 = (valid: 0, parameterSets: 0)
    private var opus = (checked: 0, right: 0)
    private var events = 0
    /// What the packet before said: its number, time stamp and length in Opus' 48 kHz.
    private var last: (sequence: UInt16, timestamp: UInt32, duration: Int?)?

    static let opusChecksMin = 25

    init() {}

    mutating func take(_ payload: UnsafeRawBufferPointer, sequence: UInt16, timestamp: UInt32) {
        packets += 1
        guard !payload.isEmpty else {
            empty += 1
            return
        }
        if let isKey = Self.vp8(payload) {
            vp8.valid += 1
            if isKey { vp8.keyFrames += 1 }
        }
        if let hasParameterSet = Self.h264(payload) {
            h264.valid += 1
            if hasParameterSet { h264.parameterSets += 1 }
        }
        // RFC 4733 section 2.3: event, end and reserved bit, volume, duration.
        if payload.count == 4, payload[0] <= 15, payload[1] & 0x40 == 0 { events += 1 }
        if let last, sequence == last.sequence &+ 1, let duration = last.duration {
            opus.checked += 1
            if Int(timestamp &- last.timestamp) == duration { opus.right += 1 }
        }
        // After a packet of two bytes or less, which is what DTX sends, a pause may follow.
        last = (sequence, timestamp, payload.count > 2 ? Self.opusDuration(payload) : nil)
    }

    /// What it must be; `clockRate` is what the time stamps were measured to run at, where that could be measured.
    func guess(clockRate: Double?) -> Codec? {
        func runs(at rate: Double) -> Bool { clockRate.map { abs($0 / rate - 1) < 0.2 } ?? true }
        let whole = packets - empty
        guard whole > 0 else { return nil }
        if vp8.keyFrames > 0, vp8.valid * 20 >= whole * 19, runs(at: 90_000) { return .vp8 }
        if h264.parameterSets > 0, h264.valid == whole, runs(at: 90_000) { return Codec(name: "H264", clockRate: 90_000) }
        if events == whole, whole >= 3 { return Codec(name: "telephone-event", clockRate: 8_000) }
        if opus.checked >= Self.opusChecksMin, opus.right * 20 >= opus.checked * 19, clockRate != nil, runs(at: 48_000) { return .opus }
        return nil
    }

    /// Whether a VP8 payload descriptor (RFC 7741 section 4.2) is in front, and a key frame begins behind it (section 4.3).
    private static func vp8(_ payload: UnsafeRawBufferPointer) -> Bool? {
        guard payload[0] & 0x48 == 0 else { return nil }
        var at = 1
        if payload[0] & 0x80 != 0 {
            guard payload.count > 1, payload[1] & 0x0F == 0 else { return nil }
            at = 2
            if payload[1] & 0x80 != 0 {
                guard payload.count > at else { return nil }
                at += payload[at] & 0x80 != 0 ? 2 : 1
            }
            if payload[1] & 0x40 != 0 { at += 1 }
            if payload[1] & 0x30 != 0 { at += 1 }
        }
        guard at < payload.count else { return nil }
        let isStart = payload[0] & 0x17 == 0x10 && at + 10 <= payload.count
        return isStart && payload[at] & 1 == 0 && payload[at + 3] == 0x9D && payload[at + 4] == 0x01 && payload[at + 5] == 0x2A
    }

    /// Whether this can be a NAL unit, an aggregate or a fragment (RFC 6184 sections 5.2 to 5.8), and whether it holds a sequence parameter set.
    private static func h264(_ payload: UnsafeRawBufferPointer) -> Bool? {
        guard payload.count >= 2, payload[0] & 0x80 == 0 else { return nil }
        func isParameterSet(_ at: Int) -> Bool {
            at + 4 < payload.count && payload[at] & 0x1F == 7 && payload[at] & 0x60 != 0 && [66, 77, 88, 100, 110, 122, 244].contains(payload[at + 1]) && payload[at + 2] & 3 == 0
                && (9...62).contains(payload[at + 3])
        }
        switch payload[0] & 0x1F {
        case 1...13: return isParameterSet(0)
        case 24:
            guard payload.count >= 4, Int(payload[1]) << 8 | Int(payload[2]) <= payload.count - 3 else { return nil }
            return isParameterSet(3)
        case 28: return payload[1] & 0x20 == 0 && (1...13).contains(payload[1] & 0x1F) ? false : nil
        default: return nil
        }
    }

    /// A packet's length in samples at 48 kHz by its first bytes (RFC 6716 sections 3.1 and 3.2); nil where no packet may begin like this.
    static func opusDuration(_ payload: UnsafeRawBufferPointer) -> Int? {
        let config = Int(payload[0] >> 3)
        let frame = switch config {
        case 0..<12: [480, 960, 1_920, 2_880][config & 3]
        case 12..<16: [480, 960][config & 1]
        default: [120, 240, 480, 960][config & 3]
        }
        let frames = switch payload[0] & 3 {
        case 0: 1
        case 1, 2: 2
        default: payload.count > 1 ? Int(payload[1] & 63) : 0
        }
        return frames > 0 && frames * frame <= 5_760 ? frames * frame : nil
    }
}
