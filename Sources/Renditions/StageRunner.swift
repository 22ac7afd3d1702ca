import CLinux
import Glibc
import Subprocess
import SystemPackage

/// Runs one stage in a `mitschnitt-stage` child and waits for it.
///
/// The child gets the control socket as its standard input, an empty environment and nothing else; a crash or hang of a codec fails
/// only this call. Cancelling the task kills the child.
public struct StageRunner: Sendable {
    /// Path of `mitschnitt-stage`.
    public let executable: String
    /// Bytes of the child's standard error that are kept; the child itself writes no more than half of it.
    static let errorBytesMax = 64 << 10

    /// Carries an order out in this process.
    public typealias Substitute = @Sendable (_ order: StageOrder, _ descriptors: [Int32]) async throws -> StageResult
    private let substitute: Substitute?
    var isSubstitute: Bool { substitute != nil }

    public init(executable: String, substitute: Substitute? = nil) { (self.executable, self.substitute) = (executable, substitute) }

    /// Carries out `order` with the descriptors it counts on, which stay the caller's.
    ///
    /// `started` gets the child's process id; `progress` is called on a thread of the runner with shares 0...1. Throws ``StageRunError``.
    public func run(_ order: StageOrder, descriptors: [Int32], started: @escaping @Sendable (pid_t) -> Void = { _ in }, progress: @escaping @Sendable (Double) -> Void) async throws -> StageResult {
        if let substitute { return try await substitute(order, descriptors) }
        var pair: [Int32] = [-1, -1]
        guard clinux_socket_pair(&pair) == 0 else { throw StageRunError.notStarted("socketpair: errno \(errno)") }
        let channel = StageChannel(socket: pair[0])
        defer { close(pair[0]) }
        let ended: ExecutionResult<Result<StageResult, StageRunError>, DiscardedOutput, StringOutput<UTF8>>
        do {
            // SWIFT_BACKTRACE: the runtime's own crash handler can hang, and prints memory.
            ended = try await Subprocess.run(
                .path(FilePath(executable)), environment: .custom(["SWIFT_BACKTRACE": "enable=no", "LC_ALL": "C.UTF-8"]),
                workingDirectory: "/",
                input: .fileDescriptor(FileDescriptor(rawValue: pair[1]), closeAfterSpawningProcess: true),
                output: .discarded, error: .string(limit: Self.errorBytesMax)
            ) { execution in
                started(execution.processIdentifier.value)
                return await withTaskCancellationHandler {
                    await Self.converse(channel, order, descriptors, progress)
                } onCancel: {
                    shutdown(channel.socket, Int32(SHUT_RDWR))  // the child sees the end and exits; the conversation ends
                }
            }
        } catch is CancellationError {
            throw StageRunError.cancelled
        } catch {
            throw StageRunError.notStarted("\(executable): \(error)")
        }
        try Task.checkCancellation()
        switch ended.closureResult {
        case .success(let result): return result
        case .failure(.died(_)): throw StageRunError.died("\(ended.terminationStatus)\(Self.lastLine(ended.standardError))")
        case .failure(let error): throw error
        }
    }

    private static func converse(_ channel: StageChannel, _ order: StageOrder, _ descriptors: [Int32],
                                 _ progress: @escaping @Sendable (Double) -> Void) async -> Result<StageResult, StageRunError> {
        do {
            return .success(try await BlockingWork.onThread(named: "stage-\(order.stage.rawValue)") {
                try channel.send(order, descriptors: descriptors)
                while let message = try channel.receiveMessage() {
                    switch message {
                    case .progress(let share) where share.isFinite: progress(min(max(share, 0), 1))
                    case .progress: continue
                    case .result(let result): return result
                    case .failure(let failure): throw StageRunError.failed(failure)
                    }
                }
                throw StageRunError.died("")
            })
        } catch let error as StageRunError {
            return .failure(error)
        } catch {
            return .failure(.died("\(error)"))
        }
    }

    private static func lastLine(_ text: String?) -> String {
        guard let line = text?.split(separator: "\n").last else { return "" }
        return ": \(line.prefix(300))"
    }
}

/// Why a stage gave no result.
public enum StageRunError: Error, Equatable, Sendable {
    /// The child could not be started; the text says why.
    case notStarted(String)
    /// The stage gave up and said why.
    case failed(StageFailure)
    /// The child ended without an answer: a crash, a limit, a kill.
    case died(String)
    case cancelled
}
