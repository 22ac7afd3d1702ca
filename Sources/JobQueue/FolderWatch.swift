import Dispatch
import Glibc
import Synchronization

/// Events of the files in one folder but one, until it is stopped.
final class FolderWatch: Sendable {
    private let place: FolderWatches.Place

    /// Throws where the folder cannot be watched.
    init(_ folder: String, except: String) throws { place = try FolderWatches.shared.add(folder, except: except) }

    /// `body` is called for them, one call at a time, and has to be short.
    func onEvent(_ body: @escaping @Sendable () -> Void) { FolderWatches.shared.set(body, at: place) }
    func stop() { FolderWatches.shared.remove(place) }
}

/// All folders that a process watches, on one instance of inotify(7): of those a user has few (128), of watches many.
///
/// Proof of `@unchecked`: the source is made once under the mutex and never changed; Dispatch's own calls on it are safe from any thread.
private final class FolderWatches: @unchecked Sendable {
    static let shared = FolderWatches()

    struct Place: Hashable, Sendable { var watch, number: Int32 }
    private struct Waiting {
        var except: String
        var body: (@Sendable () -> Void)?
    }
    private struct State {
        var descriptor: Int32 = -1
        var waiting: [Int32: [Int32: Waiting]] = [:]
        var next: Int32 = 0
    }
    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "mitschnitt.jobs.folders")
    private var source: (any DispatchSourceRead)?

    func add(_ folder: String, except: String) throws -> Place {
        try state.withLock { state in
            if state.descriptor < 0 {
                state.descriptor = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
                guard state.descriptor >= 0 else { throw Self.unusable(folder, errno) }
                let made = DispatchSource.makeReadSource(fileDescriptor: state.descriptor, queue: queue)
                made.setEventHandler { [self, descriptor = state.descriptor] in hear(descriptor) }
                made.activate()
                source = made
            }
            // The same number for the same folder, where it is watched already.
            let watch = inotify_add_watch(state.descriptor, folder, UInt32(IN_MODIFY | IN_CLOSE_WRITE))
            guard watch >= 0 else { throw Self.unusable(folder, errno) }
            state.next &+= 1
            state.waiting[watch, default: [:]][state.next] = Waiting(except: except)
            return Place(watch: watch, number: state.next)
        }
    }

    func set(_ body: @escaping @Sendable () -> Void, at place: Place) { state.withLock { $0.waiting[place.watch]?[place.number]?.body = body } }

    func remove(_ place: Place) {
        state.withLock { state in
            state.waiting[place.watch]?[place.number] = nil
            guard state.waiting[place.watch]?.isEmpty ?? false else { return }
            state.waiting[place.watch] = nil
            inotify_rm_watch(state.descriptor, place.watch)  // it may be gone with its folder
        }
    }

    private static func unusable(_ folder: String, _ code: Int32) -> LockedFile.Unusable {
        LockedFile.Unusable(description: "\(folder) cannot be watched: \(String(cString: strerror(code)))")
    }

    /// An overflow of the queue is an event for everybody.
    private func hear(_ descriptor: Int32) {
        var heard: [Int32: Set<String>] = [:]
        var hasOverflown = false
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { break }
            var at = 0
            while at + MemoryLayout<inotify_event>.size <= count {
                let (watch, mask, length) = buffer.withUnsafeBytes {
                    ($0.loadUnaligned(fromByteOffset: at, as: Int32.self), $0.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self), Int($0.loadUnaligned(fromByteOffset: at + 12, as: UInt32.self)))
                }
                if mask & UInt32(IN_Q_OVERFLOW) != 0 { hasOverflown = true }
                if mask & UInt32(IN_MODIFY | IN_CLOSE_WRITE) != 0 {
                    heard[watch, default: []].insert(String(decoding: buffer[(at + 16)..<min(at + 16 + length, count)].prefix { $0 != 0 }, as: UTF8.self))
                }
                at += 16 + length
            }
        }
        let bodies = state.withLock { state in
            state.waiting.flatMap { watch, all in all.values.filter { one in hasOverflown || heard[watch]?.contains { $0 != one.except } ?? false }.compactMap(\.body) }
        }
        for body in bodies { body() }
    }
}
