import Catalog
import Foundation
import Glibc
import Logging
import Media
import Renditions
import SealedFile

/// Brings a backup back, less everything that was erased since it was taken.
public struct Restore: Sendable {
    public var backup: URL
    /// Where the backup's keys are; default: the folder `keys` in it.
    public var keys: URL?
    /// The data folder to make; must not hold anything.
    public var data: URL
    public var rootKey: URL
    /// The newest ledger of erasures; nil only with the word of whoever restores that what was erased may come back.
    public var ledger: URL?
    public var isWithoutLedger = false
    public var configuration: RecorderConfiguration

    public struct Summary: Sendable {
        public var takenAt: WallTime
        public var files = 0
        /// Files of the backup that the ledger names: never copied.
        public var leftOut = 0
        public var replayed = Recorder.Replayed()
    }

    public init(backup: URL, keys: URL?, data: URL, rootKey: URL, ledger: URL?, isWithoutLedger: Bool, configuration: RecorderConfiguration) {
        self.backup = backup
        self.keys = keys
        self.data = data
        self.rootKey = rootKey
        self.ledger = ledger
        self.isWithoutLedger = isWithoutLedger
        self.configuration = configuration
        self.configuration.data = data
    }

    /// A data folder with this file in it is half restored: what was erased may still be there, and no server starts on it. It is the first file
    /// made and the last removed; the same restore, run again, clears the folder and begins anew.
    static let unfinished = "restore.unfinished"

    private var isUnfinished: Bool { FileManager.default.fileExists(atPath: data.appending(path: Self.unfinished).path) }

