import Dispatch
import Foundation
import Glibc
import Media
import Synchronization

/// Tells whoever waits that something about jobs changed, without anybody asking again and again.
///
/// Within the process it is a call. Between the processes of one machine it is a folder that each watches (inotify(7)): a change touches a file
/// there, and the end of a process closes its files there, which is an event as well. An event can be missed (a process killed between its
/// commit and its touch), so who waits looks once in a while all the same.
public final class JobChanges: Sendable {
    /// Holds the locks of the workers on this machine; nil for a store in memory.
    public let folder: URL?
    private let own: LockedFile?
    private let state = Mutex<[Int: Bell]>([:])
    private let watch: FolderWatch?

    /// A store in memory: nobody else can see it.
    public init() { (folder, own, watch) = (nil, nil, nil) }

    /// Throws where the folder cannot be made or watched.
    public init(folder: URL) throws {
        self.folder = folder
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) where name.hasSuffix(".bell") {
            let path = folder.appending(path: name).path
            if LockedFile.isFree(path) { unlink(path) }
        }
        let name = "\(WorkerID.random()).bell"
        own = try LockedFile(folder.appending(path: name).path)
        watch = try FolderWatch(folder.path, except: name)
        watch?.onEvent { [weak self] in self?.wake() }
    }

    deinit { watch?.stop() }

    /// Something changed, and is committed.
    public func ring() {
        wake()
        own?.touch()
    }

    func subscribe(_ bell: Bell) { state.withLock { $0[bell.id] = bell } }
    func unsubscribe(_ bell: Bell) { state.withLock { $0[bell.id] = nil } }

    private func wake() { for bell in state.withLock({ Array($0.values) }) { bell.ring() } }

    /// The lock by which this machine sees whether a worker lives; nil in memory, where it dies with the process.
    func seat(of worker: WorkerID) -> URL? { folder?.appending(path: "\(worker).worker") }
}

/// One waiter's bell: rung before it is waited for, the wait returns at once; any number of rings is one.
public final class Bell: Sendable {
    let id: Int
    private static let next = Atomic(0)
    private enum State {
        case silent, rung
        case awaited(CheckedContinuation<Void, Never>)
    }
    private let state = Mutex(State.silent)

    public init() { id = Self.next.add(1, ordering: .relaxed).newValue }

    public func ring() {
        let waiting: CheckedContinuation<Void, Never>? = state.withLock { state in
            if case .awaited(let waiting) = state {
                state = .silent
                return waiting
            }
            state = .rung
            return nil
        }
        waiting?.resume()
    }

    /// Waits for a ring, at most `duration`, and until the task is cancelled. One waiter at a time.
    public func wait(atMost duration: Duration) async {
        await withTaskGroup { group in
            group.addTask { await self.park() }
            group.addTask {
                try? await Task.sleep(for: duration)  // cancelled: somebody rang
            }
            await group.next()
            group.cancelAll()
        }
    }

    /// Waits for a ring, and until the task is cancelled.
    func park() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if case .rung = state {
                        state = .silent
                        return true
                    }
                    if Task.isCancelled { return true }
                    state = .awaited(continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            let waiting: CheckedContinuation<Void, Never>? = state.withLock { state in
                guard case .awaited(let waiting) = state else { return nil }
                state = .silent
                return waiting
            }
            waiting?.resume()
        }
    }
}
