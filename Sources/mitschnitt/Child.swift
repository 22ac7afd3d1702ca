import Foundation
import Glibc

/// A child process of the demo: another `mitschnitt`.
///
/// Proof of `@unchecked`: started once in `init`; its output is read by one thread only, and Foundation's `Process` may be asked to end,
/// and waited for, from any.
final class Child: @unchecked Sendable {
    private let process = Process()
    private let output = Pipe()

    /// Starts `executable`; its standard output can be read line by line, its standard error goes to `log` or ours.
    init(_ executable: String, _ arguments: [String], log: URL? = nil) throws {
        process.executableURL = URL(filePath: executable)
        process.arguments = arguments
        process.standardOutput = output
        process.standardInput = FileHandle.nullDevice
        if let log {
            guard FileManager.default.createFile(atPath: log.path, contents: nil) else { throw CommandError(what: "\(log.path) cannot be written") }
            process.standardError = try FileHandle(forWritingTo: log)
        }
        try process.run()
    }

    var processIdentifier: Int32 { process.processIdentifier }
    var isRunning: Bool { process.isRunning }

    /// The next line of standard output; nil at its end. Blocks.
    func readLine() -> String? {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while read(output.fileHandleForReading.fileDescriptor, &byte, 1) == 1 {
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
            if line.count >= 1 << 20 { break }
        }
        return line.isEmpty ? nil : String(decoding: line, as: UTF8.self)
    }

    /// Asks the child to stop and waits for it. Blocks.
    @discardableResult
    func stop(_ signal: Int32 = SIGTERM) -> Int32 {
        if process.isRunning { kill(process.processIdentifier, signal) }
        return wait()
    }

    /// Waits for the end; the exit status. Blocks.
    @discardableResult
    func wait() -> Int32 {
        process.waitUntilExit()
        return process.terminationStatus
    }
}

/// Where this program and its companions lie.
enum Companion {
    static var executable: String { (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0] }  // always there on Linux

    /// `mitschnitt-stage` beside this program.
    static var stage: String { URL(filePath: executable).deletingLastPathComponent().appending(path: "mitschnitt-stage").path }
}
