import Media

/// When a failed job is tried again: errors after a growing delay, crashes at most three times.
public struct RetryPolicy: Hashable, Sendable {
    public var errorsMax = 5
    public var crashesMax = 3
    public var firstDelay = Nanoseconds.seconds(2)
    public var longestDelay = Nanoseconds.seconds(300)

    public init() {}

    /// The delay before the next attempt, doubled for each failure and spread by `jitter` (0..<1) over ±25 %.
    public func delay(afterFailures failures: Int, jitter: Double) -> Nanoseconds {
        let doubled = min(Double(firstDelay.count) * Double(1 << min(max(failures, 1) - 1, 20)), Double(longestDelay.count))
        return Nanoseconds(count: Int64(doubled * (0.75 + jitter / 2)))
    }
}
