import Crypto
import Foundation
import Glibc

/// Whole reads and writes on descriptors: short counts and EINTR are gone on with.
public enum DescriptorIO {
    public static func write(_ bytes: [UInt8], at offset: Int, _ descriptor: Int32) throws(SealedFileError) {
        var failure: SealedFileError?
        bytes.withUnsafeBytes { buffer in
            do throws(SealedFileError) { try write(buffer, at: offset, descriptor) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    public static func write(_ bytes: UnsafeRawBufferPointer, at offset: Int, _ descriptor: Int32) throws(SealedFileError) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if count < 0 {
                if errno == EINTR { continue }
                throw .system(call: "pwrite", errno: errno)
            }
            done += count
        }
    }

    /// Writes `parts` one behind the other, in one call where the system takes them so.
    static func write(_ parts: [UnsafeRawBufferPointer], at offset: Int, _ descriptor: Int32) throws(SealedFileError) {
        let vector = parts.map { iovec(iov_base: UnsafeMutableRawPointer(mutating: $0.baseAddress), iov_len: $0.count) }
        // What is left of a short count, or after an error, is written (and the error met again) part by part.
        var done = vector.isEmpty ? 0 : max(0, pwritev(descriptor, vector, Int32(vector.count), off_t(offset)))
        var place = offset
        for part in parts {
            let skipped = min(done, part.count)
            if skipped < part.count { try write(UnsafeRawBufferPointer(rebasing: part[skipped...]), at: place + skipped, descriptor) }
            done -= skipped
            place += part.count
        }
    }

    /// Fills `buffer` from `offset`; returns fewer bytes only at the end of the file.
    public static func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int, _ descriptor: Int32) throws(SealedFileError) -> Int {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
            if count < 0 {
                if errno == EINTR { continue }
                throw .system(call: "pread", errno: errno)
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    public static func read(_ count: Int, at offset: Int, _ descriptor: Int32) throws(SealedFileError) -> [UInt8] {
        var failure: SealedFileError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in
            do throws(SealedFileError) { used = try read(UnsafeMutableRawBufferPointer(buffer), at: offset, descriptor) } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    public static func size(_ descriptor: Int32) throws(SealedFileError) -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system(call: "fstat", errno: errno) }
        return Int(status.st_size)
    }

    /// SHA-256 of a whole file, hexadecimal.
    public static func sha256(_ descriptor: Int32) throws(SealedFileError) -> String {
        var hash = SHA256()
        var offset = 0
        while true {
            let part = try read(1 << 20, at: offset, descriptor)
            if part.isEmpty { return Hexadecimal.text(hash.finalize()) }
            hash.update(data: part)
            offset += part.count
        }
    }

    public static func sha256(ofFileAt path: String) throws(SealedFileError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(call: "open", errno: errno) }
        defer { close(descriptor) }
        return try sha256(descriptor)
    }

    /// Makes a file's or a rename's entry in `directory` durable.
    public static func syncDirectory(_ directory: String) throws(SealedFileError) {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(call: "open", errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .system(call: "fsync", errno: errno) }
    }
}
