import Foundation
import Glibc
import SealedFile

/// Puts a new root key in the place of the old one. Whoever calls holds the data folder's ``DataFolderLock``.
///
/// | step | root.key | root.key.new | the store opens under |
/// |---|---|---|---|
/// | before | old | – | old |
/// | new key written, durable | old | new | old |
/// | everything wrapped anew, one transaction | old | new | new |
/// | store written anew (VACUUM) | old | new | new |
/// | old key overwritten | zeroes | new | new |
/// | renamed | new | – | new |
///
/// Killed anywhere, one of the two files opens everything, and ``settle()`` finishes or takes back what was begun.
public struct KeyRotation: Sendable {
    public enum Step: Hashable, Sendable, CaseIterable { case newKeyWritten, rewrapped, compacted, oldKeyOverwritten, renamed }

    public enum Outcome: Hashable, Sendable {
        /// There was nothing to settle.
        case untouched
        /// The old root opens everything; the new one, which wrapped nothing, was destroyed.
        case takenBack
        /// The new root opens everything; the old one was destroyed.
        case finished
    }

    private let store: String
    /// Where the old key lies; nil where it comes from a credential or the environment, which only their owner can change.
    private let root: String?
    private let next: String

    public struct Stuck: Error, CustomStringConvertible {
        public var description: String
    }

    /// For the root key beside the data.
    public init(data: URL) {
        store = data.appending(path: "keys.sqlite").path
        root = data.appending(path: "root.key").path
        next = data.appending(path: "root.key.new").path
    }

    /// For a root key from elsewhere: the new one is written to `newKey`, to be put in its place by hand.
    public init(data: URL, newKey: String) {
        store = data.appending(path: "keys.sqlite").path
        root = nil
        next = newKey
    }

    public var isBegun: Bool { access(next, F_OK) == 0 }

    private func census(_ key: DataKey) throws -> KeyStore.Census {
        let store = try KeyStore(path: store, root: key)
        defer { try? store.close() }  // nothing is written with it
        return try store.census()
    }

    /// Ends a rotation that was interrupted. `old`: the old key where it does not lie beside the data. Blocks.
    public func settle(old given: DataKey? = nil) throws -> Outcome {
        guard isBegun else { return .untouched }
        let size = try FileManager.default.attributesOfItem(atPath: next)[.size] as? Int ?? 0
        if size < DataKey.byteCount {
            // Killed while it was written: nothing was ever wrapped under it.
            try RootKey.shred(path: next)
            return .takenBack
        }
        let new = try RootKey.load(path: next)
        let under = try census(new)
        if under.underRoot > 0, under.isOpen {
            try finish(new) { _ in }
            return .finished
        }
        guard let old = try given ?? root.map({ try RootKey.load(path: $0) }), try census(old).isOpen else {
            throw Stuck(description: "neither the old root key nor the new one (\(next)) opens everything in \(store): restore the key store from the backup, and leave both keys where they are")
        }
        try RootKey.shred(path: next)
        return .takenBack
    }

    /// Rotates; throws, with nothing changed, where anything does not open under `old`. `step` is told after each step (tests end there). Blocks.
    public func rotate(from old: DataKey, step: (Step) throws -> Void = { _ in }) throws {
        precondition(!isBegun, "settle first")
        let store = try KeyStore(path: store, root: old)
        defer { try? store.close() }  // everything in it was committed
        let bad = try store.unopened()
        guard bad.isEmpty else { throw Stuck(description: "nothing was changed: \(bad.count) keys do not open under this root key, the first of them \(bad[0])") }
        let new = try RootKey.create(path: next)
        try step(.newKeyWritten)
        try store.rewrap(under: new)
        try step(.rewrapped)
        try store.close()
        try finish(new, step)
    }

    private func finish(_ new: DataKey, _ step: (Step) throws -> Void) throws {
        let store = try KeyStore(path: store, root: new)
        try store.compact()
        guard try store.unopened().isEmpty else { throw Stuck(description: "the new root key does not open everything: the old one was left where it is") }
        try store.close()
        try step(.compacted)
        guard let root else { return }
        try RootKey.overwrite(path: root)
        try step(.oldKeyOverwritten)
        guard rename(next, root) == 0 else { throw SealedFileError.system(call: "rename", errno: errno) }
        try DescriptorIO.syncDirectory(URL(filePath: root).deletingLastPathComponent().path)
        try step(.renamed)
    }
}
