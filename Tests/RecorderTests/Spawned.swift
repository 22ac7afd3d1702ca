import CLinux
import Foundation
import Glibc

/// A child process by posix_spawn and waitpid: Foundation's waits for a run loop's wake-up, and of the thousands of children here some were
/// waited for in vain.
///
/// Proof of `@unchecked`: used by the one test that started it.
final class Spawned: @unchecked Sendable {
    let processIdentifier: pid_t
    private let output: Int32
    private var status: Int32?

    /// Output and errors can be read; without `withErrors` the latter are thrown away. `withInput`: it reads what is written to it, and what it
    /// says has to come within a minute.
    init(_ path: String, _ arguments: [String], withErrors: Bool = false, withInput: Bool = false) throws {
        var pair: [Int32] = [0, 0]
        guard clinux_socket_pair(&pair) == 0 else { throw KilledServer.Broken(description: "no pipe") }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if withInput { posix_spawn_file_actions_adddup2(&actions, pair[1], 0) } else { posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) }
        posix_spawn_file_actions_adddup2(&actions, pair[1], 1)
        if withErrors { posix_spawn_file_actions_adddup2(&actions, pair[1], 2) } else { posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) }
        // Threads of a pool block signals, and children inherit that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { Glibc.free(word) } }
        var child: pid_t = 0
        let code = posix_spawn(&child, path, &actions, &attributes, &words, environ)
        close(pair[1])
        guard code == 0 else {
            close(pair[0])
            throw KilledServer.Broken(description: "\(path) could not be started: \(String(cString: strerror(code)))")
        }
        (processIdentifier, output) = (child, pair[0])
        if withInput {
            var minute = timeval(tv_sec: 60, tv_usec: 0)
            setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &minute, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    deinit { close(output) }

    func readLine() -> String { String(decoding: read(upTo: 10), as: UTF8.self) }

    func read(upTo end: UInt8) -> [UInt8] {
        var (line, byte): ([UInt8], UInt8) = ([], 0)
        while Glibc.read(output, &byte, 1) == 1, byte != end { line.append(byte) }
        return line
    }

    func write(_ bytes: [UInt8]) throws {
        guard clinux_send_all(output, bytes, bytes.count) == 0 else { throw KilledServer.Broken(description: "it does not read any more") }
    }

    /// Everything until the child, and whoever inherited its output, closes it.
    func readAll() -> Data {
        var all = Data()
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(output, &buffer, buffer.count)
            if count <= 0 { return all }
            all.append(contentsOf: buffer[..<count])
        }
    }

    private static func meaning(_ status: Int32) -> Int32 { status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F) }

    var isRunning: Bool {
        guard status == nil else { return false }
        var raw: Int32 = 0
        if waitpid(processIdentifier, &raw, WNOHANG) == processIdentifier { status = Self.meaning(raw) }
        return status == nil
    }

    /// The exit status, or 128 and the signal.
    @discardableResult
    func wait() -> Int32 {
        if let status { return status }
        var raw: Int32 = 0
        while waitpid(processIdentifier, &raw, 0) < 0, errno == EINTR {}
        status = Self.meaning(raw)
        return Self.meaning(raw)
    }
}
