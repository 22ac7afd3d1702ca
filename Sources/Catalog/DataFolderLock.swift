import Foundation
import Glibc

/// Holds a data folder for one process: a server, or a command that needs the server stopped. The kernel lets go of it when the process ends.
public final class DataFolderLock: Sendable {
    private let descriptor: Int32

    public struct InUse: Error, CustomStringConvertible {
        public var folder: String
        public var description: String { "the data folder \(folder) is in use by a running server, or by a command that needs it for itself: stop it first" }
    }

    public struct Unusable: Error, CustomStringConvertible {
        public var description: String
    }

    /// Throws ``InUse`` where somebody has it; ``Unusable`` where the folder is not there or cannot be written.
    public init(folder: URL) throws {
        let path = folder.appending(path: "lock").path
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Unusable(description: "\(path) cannot be opened: \(String(cString: strerror(errno)))") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            Glibc.close(descriptor)
            guard code == EWOULDBLOCK else { throw Unusable(description: "\(path) cannot be locked: \(String(cString: strerror(code)))") }
            throw InUse(folder: folder.path)
        }
    }

    deinit { close(descriptor) }
}
