import Foundation
import Glibc
import JobQueue
import Media
import Synchronization

/// Jobs that are shell commands, each a child process: what a stage is to the queue, without media.
///
/// A command that ends with another status than 0, or by a signal, counts as a crash. A cancelled one is killed.
public final class ShellWork: JobWork {
    public typealias Store = SQLiteJobStore
    public static let kind: JobKind = "shell"

    public let kinds: Set<JobKind>
    /// The ids of jobs in the order in which they ended or changed hands.
    public let settled = Mutex<[JobID]>([])
    /// How often the store could not be read or written.
    public let storeFailures = Mutex(0)

    private let wall: Nanoseconds?

    /// `wall`: bounds each attempt by itself.
    public init(kinds: Set<JobKind> = [ShellWork.kind], wall: Nanoseconds? = nil) { (self.kinds, self.wall) = (kinds, wall) }

    public func perform(_ job: Job, _ run: JobRun) async throws -> JobEnding {
        if let wall { run.limit(wall: wall) }
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", job.payload]
        // A command that never reads its input, and says nothing.
        process.standardInput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        let child = Child(process)
        let status = try await withTaskCancellationHandler { try await child.run { run.setProcess($0) } } onCancel: { child.kill() }
        if Task.isCancelled { throw CancellationError() }
        return status == 0 ? .done : .failed(.crash, reason: "it ended with status \(status)")
    }

    public func settle(_ job: Job, in transaction: SQLiteJobStore.Transaction) throws { settled.withLock { $0.append(job.id) } }
    public func note(_ event: JobNote) { if case .storeFailed = event { storeFailures.withLock { $0 += 1 } } }

    /// Proof of `@unchecked`: the process is started and killed under the lock.
    private final class Child: @unchecked Sendable {
        private let process: Process
        private let isKilled = Mutex(false)

        init(_ process: Process) { self.process = process }

        func run(_ started: (pid_t) -> Void) async throws -> Int32 {
            try await withCheckedThrowingContinuation { continuation in
                process.terminationHandler = { continuation.resume(returning: $0.terminationReason == .exit ? $0.terminationStatus : -$0.terminationStatus) }
                do {
                    try isKilled.withLock { isKilled in
                        try process.run()
                        started(process.processIdentifier)
                        if isKilled { _ = Glibc.kill(process.processIdentifier, SIGKILL) }
                    }
                } catch {
                    process.terminationHandler = nil
                    continuation.resume(throwing: error)
                }
            }
        }

        func kill() {
            isKilled.withLock { isKilled in
                isKilled = true
                if process.isRunning { _ = Glibc.kill(process.processIdentifier, SIGKILL) }
            }
        }
    }
}
