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
    /// Limits of the child where they do not follow from the order: tests.
    public var limits: StageLimits?

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
        let limits = limits(of: order, descriptors)
        var (pair, errors) = ([-1, -1] as [Int32], [-1, -1] as [Int32])
        guard clinux_socket_pair(&pair) == 0 else { throw StageRunError.notStarted("socketpair: errno \(errno)") }
        let channel = StageChannel(socket: pair[0])
        defer { close(pair[0]) }
        guard clinux_pipe(&errors) == 0 else {
            close(pair[1])
            throw StageRunError.notStarted("pipe: errno \(errno)")
        }
        let (words, end) = (errors[0], errors[1])
        defer { close(words) }
        async let said = BlockingWork.onThread(named: "stage-words") { StageWords.read(words) }
        let ended: Result<ExecutionResult<Result<StageResult, StageRunError>, DiscardedOutput, FileDescriptorOutput>, any Error>
        do {
            // SWIFT_BACKTRACE: the runtime's own crash handler can hang, and prints memory. LIBC_FATAL_STDERR_: the C library's last words go to
            // standard error and not to a terminal, which it would have to open.
            ended = .success(try await Subprocess.run(
                .path(FilePath(executable)), arguments: Arguments(limits.arguments), environment: .custom(["SWIFT_BACKTRACE": "enable=no", "LC_ALL": "C.UTF-8", "LIBC_FATAL_STDERR_": "1"]),
                workingDirectory: "/",
                input: .fileDescriptor(FileDescriptor(rawValue: pair[1]), closeAfterSpawningProcess: true),
                output: .discarded, error: .fileDescriptor(FileDescriptor(rawValue: end), closeAfterSpawningProcess: false)
            ) { execution in
                started(execution.processIdentifier.value)
                return await withTaskCancellationHandler {
                    await Self.converse(channel, order, descriptors, progress)
                } onCancel: {
                    shutdown(channel.socket, Int32(SHUT_RDWR))  // the child sees the end and exits; the conversation ends
                }
            })
        } catch {
            ended = .failure(error)
        }
        // The child is gone, and nobody else writes: what it said has an end.
        close(end)
        let text = try await said.text
        let outcome: ExecutionResult<Result<StageResult, StageRunError>, DiscardedOutput, FileDescriptorOutput>
        do { outcome = try ended.get() } catch is CancellationError { throw StageRunError.cancelled } catch { throw StageRunError.notStarted("\(executable): \(error)") }
        try Task.checkCancellation()
        switch outcome.closureResult {
        case .success(let result): return result
        case .failure(.died(_)): throw StageRunError.died(StageEnding.text(outcome.terminationStatus, limits) + (text.isEmpty ? "" : "\n" + text))
        case .failure(let error): throw error
        }
    }

    /// What the order's child may use, by its inputs' lengths.
    public func limits(of order: StageOrder, _ descriptors: [Int32]) -> StageLimits {
        if let limits { return limits }
        let bytes = order.inputs.flatMap(\.descriptors).reduce(into: 0 as UInt64) { sum, place in
            var status = stat()
            guard descriptors.indices.contains(place), fstat(descriptors[place], &status) == 0, status.st_size > 0 else { return }
            sum += UInt64(status.st_size)
        }
        return StageLimits(for: order, inputBytes: bytes)
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
}

/// Why a stage gave no result.
public enum StageRunError: Error, Equatable, Sendable {
    /// The child could not be started; the text says why.
    case notStarted(String)
    /// The stage gave up and said why.
    case failed(StageFailure)
    /// The child ended without an answer: a crash, a limit, a kill. How, in one line; then the last lines of its standard error.
    case died(String)
    case cancelled
}
