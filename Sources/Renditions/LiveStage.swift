import CLinux
import Glibc
import Subprocess
import SystemPackage

/// Runs one live stage in a `mitschnitt-stage --live` child for as long as its recording runs.
///
/// The child gets what a ``StageRunner``'s gets, and is killed when the task is cancelled.
public enum LiveStage {
    /// What is to be handed over next, and the file that goes with it; nil: nothing for the moment.
    public typealias Next = @Sendable () async throws -> [(feed: LiveFeed, path: String?)]

    /// Hands the order over, then whatever `next` gives until that is ``LiveFeed/finish``; `receive` gets what comes back. `next` returns when
    /// there is something. Returns when the child has ended. Throws ``StageRunError``.
    public static func run(executable: String, _ order: LiveOrder, descriptors: [Int32], next: @escaping Next, receive: @escaping @Sendable (LiveMessage) -> Void) async throws {
        var pair: [Int32] = [-1, -1]
        guard clinux_socket_pair(&pair) == 0 else { throw StageRunError.notStarted("socketpair: errno \(errno)") }
        let channel = StageChannel(socket: pair[0])
        defer { close(pair[0]) }
        let ended: ExecutionResult<Void, DiscardedOutput, DiscardedOutput>
        do {
            ended = try await Subprocess.run(
                .path(FilePath(executable)), arguments: ["--live"], environment: .custom(["SWIFT_BACKTRACE": "enable=no", "LC_ALL": "C.UTF-8", "LIBC_FATAL_STDERR_": "1"]), workingDirectory: "/",
                input: .fileDescriptor(FileDescriptor(rawValue: pair[1]), closeAfterSpawningProcess: true),
                output: .discarded, error: .discarded
            ) { _ in
                await withTaskCancellationHandler {
                    await withTaskGroup { group in
                        group.addTask { await hear(channel, receive) }
                        group.addTask { await speak(channel, order, descriptors, next) }
                        await group.waitForAll()
                    }
                } onCancel: {
                    shutdown(channel.socket, Int32(SHUT_RDWR))
                }
            }
        } catch is CancellationError {
            throw StageRunError.cancelled
        } catch {
            throw StageRunError.notStarted("\(executable): \(error)")
        }
        try Task.checkCancellation()
        guard ended.terminationStatus.isSuccess else { throw StageRunError.died("\(ended.terminationStatus)") }
    }

    private static func hear(_ channel: StageChannel, _ receive: @escaping @Sendable (LiveMessage) -> Void) async {
        // However it ends, nobody is there any more: what is sent then fails at once.
        defer { shutdown(channel.socket, Int32(SHUT_RDWR)) }
        try? await BlockingWork.onThread(named: "stage-live") {  // a channel that fails is a child that is gone
            while let message: LiveMessage = try channel.receive() { receive(message) }
        }
    }

    private static func speak(_ channel: StageChannel, _ order: LiveOrder, _ descriptors: [Int32], _ next: @escaping Next) async {
        do {
            try await BlockingWork.onThread(named: "stage-live-order") { try channel.send(order, descriptors: descriptors) }
            while !Task.isCancelled {
                let round = try await next()
                try await BlockingWork.run { for (feed, path) in round { try send(feed, path, channel) } }
                if round.contains(where: { if case .finish = $0.feed { true } else { false } }) { return }
            }
        } catch {
            shutdown(channel.socket, Int32(SHUT_RDWR))  // the child ends without what it was promised, and so does its result
        }
    }

    private static func send(_ feed: LiveFeed, _ path: String?, _ channel: StageChannel) throws {
        guard let path else { return try channel.send(feed, descriptors: []) }
        let isNew = if case .room = feed { true } else { false }
        let descriptor = open(path, isNew ? O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw StageChannelError.system("open", errno) }
        defer { close(descriptor) }
        try channel.send(feed, descriptors: [descriptor])
    }
}
