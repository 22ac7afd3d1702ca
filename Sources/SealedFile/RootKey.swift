import Foundation
import Glibc

/// The key that all others hang from, in a file of its own: 32 bytes, readable by its owner only.
public enum RootKey {
    /// Reads the key. Throws `.badRootKey` with the reason and what to do.
    public static func load(path: String) throws(SealedFileError) -> DataKey {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            let missing = errno == ENOENT
            throw .badRootKey(path: path, why: missing ? "is not there" : "cannot be opened (errno \(errno))",
                              hint: missing ? "restore it from where you keep it safe: without it nothing that was recorded can be read" : "check who owns it")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system(call: "fstat", errno: errno) }
        guard status.st_mode & 0o077 == 0 else {
            throw .badRootKey(path: path, why: "can be read by others (mode \(String(status.st_mode & 0o777, radix: 8)))", hint: "chmod 600 \(path)")
        }
        var bytes = try DescriptorIO.read(DataKey.byteCount + 1, at: 0, descriptor)
        defer { bytes.withUnsafeMutableBytes(wipe) }
        guard bytes.count == DataKey.byteCount else {
            throw .badRootKey(path: path, why: "has \(bytes.count > DataKey.byteCount ? "more than 32" : String(bytes.count)) bytes", hint: "it must be exactly 32 random bytes")
        }
        return try DataKey(bytes: bytes)
    }

    /// Makes a new key file with mode 0600, durable before it returns. Never replaces one.
    public static func create(path: String) throws(SealedFileError) -> DataKey {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw .badRootKey(path: path, why: "cannot be made (errno \(errno))", hint: "check that its folder is there and can be written")
        }
        defer { close(descriptor) }
        let key = DataKey.random()
        var failure: SealedFileError?
        key.withBytes { bytes in
            do throws(SealedFileError) { try DescriptorIO.write(bytes, at: 0, descriptor) } catch { failure = error }
        }
        if let failure { throw failure }
        guard fsync(descriptor) == 0 else { throw .system(call: "fsync", errno: errno) }
        try DescriptorIO.syncDirectory(path.lastIndex(of: "/").map { String(path[...$0]) } ?? ".")
        return key
    }
}
