import Glibc
import Media
import Synchronization

/// The clock of the whole service: the only place where time is read.
///
/// The machine's wall clock can be set; what is past its date must not come back for it, and nothing may be destroyed on its word alone. So:
///
/// | the wall clock | ``now``: reading, gates, dates | ``settled``: what is destroyed for its date |
/// |---|---|---|
/// | goes on | follows it | follows it |
/// | is set back | goes on from where it was, by the machine's steady clock | the same |
/// | is set forward by more than a minute | follows at once: closed is closed again when it is set right | goes on by the steady clock, and follows when the wall clock has stayed there for ``jumpWait`` |
///
/// Over a restart the catalog remembers the latest settled time (``Recorder/keepTime()``). It can be moved forward on purpose, and only where
/// the server was started so (tests and the demo), to see expiry happen: that step is believed at once, and forgotten at the end.
public final class ServiceClock: Sendable {
    /// How long a step forward is looked at before anything is destroyed for it: half of the hour within which bytes have to be gone.
    public static let jumpWait = Nanoseconds.seconds(1_800)
    /// More than any slewing, and than a machine that was stopped for a moment.
    static let stepMax = Nanoseconds.seconds(60)

    /// What the machine's clocks say: the wall's, and one that is never set and runs on while the machine sleeps.
    struct Reading: Sendable {
        var wall: WallTime
        var steady: Nanoseconds
    }

    private struct State {
        /// Wall minus steady, as believed for reading and for destroying.
        var now: Nanoseconds
        var settled: Nanoseconds
        /// Since when the wall has been ahead of what is settled.
        var aheadSince: Nanoseconds?
        /// How far it was moved on purpose.
        var moved = Nanoseconds.zero
    }

    public let isMovable: Bool
    private let read: @Sendable () -> Reading
    private let state: Mutex<State>

    public convenience init(isMovable: Bool = false) { self.init(isMovable: isMovable, read: Self.machine) }

    /// A clock that stands at `time` until it is moved: for tests that mean a moment to the nanosecond.
    public convenience init(standingAt time: WallTime) { self.init(isMovable: true) { Reading(wall: time, steady: .zero) } }

    init(isMovable: Bool, read: @escaping @Sendable () -> Reading) {
        self.isMovable = isMovable
        self.read = read
        let first = read()
        let offset = Nanoseconds(count: first.wall.nanoseconds - first.steady.count)
        state = Mutex(State(now: offset, settled: offset))
    }

    @Sendable private static func machine() -> Reading {
        func time(_ clock: clockid_t) -> Int64 {
            var time = timespec()
            clock_gettime(clock, &time)
            return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
        }
        return Reading(wall: WallTime(nanoseconds: time(CLOCK_REALTIME)), steady: Nanoseconds(count: time(CLOCK_BOOTTIME)))
    }

    public var now: WallTime {
        state.withLock { state in
            let reading = follow(&state)
            return WallTime(nanoseconds: (reading.steady + state.now + state.moved).count)
        }
    }

    /// The time by which what is past its date is destroyed; never later than ``now``.
    public var settled: WallTime {
        state.withLock { state in
            let reading = follow(&state)
            return WallTime(nanoseconds: (reading.steady + state.settled + state.moved).count)
        }
    }

    /// The settled time without what it was moved by: for the catalog to remember.
    var remembered: WallTime {
        state.withLock { state in
            let reading = follow(&state)
            return WallTime(nanoseconds: (reading.steady + state.settled).count)
        }
    }

    private func follow(_ state: inout State) -> Reading {
        let reading = read()
        let offset = Nanoseconds(count: reading.wall.nanoseconds - reading.steady.count)
        // A step forward that was taken back leaves nothing behind; what was settled stays.
        state.now = max(offset, state.settled)
        guard offset > state.settled else {
            state.aheadSince = nil
            return reading
        }
        let since = state.aheadSince ?? reading.steady
        if offset - state.settled <= Self.stepMax || reading.steady - since >= Self.jumpWait {
            state.settled = offset
            state.aheadSince = nil
        } else {
            state.aheadSince = since
        }
        return reading
    }

    /// Takes up what the catalog remembers: time does not go back behind it, and a wall clock that is far ahead of it has to stay there first.
    func resume(from latest: WallTime) {
        let reading = read()
        state.withLock { $0.settled = Nanoseconds(count: latest.nanoseconds - reading.steady.count) }
    }

    /// Moves the clock forward. Throws `.forbidden` for a clock that is not movable, `.invalid` for a step back or beyond 100 years.
    public func advance(by step: Nanoseconds) throws(RecorderError) {
        guard isMovable else { throw RecorderError(.forbidden, "this server's clock cannot be moved", hint: "start it with --movable-clock; for tests only") }
        let hundredYears = Nanoseconds.seconds(100 * 365 * 86_400)
        let moved = state.withLock { state in
            guard step >= .zero, step <= hundredYears, state.moved + step <= hundredYears else { return false }
            state.moved = state.moved + step
            return true
        }
        guard moved else { throw RecorderError(.invalid, "the clock moves forward only, by at most 100 years in all", pointer: "/advance_seconds") }
    }
}
