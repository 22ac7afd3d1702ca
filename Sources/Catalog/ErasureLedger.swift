import Crypto
import Foundation
import Glibc
import Media
import SealedFile
import Synchronization

/// What was erased, withdrawn and restricted, so that no backup undoes it: a file of HMACed ids that lives beside the data and is in no backup.
///
/// The first line holds a random HMAC key, each further one the HMAC-SHA256 of an id and a time, all of fixed length: behind a blank when it was
/// entered, behind `=` until when it holds. Of the latter an id may have several: the last one counts, see ``latest(of:)``. The key
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

    /// An HMAC, as four words: a million of them take some 50 MB.
    private struct Code: Hashable {
        var a, b, c, d: UInt64

        init(_ bytes: some Sequence<UInt8>) {
            var words: [UInt64] = [0, 0, 0, 0]
            for (place, byte) in bytes.prefix(32).enumerated() { words[place >> 3] = words[place >> 3] << 8 | UInt64(byte) }
            (a, b, c, d) = (words[0], words[1], words[2], words[3])
        }

        var text: String { Hexadecimal.text([a, b, c, d].flatMap { word in withUnsafeBytes(of: word.bigEndian, Array.init) }) }
    }

    /// The last line of an id that holds until a date.
    private struct Dated {
        var place: Int
        var until: WallTime
    }

    private struct State {
        var known: Set<Code>
        var dated: [Code: Dated]
        var length: Int
        /// Of all that is written.
        var hash: SHA256
        /// Why the copy does not hold the last entries.
        var copyProblem: String?
    }
    private let key: SymmetricKey
    private let path: String
    private let copy: String?
    private let state: Mutex<State>

    /// Opens or makes the ledger, and brings its copy (on another disk, where there is one) up to the same state. Blocks.
    ///
    /// A last line that a crash cut is dropped: what it would have named was not destroyed yet. Throws ``Unusable``.
    public init(path: String, copy: String? = nil) throws {
        (self.path, self.copy) = (path, copy)
        let paths = [path] + (copy.map { [$0] } ?? [])
        let found = try paths.map { try Self.read($0) }
        var bytes = found.compactMap(\.self).max { $0.count < $1.count } ?? Data()
        guard found.allSatisfy({ $0.map(bytes.starts(with:)) ?? true }) else { throw Unusable(description: "\(path) and its copy \(copy ?? "") are not the same ledger") }
        if bytes.isEmpty { bytes = Data((Self.title + SymmetricKey(size: .bits256).withUnsafeBytes { Hexadecimal.text($0) } + "\n").utf8) }
        let (known, dated): (Set<Code>, [Code: Dated])
        (key, known, dated) = try Self.parse(bytes, path)
        var hash = SHA256()
        hash.update(data: bytes)
        state = Mutex(State(known: known, dated: dated, length: bytes.count, hash: hash))
        for path in paths { try Self.replace(path, bytes) }
    }

    /// Reads a ledger that is not to be changed: one given for a restore, or a running server's.
    public init(reading path: String) throws {
        (self.path, copy) = (path, nil)
        guard let bytes = try Self.read(path) else { throw Unusable(description: "the ledger \(path) is not there") }
        let (known, dated): (Set<Code>, [Code: Dated])
        (key, known, dated) = try Self.parse(bytes, path)
        var hash = SHA256()
        hash.update(data: bytes)
        state = Mutex(State(known: known, dated: dated, length: bytes.count, hash: hash))
    }

    public var count: Int { state.withLock { $0.known.count } }

    /// Why the copy is behind, in words; nil where it is not. It is brought up with the next entry.
    public var copyProblem: String? { state.withLock { $0.copyProblem } }

    /// Its length in bytes and their SHA-256: by these a backup knows a later state of the same ledger again.
    public var mark: Mark { state.withLock { Mark(bytes: $0.length, sha256: Hexadecimal.text($0.hash.finalize())) } }
    public struct Mark: Hashable, Codable, Sendable {
        public var bytes: Int
        public var sha256: String
        public init(bytes: Int, sha256: String) { (self.bytes, self.sha256) = (bytes, sha256) }
    }

    /// Whether this is the ledger of that mark, or a later state of it. Blocks.
    public func continues(_ mark: Mark) throws -> Bool {
        let bytes = try Self.read(path) ?? Data()
        return bytes.count >= mark.bytes && mark.bytes >= 0 && Hexadecimal.text(SHA256.hash(data: bytes.prefix(mark.bytes))) == mark.sha256
    }

    public func contains(_ id: String) -> Bool {
        let code = code(id)
        return state.withLock { $0.known.contains(code) }
    }

    /// Enters ids; those that are there are left out. Durable when it returns. Blocks.
    ///
    /// A copy that cannot be written stops nobody's withdrawal: see ``copyProblem``.
    public func append(_ ids: [String], now: WallTime) throws {
        let codes = ids.map(code)
        try state.withLock { state in
            var lines = Data()
            var fresh: Set<Code> = []
            for code in codes where !state.known.contains(code) && fresh.insert(code).inserted { lines.append(Self.line(code, " ", now)) }
            try write(lines, &state)
            state.known.formUnion(fresh)
        }
    }

    /// Enters that something holds until a date, or with a date that is past that it does not any more. Durable when it returns. Blocks.
    public func append(_ id: String, until: WallTime) throws {
        let code = code(id)
        try state.withLock { state in
            let place = state.length
            try write(Self.line(code, "=", until), &state)
            state.dated[code] = Dated(place: place, until: until)
        }
    }

    /// Which of these ids was last entered with a date, and the date; nil where none was.
    public func latest(of ids: [String]) -> (id: String, until: WallTime)? {
        let codes = ids.map { ($0, code($0)) }
        return state.withLock { state in
            codes.compactMap { id, code in state.dated[code].map { (id: id, dated: $0) } }.max { $0.dated.place < $1.dated.place }.map { ($0.id, $0.dated.until) }
        }
    }

    private static func line(_ code: Code, _ kind: String, _ time: WallTime) -> Data {
        let digits = String(max(0, time.nanoseconds))
        return Data((code.text + kind + String(repeating: "0", count: 20 - digits.count) + digits + "\n").utf8)
    }

    private func write(_ lines: Data, _ state: inout State) throws {
        guard !lines.isEmpty else { return }
        try Self.write(path, lines, at: state.length)
        if let copy {
            do {
                if state.copyProblem == nil { try Self.write(copy, lines, at: state.length) } else { try Self.replace(copy, Self.read(path) ?? Data()) }
                state.copyProblem = nil
            } catch {
                state.copyProblem = "\(error)"
            }
        }
        state.length += lines.count
        state.hash.update(data: lines)
    }

    /// Writes the whole ledger to another place. Blocks.
    public func write(to target: String) throws { try Self.replace(target, Self.read(path) ?? Data()) }

    private func code(_ id: String) -> Code { Code(HMAC<SHA256>.authenticationCode(for: Data(id.utf8), using: key)) }

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

    private static func parse(_ bytes: Data, _ path: String) throws -> (key: SymmetricKey, entries: Set<Code>, dated: [Code: Dated]) {
        try bytes.withUnsafeBytes { all in
            guard all.count >= headBytes, all.starts(with: title.utf8), all[headBytes - 1] == 10, let key = bytes32(all[title.utf8.count..<headBytes - 1]) else {
                throw Unusable(description: "\(path) is no ledger of erasures")
            }
            var entries: Set<Code> = []
            var dated: [Code: Dated] = [:]
            entries.reserveCapacity((all.count - headBytes) / lineBytes)
            for place in stride(from: headBytes, through: all.count - lineBytes, by: lineBytes) {
                let line = all[place..<place + lineBytes]
                guard line.last == 10, [32, 61].contains(all[place + 64]), let code = bytes32(line.prefix(64)), let time = number(line.dropFirst(65).dropLast()) else {
                    throw Unusable(description: "line \((place - headBytes) / lineBytes + 2) of \(path) is damaged")
                }
                if all[place + 64] == 32 { entries.insert(Code(code)) } else { dated[Code(code)] = Dated(place: place, until: WallTime(nanoseconds: time)) }
            }
            return (SymmetricKey(data: key), entries, dated)
        }
    }

    private static func number(_ digits: Slice<UnsafeRawBufferPointer>) -> Int64? {
        var value: Int64 = 0
        for digit in digits {
            guard digit >= 48, digit <= 57 else { return nil }
            let (tenfold, isBeyond) = value.multipliedReportingOverflow(by: 10)
            let (next, isBeyondToo) = tenfold.addingReportingOverflow(Int64(digit - 48))
            guard !isBeyond, !isBeyondToo else { return nil }
            value = next
        }
        return value
    }

    private static func bytes32(_ digits: Slice<UnsafeRawBufferPointer>) -> [UInt8]? {
        func value(_ digit: UInt8) -> UInt8? {
            switch digit {
            case 48...57: digit - 48
            case 97...102: digit - 87
            default: nil
            }
        }
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(32)
        for place in stride(from: digits.startIndex, to: digits.endIndex, by: 2) {
            guard let high = value(digits[place]), let low = value(digits[place + 1]) else { return nil }
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
