import Crypto
import Foundation
import Glibc
import Media
import SealedFile
import Synchronization

/// What was erased, so that no backup brings it back: a file of HMACed ids that lives beside the data and is in no backup.
///
/// The first line holds a random HMAC key, each further one the HMAC-SHA256 of an id and when it was entered, all of fixed length. The key
/// stands in the clear on purpose: the ledger has to be read after the root key was rotated, or by whoever restores with an older one. The
/// file alone tells how much was erased and when, and of whoever holds an id, whether that was. An entry is durable before what it names is
/// destroyed, and is never taken back.
public final class ErasureLedger: Sendable {
    public static let fileName = "erasures.ledger"
    private static let title = "mitschnitt-erasures-1 "
    /// 64 digits, a blank, 20 digits, a line feed.
    private static let lineBytes = 64 + 1 + 20 + 1
    private static let headBytes = title.utf8.count + 64 + 1

    /// Why a ledger cannot be used.
    public struct Unusable: Error, CustomStringConvertible {
        public var description: String
    }

    private struct State {
        var known: Set<String>
        var bytes: Data
    }
    private let key: SymmetricKey
    private let paths: [String]
    private let state: Mutex<State>

    /// Opens or makes the ledger, and brings its copy (on another disk, where there is one) up to the same state. Blocks.
    ///
    /// A last line that a crash cut is dropped: what it would have named was not destroyed yet. Throws ``Unusable``.
    public init(path: String, copy: String? = nil) throws {
        paths = [path] + (copy.map { [$0] } ?? [])
        let found = try paths.map { try Self.read($0) }
        var bytes = found.compactMap(\.self).max { $0.count < $1.count } ?? Data()
        guard found.allSatisfy({ $0.map(bytes.starts(with:)) ?? true }) else { throw Unusable(description: "\(path) and its copy \(copy ?? "") are not the same ledger") }
        if bytes.isEmpty { bytes = Data((Self.title + SymmetricKey(size: .bits256).withUnsafeBytes { Hexadecimal.text($0) } + "\n").utf8) }
        let contents = try Self.parse(bytes, path)
        key = contents.key
        state = Mutex(State(known: contents.entries, bytes: bytes))
        for path in paths { try Self.replace(path, bytes) }
    }

    /// Reads a ledger that was given for a restore; it is not changed.
    public init(reading path: String) throws {
        guard let bytes = try Self.read(path) else { throw Unusable(description: "the ledger \(path) is not there") }
        let contents = try Self.parse(bytes, path)
        (key, paths) = (contents.key, [])
        state = Mutex(State(known: contents.entries, bytes: bytes))
    }

    public var count: Int { state.withLock { $0.known.count } }

    /// Its length in bytes and their SHA-256: by these a backup knows a later state of the same ledger again.
    public var mark: Mark { state.withLock { Mark(bytes: $0.bytes.count, sha256: Self.digest($0.bytes)) } }
    public struct Mark: Hashable, Codable, Sendable {
        public var bytes: Int
        public var sha256: String
        public init(bytes: Int, sha256: String) { (self.bytes, self.sha256) = (bytes, sha256) }
    }

    /// Whether this is the ledger of that mark, or a later state of it.
    public func continues(_ mark: Mark) -> Bool { state.withLock { $0.bytes.count >= mark.bytes && Self.digest($0.bytes.prefix(mark.bytes)) == mark.sha256 } }

    public func contains(_ id: String) -> Bool {
        let code = code(id)
        return state.withLock { $0.known.contains(code) }
    }

    /// Enters ids; those that are there are left out. Durable when it returns. Blocks.
    public func append(_ ids: [String], now: WallTime) throws {
        try state.withLock { state in
            var lines = Data()
            var fresh: Set<String> = []
            for code in ids.map(code) where !state.known.contains(code) && fresh.insert(code).inserted {
                let time = String(max(0, now.nanoseconds))
                lines.append(Data((code + " " + String(repeating: "0", count: 20 - time.count) + time + "\n").utf8))
            }
            guard !lines.isEmpty else { return }
            for path in paths { try Self.write(path, lines, at: state.bytes.count) }
            state.bytes.append(lines)
            state.known.formUnion(fresh)
        }
    }

    /// Writes the whole ledger to another place.
    public func write(to path: String) throws { try Self.replace(path, state.withLock { $0.bytes }) }

    private func code(_ id: String) -> String { Hexadecimal.text(HMAC<SHA256>.authenticationCode(for: Data(id.utf8), using: key)) }
    private static func digest(_ bytes: Data) -> String { Hexadecimal.text(SHA256.hash(data: bytes)) }

    /// The whole lines of a ledger; nil where there is none.
    private static func read(_ path: String) throws -> Data? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        let bytes: Data
        do { bytes = try Data(contentsOf: URL(filePath: path)) } catch { throw Unusable(description: "the ledger \(path) cannot be read: \(error.localizedDescription)") }
        guard bytes.count >= headBytes else {
            if bytes.isEmpty { return nil }
            throw Unusable(description: "\(path) is no ledger of erasures")
        }
        return Data(bytes.prefix(bytes.count - (bytes.count - headBytes) % lineBytes))
    }

    private static func parse(_ bytes: Data, _ path: String) throws -> (key: SymmetricKey, entries: Set<String>) {
        let lines = bytes.split(separator: 10)
        guard let head = lines.first, head.starts(with: title.utf8), let key = bytes32(head.dropFirst(title.utf8.count)) else { throw Unusable(description: "\(path) is no ledger of erasures") }
        var entries: Set<String> = []
        for (number, line) in lines.enumerated().dropFirst() {
            guard line.count == lineBytes - 1, line[line.startIndex + 64] == 32, bytes32(line.prefix(64)) != nil else { throw Unusable(description: "line \(number + 1) of \(path) is damaged") }
            entries.insert(String(decoding: line.prefix(64), as: UTF8.self))
        }
        return (SymmetricKey(data: key), entries)
    }

    private static func bytes32(_ digits: Data) -> [UInt8]? {
        guard digits.count == 64 else { return nil }
        let text = Array(digits)
        func value(_ digit: UInt8) -> UInt8? {
            switch digit {
            case 48...57: digit - 48
            case 97...102: digit - 87
            default: nil
            }
        }
        var bytes: [UInt8] = []
        for place in stride(from: 0, to: 64, by: 2) {
            guard let high = value(text[place]), let low = value(text[place + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func replace(_ path: String, _ bytes: Data) throws {
        guard try read(path) != bytes else { return }
        let temporary = path + ".new"
        let descriptor = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Unusable(description: "the ledger \(path) cannot be written: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        try DescriptorIO.write(Array(bytes), at: 0, descriptor)
        guard fsync(descriptor) == 0, rename(temporary, path) == 0 else { throw Unusable(description: "the ledger \(path) cannot be written: \(String(cString: strerror(errno)))") }
        try DescriptorIO.syncDirectory(URL(filePath: path).deletingLastPathComponent().path)
    }

    /// At the end of what is known: a line that an earlier failure cut is written over.
    private static func write(_ path: String, _ lines: Data, at offset: Int) throws {
        let descriptor = open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw Unusable(description: "the ledger \(path) is gone: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        try DescriptorIO.write(Array(lines), at: offset, descriptor)
        guard fsync(descriptor) == 0 else { throw Unusable(description: "the ledger \(path) cannot be written: \(String(cString: strerror(errno)))") }
    }
}
