import Media

/// When to ask a video's sender for a key frame: at once when its gate opens, again after one and three seconds. Pure.
struct KeyFrameRequests: Sendable {
    private static let schedule: [Nanoseconds] = [.zero, .seconds(1), .seconds(3)]
    /// Never more often than this, however often the gate moves.
    private static let apart = Nanoseconds.milliseconds(500)

    private var began: WallTime?
    private var sent = 0
    private var last: WallTime?

    mutating func begin(at time: WallTime) { (began, sent) = (time, 0) }

    /// Whether a request is to be sent now; it then counts as sent.
    mutating func isDue(at now: WallTime) -> Bool {
        guard let began, sent < Self.schedule.count, now - began >= Self.schedule[sent] else { return false }
        if let last, now - last < Self.apart { return false }
        last = now
        sent += 1
        return true
    }
}
