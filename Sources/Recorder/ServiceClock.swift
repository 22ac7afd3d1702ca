import Glibc
import Media
import Synchronization

/// The wall clock of the whole service: the only place where it is read.
///
/// It can be moved forward, never back, and only where the server was started so (tests and the demo), to see expiry happen.
public final class ServiceClock: Sendable {
    public let isMovable: Bool
    private let offset = Mutex(Nanoseconds.zero)
    private let standing: WallTime?

    public init(isMovable: Bool = false) { (self.isMovable, standing) = (isMovable, nil) }

    /// A clock that stands at `time` until it is moved: for tests that mean a moment to the nanosecond.
    public init(standingAt time: WallTime) { (isMovable, standing) = (true, time) }

    public var now: WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let real = WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
        return (standing ?? real) + offset.withLock { $0 }
    }

    /// Moves the clock forward. Throws `.forbidden` for a clock that is not movable, `.invalid` for a step back or beyond 100 years.
    public func advance(by step: Nanoseconds) throws(RecorderError) {
        guard isMovable else { throw RecorderError(.forbidden, "this server's clock cannot be moved", hint: "start it with --movable-clock; for tests only") }
        let hundredYears = Nanoseconds.seconds(100 * 365 * 86_400)
        let moved = offset.withLock { offset in
            guard step >= .zero, step <= hundredYears, offset + step <= hundredYears else { return false }
            offset = offset + step
            return true
        }
        guard moved else { throw RecorderError(.invalid, "the clock moves forward only, by at most 100 years in all", pointer: "/advance_seconds") }
    }
}
