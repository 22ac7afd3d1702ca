import Media

/// When a failed job is tried again: errors after a growing delay, crashes at most three times, deaths of its worker for long (decision 34).
public struct RetryPolicy: Hashable, Sendable {
    public var errorsMax = 5
    public var crashesMax = 3
    /// Whoever kills a server twenty times in a row has to bring nothing back by hand; a job that itself takes its worker down comes to an end all the same.
    public var lossesMax = 25
    /// So many deaths of its worker after the first lengthen a job's delay, and no more: they were hardly its fault.
    public var lossesDelayingMax = 4
    public var firstDelay = Nanoseconds.seconds(2)
    public var longestDelay = Nanoseconds.seconds(300)

    /// After the disk was full.
    public var roomDelay = Nanoseconds.seconds(5)

    public init() {}

    /// The delay before the next attempt, doubled for each failure and spread by `jitter` (0..<1) over ±25 %. A first death of its worker costs nothing:
    /// what is rescued goes on at once.
    public func delay(afterFailures failures: Int, losses: Int = 0, jitter: Double) -> Nanoseconds {
        let failures = failures + min(max(losses - 1, 0), lossesDelayingMax)
        guard failures > 0 else { return .zero }
        let doubled = min(Double(firstDelay.count) * Double(1 << min(failures - 1, 20)), Double(longestDelay.count))
        return Nanoseconds(count: Int64(doubled * (0.75 + jitter / 2)))
    }
}
