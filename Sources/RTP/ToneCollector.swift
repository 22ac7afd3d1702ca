/// Makes one tone of each key press out of the many packets that report it (RFC 4733 section 2.5); one collector per SSRC.
///
/// | packet | open tone | its own | tone given |
/// |---|---|---|---|
/// | same press, no end | goes on | | |
/// | same press, end | is given, once | | the press |
/// | another press, no end | its end was lost | opened | the former |
/// | another press, end | its end was lost | | the former; if none, this one |
///
/// Where the ends of two presses are due at once, the second is given with the next packet or by ``finish()``.
public struct ToneCollector: Hashable, Sendable {
    /// A packet this far behind the press before is late; farther, the clock was set back. In units of the clock (60 s at 8 kHz).
    static let behindMax: Int64 = 480_000

    private struct Press: Hashable, Sendable {
        var tone: Tone
        /// Where the present segment begins: a press longer than 0xFFFF is reported in several (section 2.5.1.3).
        var segment: Int64
        /// Of the present segment, as far as it was reported.
        var reported: Int64
        var isGiven = false
    }

    private var press: Press?
    /// Ended, but not given because the one before it was due with the same packet. Then `press` is this one, so no third can be due.
    private var due: Tone?

    public init() {}

    /// `timestamp` is the packet's extended time stamp. Events that are no key are ignored.
    public mutating func push(timestamp: Int64, payload: UnsafeRawBufferPointer, marker: Bool) -> Tone? {
        guard let event = TelephoneEvent(payload), let digit = event.digit else { return takeDue() }
        if var current = press {
            let distance = timestamp &- current.segment
            if distance < 0, distance > -Self.behindMax { return takeDue() }
            if current.tone.digit == digit, belongs(distance, marker, current) {
                if distance > 0 { (current.segment, current.reported) = (timestamp, 0) }
                current.reported = max(current.reported, Int64(event.duration))
                if !current.isGiven { current.tone.duration = max(current.tone.duration, current.segment &- current.tone.timestamp &+ current.reported) }
                let tone = event.isEnd && !current.isGiven ? current.tone : nil
                current.isGiven = current.isGiven || event.isEnd
                press = current
                return tone ?? takeDue()
            }
        }
        let former = press.flatMap { $0.isGiven ? nil : $0.tone }
        let tone = Tone(digit: digit, timestamp: timestamp, duration: Int64(event.duration))
        press = Press(tone: tone, segment: timestamp, reported: Int64(event.duration), isGiven: event.isEnd)
        let first = former ?? takeDue()
        guard event.isEnd else { return first }
        guard first != nil else { return tone }
        due = tone
        return first
    }

    /// Nothing more comes for now: gives what is still due, nil when there is nothing (left). Call it until then.
    public mutating func finish() -> Tone? {
        if let tone = takeDue() { return tone }
        defer { press = nil }
        return press.flatMap { $0.isGiven ? nil : $0.tone }
    }

    /// Whether a packet `distance` after the present segment's beginning reports the same press.
    private func belongs(_ distance: Int64, _ marker: Bool, _ press: Press) -> Bool {
        if distance == 0 { return true }
        // A new press bears the marker. Without it: the next segment of a long one, or a sender that moves the time stamp as the press goes on.
        guard !marker, distance > 0 else { return false }
        return distance <= press.reported || (!press.isGiven && distance % 0xFFFF == 0)
    }

    private mutating func takeDue() -> Tone? {
        defer { due = nil }
        return due
    }
}
