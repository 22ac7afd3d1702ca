import CLinux
import Foundation
import Glibc

/// A child process with what it cost, as the kernel accounts it (wait4).
struct Measured {
    var user: Double
    var system: Double
    var wall: Double
    var status: Int32
    var cpu: Double { user + system }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

    /// Starts a program with its output thrown away, or in files.
    static func start(_ path: String, _ arguments: [String], output: String = "/dev/null", errors: String = "/dev/null") throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var child: pid_t = 0
        let code = posix_spawn(&child, path, &actions, nil, &words, environ)
        guard code == 0 else { throw BenchFailure(description: "\(path) could not be started: \(String(cString: strerror(code)))") }
        return child
    }

    static func wait(_ child: pid_t, since: Double) throws -> Measured {
        var (status, usage): (Int32, rusage) = (0, rusage())
        guard wait4(child, &status, 0, &usage) == child else { throw BenchFailure(description: "wait4 failed") }
        return Measured(user: seconds(usage.ru_utime), system: seconds(usage.ru_stime), wall: now() - since, status: status)
    }

    static func run(_ path: String, _ arguments: [String]) throws -> Measured {
        let start = now()
        let result = try wait(self.start(path, arguments), since: start)
        guard result.status == 0 else { throw BenchFailure(description: "\(path) \(arguments.joined(separator: " ")) failed") }
        return result
    }

    /// What `body` costs in this process.
    static func here(_ body: () throws -> Void) throws -> Measured {
        let (start, before) = (now(), own())
        try body()
        let after = own()
        return Measured(user: after.user - before.user, system: after.system - before.system, wall: now() - start, status: 0)
    }

    private static func own() -> (user: Double, system: Double) {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        return (seconds(usage.ru_utime), seconds(usage.ru_stime))
    }

    /// What all children that have ended cost so far.
    static func children() -> (user: Double, system: Double) {
        var usage = rusage()
        getrusage(RUSAGE_CHILDREN.rawValue, &usage)
        return (seconds(usage.ru_utime), seconds(usage.ru_stime))
    }

    /// The median of some rounds, by CPU time.
    static func median(_ rounds: Int, _ body: () throws -> Measured) rethrows -> Measured {
        var all: [Measured] = []
        for _ in 0..<rounds { all.append(try body()) }
        return all.sorted { $0.cpu < $1.cpu }[rounds / 2]
    }

    static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
