import Foundation
import Glibc

/// A file that its process holds locked for as long as it lives: whoever finds it unlocked knows that the process is gone.
///
/// The lock belongs to the open file description (`F_OFD_SETLK`, fcntl(2)): the kernel lets go of it when the last descriptor closes, at any
/// kind of death, and a second look from the same process conflicts like one from another. Children never inherit it (`O_CLOEXEC`).
public final class LockedFile: Sendable {
    public let path: String
    private let descriptor: Int32

    public struct Unusable: Error, CustomStringConvertible { public var description: String }

    /// Makes the file and locks it. Throws where it is locked, or cannot be made.
    public init(_ path: String) throws {
        self.path = path
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Unusable(description: "\(path) cannot be opened: \(String(cString: strerror(errno)))") }
        guard Self.lock(descriptor) else {
            let code = errno
            close(descriptor)
            throw Unusable(description: "\(path) cannot be locked: \(String(cString: strerror(code)))")
        }
    }

    /// Whether nobody holds it: its process is gone, or never was. It is asked and not tried, on a descriptor that cannot write: the closing of one
    /// that can is an event to all who watch the folder, who would look as well, and so on for ever.
    public static func isFree(_ path: String) -> Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { return errno == ENOENT }
        defer { close(descriptor) }
        var whole = wholeFile
        return fcntl(descriptor, openFileDescriptionGetLock, &whole) == 0 && whole.l_type == Int16(F_UNLCK)
    }

    /// Changes the file, so that who watches its folder wakes.
    func touch() {
        var byte: UInt8 = 0
        // Where that fails the others still look every few seconds.
        _ = pwrite(descriptor, &byte, 1, 0)
    }

    private static func lock(_ descriptor: Int32) -> Bool {
        var whole = wholeFile
        return fcntl(descriptor, openFileDescriptionSetLock, &whole) == 0
    }

    /// An exclusive lock on all of it.
    private static var wholeFile: flock {
        var whole = flock()
        whole.l_type = Int16(F_WRLCK)
        whole.l_whence = Int16(SEEK_SET)
        return whole
    }

    /// `F_OFD_GETLK` and `F_OFD_SETLK`: hidden behind `_GNU_SOURCE`.
    private static let openFileDescriptionGetLock: Int32 = 36
    private static let openFileDescriptionSetLock: Int32 = 37

    deinit {
        unlink(path)
        close(descriptor)
    }
}
