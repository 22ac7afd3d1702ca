import Foundation
import Glibc

/// Where a root key is kept.
public enum RootKeySource: Hashable, Sendable, CustomStringConvertible {
    /// systemd's `LoadCredential=mitschnitt-root-key:…`.
    case credential(String)
    /// `MITSCHNITT_ROOT_KEY`, in base64 or hexadecimal.
    case environment
    case file(String)

    public static let variable = "MITSCHNITT_ROOT_KEY"
    public static let credentialName = "mitschnitt-root-key"

    public var description: String {
        switch self {
        case .credential(let path): "the credential \(path)"
        case .environment: "the environment (\(Self.variable))"
        case .file(let path): "the file \(path)"
        }
    }
}

extension RootKey {
    /// Every root key that is given, in the order in which they count: credential, environment, file beside the data. Where more than one is
    /// given they must be the same: which of two was meant nobody could tell later.
    ///
    /// Throws `.badRootKey` with what to do; nil where there is none at all.
    public static func find(file: String, environment: [String: String]) throws(SealedFileError) -> (key: DataKey, source: RootKeySource)? {
        var found: [(key: DataKey, source: RootKeySource)] = []
        if let folder = environment["CREDENTIALS_DIRECTORY"], !folder.isEmpty {
            let path = "\(folder)/\(RootKeySource.credentialName)"
            if access(path, F_OK) == 0 { found.append((try credential(path), .credential(path))) }
        }
        if let text = environment[RootKeySource.variable] {
            guard let key = key(text) else {
                throw .badRootKey(path: RootKeySource.variable, why: "is no key", hint: "32 bytes in base64 (44 characters) or hexadecimal (64 digits): openssl rand -base64 32")
            }
            found.append((key, .environment))
        }
        if access(file, F_OK) == 0 { found.append((try load(path: file), .file(file))) }
        guard let first = found.first else { return nil }
        for other in found.dropFirst() where !other.key.isSame(as: first.key) {
            throw .badRootKey(path: "of \(first.source)", why: "is another than that of \(other.source)", hint: "remove the one that is not meant; with one alone `mitschnitt keys check` says what it opens")
        }
        return first
    }

    /// systemd made it for this service alone; its mode can show the mask of an access list, and is not judged.
    private static func credential(_ path: String) throws(SealedFileError) -> DataKey {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .badRootKey(path: path, why: "cannot be opened (errno \(errno))", hint: "check LoadCredential= in the service's unit") }
        defer { close(descriptor) }
        var bytes = try DescriptorIO.read(129, at: 0, descriptor)
        defer { bytes.withUnsafeMutableBytes(wipe) }
        if bytes.count == DataKey.byteCount { return try DataKey(bytes: bytes) }
        guard let key = key(String(decoding: bytes, as: UTF8.self)) else {
            throw .badRootKey(path: path, why: "is no key", hint: "32 bytes as they are, or in base64 or hexadecimal")
        }
        return key
    }

    /// A key in base64 or hexadecimal, with or without white space around it; nil for anything else.
    public static func key(_ text: String) -> DataKey? {
        let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard var bytes = Hexadecimal.bytes(text.lowercased()) ?? Data(base64Encoded: text).map(Array.init) else { return nil }
        defer { bytes.withUnsafeMutableBytes(wipe) }
        // Another length is no key.
        return try? DataKey(bytes: bytes)
    }

    /// Takes the key out of this process's environment: children do not inherit it, and /proc/PID/environ does not show it.
    public static func forgetEnvironment() {
        guard let value = getenv(RootKeySource.variable) else { return }
        explicit_bzero(value, strlen(value))
        unsetenv(RootKeySource.variable)
    }

    /// Overwrites a key file and removes it. What file systems and disks keep of a file's former content is theirs.
    public static func shred(path: String) throws(SealedFileError) {
        try overwrite(path: path)
        guard unlink(path) == 0 else { throw .system(call: "unlink", errno: errno) }
        try DescriptorIO.syncDirectory(path.lastIndex(of: "/").map { String(path[...$0]) } ?? ".")
    }

    /// Overwrites a key file with zeroes, durable before it returns.
    public static func overwrite(path: String) throws(SealedFileError) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { throw .system(call: "open", errno: errno) }
        defer { close(descriptor) }
        try DescriptorIO.write([UInt8](repeating: 0, count: try DescriptorIO.size(descriptor)), at: 0, descriptor)
        guard fsync(descriptor) == 0 else { throw .system(call: "fsync", errno: errno) }
    }
}
