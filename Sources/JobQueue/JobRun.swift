import Glibc
import Media
import Synchronization

/// One attempt at a job, between the supervisor and whoever does the work.
public final class JobRun: Sendable {
    public let job: Job
    public var lease: Lease { job.lease }

    /// Why an attempt is stopped from outside.
    enum Stop: Hashable, Sendable {
        /// Cancelled, interrupted or rescued: somebody else's now.
        case leaseLost
        /// No progress, or too long: counts as a crash.
        case limit(String)
        /// The worker ends: given back unharmed.
        case shutdown
    }

    struct State {
        var progress: Double
        var progressAt: Nanoseconds
        var reported = 0.0
        var stop: Stop?
        var isAsked = false
        var process: pid_t?
        var peak = Demand()
        var checkpoints = 0
        var wall: Nanoseconds?
    }

    let startedAt: Nanoseconds
    private let state: Mutex<State>
    private let stopBell = Bell()

    init(_ job: Job, now: Nanoseconds) {
        self.job = job
        startedAt = now
        state = Mutex(State(progress: 0, progressAt: now))
    }

    /// Tells how much is done, 0...1. Progress is what keeps an attempt from being stopped as stalled.
    public func progress(_ share: Double) {
        let now = Monotonic.now
        state.withLock { state in
            guard share > state.progress else { return }
            (state.progress, state.progressAt) = (min(share, 1), now)
        }
    }

    /// Begins anew with other means: what was done so far is not kept, and what comes is progress again.
    public func startOver() {
        let now = Monotonic.now
        state.withLock { ($0.progress, $0.reported, $0.progressAt) = (0, 0, now) }
    }

    /// Whether the worker wants to end: work that has boundaries returns ``JobEnding/released`` at the next one.
    public var isAskedToStop: Bool { state.withLock { $0.isAsked || $0.stop != nil } }

    /// Whether it was stopped for having made no progress, or having run too long.
    public var isAtLimit: Bool { state.withLock { if case .limit = $0.stop { true } else { false } } }

    /// Bounds this attempt's time, from its start; the supervisor's own limit stays.
    public func limit(wall: Nanoseconds) { state.withLock { $0.wall = wall } }

    /// The child process that does the work, for measuring what it takes; nil once it has ended.
    public func setProcess(_ process: pid_t?) { state.withLock { $0.process = process } }

    func with<Value>(_ body: (inout State) -> Value) -> Value { state.withLock { body(&$0) } }

    func ask() { state.withLock { $0.isAsked = true } }

    /// The first reason stands.
    func stop(_ reason: Stop) {
        state.withLock { $0.stop = $0.stop ?? reason }
        stopBell.ring()
    }

    func waitForStop() async { await stopBell.park() }

    /// Looks what the child takes; blocks for some microseconds.
    func sample() {
        guard let process = state.withLock({ $0.process }), let use = ProcessUse(process) else { return }
        let seconds = max((Monotonic.now - startedAt).seconds, 0.001)
        state.withLock { state in
            state.peak.memoryBytes = max(state.peak.memoryBytes, use.residentBytes)
            state.peak.cpuShares = Int(use.cpuSeconds / seconds * 1_000)
        }
    }
}

/// How an attempt ended, for the supervisor to write down.
public enum JobEnding: Hashable, Sendable {
    /// Done; the supervisor completes it.
    case done
    /// The work completed it in a transaction of its own.
    case written
    case failed(JobFailure, reason: String)
    /// Given back at a boundary, or not to be tried before a date.
    case released(until: WallTime?)
    /// The lease did not hold any more: nothing is written.
    case lost
}

/// The monotonic clock that decides who is alive and what has stalled: no step of the wall clock moves it.
enum Monotonic {
    static var now: Nanoseconds {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Nanoseconds(count: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}

/// What a process takes, as `/proc` says (proc(5)).
struct ProcessUse {
    var cpuSeconds: Double
    var residentBytes: Int64

    /// Nil where the process is gone.
    init?(_ process: pid_t) {
        guard let file = fopen("/proc/\(process)/stat", "re") else { return nil }
        defer { fclose(file) }
        var buffer = [UInt8](repeating: 0, count: 1_024)
        let count = fread(&buffer, 1, buffer.count, file)
        // The name in brackets may hold anything: the fields are counted from its end.
        guard let bracket = buffer[..<count].lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = String(decoding: buffer[(bracket + 1)..<count], as: UTF8.self).split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard fields.count > 21, let user = Double(fields[11]), let system = Double(fields[12]), let pages = Int64(fields[21]) else { return nil }
        cpuSeconds = (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
        residentBytes = pages * Int64(sysconf(Int32(_SC_PAGESIZE)))
    }
}
