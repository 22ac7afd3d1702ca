import Catalog
import Crypto
import Foundation
import Glibc
import Media
import SealedFile

/// What a backup holds. Without this file, written last, a folder is no backup.
struct BackupManifest: Codable {
    struct File: Codable, Hashable {
        /// Below the backup's folder, or below that of the keys.
        var path: String
        var bytes: Int
        var sha256: String
    }
    var version = 1
    /// ns since 1970, before the first copy was made.
    var takenAt: Int64
    /// The ledger of erasures as it was then: a restore wants a later state of the same one.
    var ledger: ErasureLedger.Mark
    var files: [File]
    var keys: [File]

    static let name = "manifest.json"
}

/// Backups of a data folder, taken while a server runs on it.
///
/// In the backup: the catalog and the sealed files, each with its SHA-256. Apart from it, in a folder of their own: the wrapped keys. In
/// neither: the root key, the ledger of erasures, tokens, temporary files. Who has the first alone, or the second alone, reads nothing.
public enum Backup {
    public struct Summary: Sendable {
        public var files: Int
        public var bytes: Int
        public var folder: URL
        public var keys: URL
        public var ledger: URL
        public var rootKey: URL
    }

    /// Takes a backup of `data` to the new folder `target`; keys go to `keys`, else to the folder `keys` in it. Blocks.
    ///
    /// The catalog comes first, then the keys, then the files: what was erased in between is missing in all later ones and in the ledger,
    /// what was made in between belongs to no row. Closed files are hard links where the disk is the same; nothing ever changes them.
    public static func take(of data: URL, to target: URL, keys given: URL? = nil, now: WallTime) throws -> Summary {
        let keys = given ?? target.appending(path: "keys")
        let ledgerFile = data.appending(path: ErasureLedger.fileName)
        guard FileManager.default.fileExists(atPath: data.appending(path: "catalog.sqlite").path) else {
            throw RecorderError(.invalid, "\(data.path) is no data folder: there is no catalog.sqlite in it", hint: "give the server's with --data")
        }
        for folder in [target, keys] {
            guard isAbsentOrEmpty(folder) else { throw RecorderError(.invalid, "\(folder.path) is not empty", hint: "each backup has a folder of its own") }
            try make(folder)
        }
        let mark = try ErasureLedger(reading: ledgerFile.path).mark
        let catalog = target.appending(path: "catalog.sqlite")
        try StoreCopy.make(of: data.appending(path: "catalog.sqlite").path, to: catalog.path)
        try StoreCopy.make(of: data.appending(path: "keys.sqlite").path, to: keys.appending(path: "keys.sqlite").path)
        var manifest = BackupManifest(takenAt: now.nanoseconds, ledger: mark, files: [try describe(catalog, "catalog.sqlite")], keys: [try describe(keys.appending(path: "keys.sqlite"), "keys.sqlite")])
        for (recording, isLive) in try StoreCopy.recordings(in: catalog.path) {
            for path in try files(below: data, "recordings/\(recording)") {
                // What is gone meanwhile was erased, or gave way to a newer version.
                guard try bring(data.appending(path: path), to: target.appending(path: path), isClosed: !isLive || path.contains("/artifacts/")) else { continue }
                manifest.files.append(try describe(target.appending(path: path), path))
            }
        }
        try JSONEncoder().encode(manifest).write(to: target.appending(path: BackupManifest.name), options: .atomic)
        chmod(target.appending(path: BackupManifest.name).path, 0o600)
        try DescriptorIO.syncDirectory(target.path)
        return Summary(files: manifest.files.count + 1, bytes: (manifest.files + manifest.keys).reduce(0) { $0 + $1.bytes }, folder: target, keys: keys, ledger: ledgerFile, rootKey: data.appending(path: "root.key"))
    }

    static func isAbsentOrEmpty(_ folder: URL) -> Bool {
        guard FileManager.default.fileExists(atPath: folder.path) else { return true }
        // A file, or a folder that cannot be read, is not empty.
        return (try? FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty) ?? false
    }

    static func make(_ folder: URL) throws {
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw RecorderError(.storage, "the folder \(folder.path) cannot be made: \(error.localizedDescription)", hint: "check its rights and the free space")
        }
    }

    /// Regular files below a folder of the data, as paths from the data folder. Names with a dot in front are being written.
    private static func files(below data: URL, _ folder: String) throws -> [String] {
        guard let names = FileManager.default.enumerator(atPath: data.appending(path: folder).path) else { return [] }
        var found: [String] = []
        while let name = names.nextObject() as? String {
            let isFile = names.fileAttributes?[.type] as? FileAttributeType == .typeRegular
            if isFile, !name.split(separator: "/").contains(where: { $0.hasPrefix(".") }) { found.append("\(folder)/\(name)") }
        }
        return found.sorted()
    }

    /// False where the file is gone.
    private static func bring(_ source: URL, to target: URL, isClosed: Bool) throws -> Bool {
        try make(target.deletingLastPathComponent())
        if isClosed, link(source.path, target.path) == 0 { return true }
        let input = open(source.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard input >= 0 else {
            if errno == ENOENT { return false }
            throw SealedFileError.system(call: "open \(source.path)", errno: errno)
        }
        defer { close(input) }
        _ = try copy(input, to: target)
        return true
    }

    /// Copies an open file to a new one, durable; its size and SHA-256.
    static func copy(_ input: Int32, to target: URL) throws -> (bytes: Int, sha256: String) {
        let output = open(target.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard output >= 0 else { throw SealedFileError.system(call: "open \(target.path)", errno: errno) }
        defer { close(output) }
        var hash = SHA256()
        var offset = 0
        while true {
            let part = try DescriptorIO.read(1 << 20, at: offset, input)
            if part.isEmpty { break }
            try DescriptorIO.write(part, at: offset, output)
            hash.update(data: part)
            offset += part.count
        }
        guard fsync(output) == 0 else { throw SealedFileError.system(call: "fsync", errno: errno) }
        return (offset, Hexadecimal.text(hash.finalize()))
    }

    private static func describe(_ file: URL, _ path: String) throws -> BackupManifest.File {
        let descriptor = open(file.path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SealedFileError.system(call: "open \(file.path)", errno: errno) }
        defer { close(descriptor) }
        return BackupManifest.File(path: path, bytes: try DescriptorIO.size(descriptor), sha256: try DescriptorIO.sha256(descriptor))
    }
}
