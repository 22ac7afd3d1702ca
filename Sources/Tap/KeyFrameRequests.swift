import Media
import RTP

/// When to ask a video's sender for a key frame (RFC 4585 section 6.3.1). Pure.
///
/// At once when its gate opens, again 1, 2, 4 and 4 seconds after the one before, until a key frame came; never two within half a second,
/// however often the gate moves.
struct KeyFrameRequests: Sendable {
    /// From each request to the next.
    private static let waits: [Nanoseconds] = [.seconds(1), .seconds(2), .seconds(4), .seconds(4)]
    static let requestsMax = waits.count + 1
    private static let apart = Nanoseconds.milliseconds(500)

    private var sent: Int?
    private var last: WallTime?

    /// Whether a key frame is being waited for.
    var isWaiting: Bool { sent != nil }

    mutating func begin() { sent = 0 }

    /// A key frame came.
    mutating func satisfy() { sent = nil }

    /// Whether a request is to be sent now; it then counts as sent. A clock that was set back asks at once.
    mutating func isDue(at now: WallTime) -> Bool {
        guard let count = sent else { return false }
        let wait = count == 0 ? Self.apart : Self.waits[count - 1]
        if let last, last <= now, now - last < wait { return false }
        last = now
        sent = count + 1 < Self.requestsMax ? count + 1 : nil
        return true
    }
}

/// Tells whether a packet begins a VP8 key frame, by its first bytes (RFC 7741 sections 4.2 and 4.3): enough to stop asking for one.
enum KeyFrameSight {
    static func isVP8KeyFrameStart(_ payload: UnsafeRawBufferPointer) -> Bool {
        guard let first = payload.first, first & 0x10 != 0, first & 0x07 == 0 else { return false }
        var at = 1
        if first & 0x80 != 0 {
            guard at < payload.count else { return false }
            let flags = payload[at]
            at += 1
            if flags & 0x80 != 0 {
                guard at < payload.count else { return false }
                at += payload[at] & 0x80 != 0 ? 2 : 1
            }
            if flags & 0x40 != 0 { at += 1 }
            if flags & 0x30 != 0 { at += 1 }
        }
        return at < payload.count && payload[at] & 0x01 == 0
    }
}