    /// Removes everything of an unfinished restore but the file that says so.
    private func clear() throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: data.path) where name != Self.unfinished { try FileManager.default.removeItem(at: data.appending(path: name)) }
        try DescriptorIO.syncDirectory(data.path)
    }

    public func run(logger: Logger) async throws -> Summary {
        let (manifest, ledger) = try await BlockingWork.run { try self.check() }
        var summary = Summary(takenAt: WallTime(nanoseconds: manifest.takenAt))
        let copied = try await BlockingWork.run { try self.copy(manifest, ledger) }
        (summary.files, summary.leftOut) = (copied.files, copied.leftOut)
        try await BlockingWork.run { try self.checkKeys() }
        let recorder = try Recorder(configuration, isRestoring: true, logger: logger)
        summary.replayed = try await recorder.replayErasures(takenAt: summary.takenAt, withLedger: ledger != nil)
        await recorder.shutDown()
        let marker = data.appending(path: Self.unfinished)
        try await BlockingWork.run {
            try FileManager.default.removeItem(at: marker)
            try DescriptorIO.syncDirectory(data.path)
        }
        return summary
    }

    /// Everything that can be refused is, before a byte is written.
    private func check() throws -> (BackupManifest, ErasureLedger?) {
        let file = backup.appending(path: BackupManifest.name)
        guard let bytes = FileManager.default.contents(atPath: file.path) else {
            throw RecorderError(.invalid, "\(backup.path) is no backup: there is no \(BackupManifest.name) in it", hint: "it is written last; a backup without it was interrupted")
        }
        let manifest: BackupManifest
        do { manifest = try JSONDecoder().decode(BackupManifest.self, from: bytes) } catch { throw RecorderError(.invalid, "\(file.path) cannot be read: \(error)") }
        guard manifest.version == 1 else { throw RecorderError(.unsupported, "the backup is of version \(manifest.version), written by a newer program") }
        guard (manifest.files + manifest.keys).allSatisfy({ Self.isSafe($0.path) }) else { throw RecorderError(.invalid, "\(file.path) names files outside of the backup") }
        guard Backup.isAbsentOrEmpty(data) || isUnfinished else { throw RecorderError(.invalid, "\(data.path) is not empty", hint: "a backup is restored to a new folder; move the old one away, and take the ledger and the root key from it") }
        _ = try RootKey.load(path: rootKey.path)
        guard let given = ledger else {
            guard isWithoutLedger else {
                throw RecorderError(.invalid, "no ledger of erasures was given: everything that people had erased since the backup was taken would be back",
                                    hint: "give the newest \(ErasureLedger.fileName) with --ledger: from the old data folder, or the copy kept apart (serve --ledger-copy). "
                                        + "If it is lost, --without-ledger restores all the same; then withdraw again what you know of, and tell those concerned")
            }
            return (manifest, nil)
        }
        guard !isWithoutLedger else { throw RecorderError(.invalid, "--ledger and --without-ledger exclude each other") }
        let ledger: ErasureLedger
        do { ledger = try ErasureLedger(reading: given.path) } catch let error as ErasureLedger.Unusable { throw RecorderError(.invalid, error.description) }
        guard try ledger.continues(manifest.ledger) else {
            throw RecorderError(.invalid, "\(given.path) is not the ledger of this backup's server, or one older than the backup", hint: "the newest one is needed")
        }
        return (manifest, ledger)
    }

    /// A root key of another time (the server's was rotated since) opens nothing: then nothing is left of the restore either.
    private func checkKeys() throws {
        let store = try KeyStore(path: data.appending(path: "keys.sqlite").path, root: RootKey.load(path: data.appending(path: "root.key").path))
        let closed = try store.unopened()
        try store.close()
        guard !closed.isEmpty else { return }
        try clear()
        try FileManager.default.removeItem(at: data)
        throw RecorderError(.invalid, "\(closed.count) keys of the backup do not open under the root key \(rootKey.path)",
                            hint: "give the root key that the server had when the backup was taken; after `keys rotate` older backups need the older one")
    }

    /// A path below the backup's folder, whoever wrote the manifest.
    private static func isSafe(_ path: String) -> Bool {
        !path.isEmpty && !path.hasPrefix("/") && path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
    }

    private func copy(_ manifest: BackupManifest, _ ledger: ErasureLedger?) throws -> (files: Int, leftOut: Int) {
        try Backup.make(data)
        if isUnfinished { try clear() }
        let marker = data.appending(path: Self.unfinished).path
        // Not by way of a temporary file: that would be left by a kill, in a folder that nothing says is ours.
        let mark = open(marker, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard mark >= 0 else { throw RecorderError(.storage, "\(data.path) cannot be written") }
        close(mark)
        try DescriptorIO.syncDirectory(data.path)
        // The ledger first: whatever comes after is less than what it says.
        if let ledger { try ledger.write(to: data.appending(path: ErasureLedger.fileName).path) }
        var count = (files: 0, leftOut: 0)
        let keyFolder = keys ?? backup.appending(path: "keys")
        for (folder, files) in [(backup, manifest.files), (keyFolder, manifest.keys)] {
            for file in files {
                if let ledger, Self.objects(in: file.path).contains(where: ledger.contains) {
                    count.leftOut += 1
                    continue
                }
                try bring(file, from: folder)
                count.files += 1
            }
        }
        let target = data.appending(path: "root.key").path
        let input = open(rootKey.path, O_RDONLY | O_CLOEXEC)
        guard input >= 0 else { throw SealedFileError.system(call: "open", errno: errno) }
        defer { close(input) }
        _ = try Backup.copy(input, to: URL(filePath: target))
        return count
    }

    private func bring(_ file: BackupManifest.File, from folder: URL) throws {
        let source = folder.appending(path: file.path)
        let target = data.appending(path: file.path)
        try Backup.make(target.deletingLastPathComponent())
        let input = open(source.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard input >= 0 else {
            throw RecorderError(.invalid, "\(source.path) is missing in the backup", hint: file.path == "keys.sqlite" ? "give the folder with the keys with --keys" : "the backup is not whole: take another")
        }
        defer { close(input) }
        let found = try Backup.copy(input, to: target)
        guard found.bytes == file.bytes, found.sha256 == file.sha256 else { throw RecorderError(.invalid, "\(source.path) is damaged: it is not what was backed up", hint: "take another backup") }
    }

    /// What a file belongs to, as the ledger calls it.
    private static func objects(in path: String) -> [String] {
        let parts = path.split(separator: "/").map(String.init)
        guard parts.count >= 4, parts[0] == "recordings" else { return parts.count > 1 && parts[0] == "recordings" ? ["recording:\(parts[1])"] : [] }
        let name = String(parts[3].prefix { $0 != "." })
        return ["recording:\(parts[1])", "track:\(name)", "rendition:\(name)"]
    }
}
