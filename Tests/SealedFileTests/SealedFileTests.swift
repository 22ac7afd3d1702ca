import Foundation
import Glibc
import Media
@testable import SealedFile
import TestSupport
import Testing

@Suite("Sealed files")
struct SealedFileTests {
    let folder: TemporaryFolder
    let key = DataKey.random()
    let context = SealedContext(recording: RecordingID(rawValue: "r")!, object: "rendition:x", modality: "mix", part: "sound")

    init() throws { folder = try TemporaryFolder() }

    private func file(_ name: String = "f") -> String { folder.path + "/" + name }

    /// Seals `plain` and gives back the bytes on the disk.
    private func seal(_ plain: [UInt8], window: Int = 0, suite: CipherSuite = .aes256GCM, patch: (at: Int, bytes: [UInt8])? = nil) throws -> [UInt8] {
        let descriptor = open(file(), O_RDWR | O_CREAT | O_TRUNC, 0o600)
        defer { close(descriptor) }
        let writer = try SealedWriter(descriptor: descriptor, key: key, context: context, windowBytes: window, suite: suite)
        for start in stride(from: 0, to: plain.count, by: 50_001) { try writer.append(Array(plain[start..<min(start + 50_001, plain.count)])) }
        if let patch { try patch.bytes.withUnsafeBytes { try writer.overwrite(at: patch.at, $0) } }
        let digest = try writer.finish()
        #expect(digest.plaintextBytes == plain.count)
        return Array(try Data(contentsOf: URL(filePath: file())))
    }

    private func opened(_ bytes: [UInt8], key: DataKey? = nil, context: SealedContext? = nil) throws -> [UInt8] {
        try Data(bytes).write(to: URL(filePath: file("g")))
        let descriptor = open(file("g"), O_RDONLY)
        defer { close(descriptor) }
        let reader = try SealedReader(descriptor: descriptor, key: key ?? self.key, context: context ?? self.context)
        return try reader.read(at: 0, count: reader.length)
    }

    @Test("what was sealed opens again, at every length around a chunk, in both suites", arguments: [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000], CipherSuite.allCases)
    func roundTrip(length: Int, suite: CipherSuite) throws {
        var random = Seeded(UInt64(length))
        let plain = random.bytes(length)
        for window in [0, 1, 70_000, 400_000] { #expect(try opened(seal(plain, window: window, suite: suite)) == plain, "window \(window)") }
    }

    @Test("the head can be patched until the end, and nothing behind it")
    func window() throws {
        let plain = [UInt8](repeating: 1, count: 150_000)
        let patched = try opened(seal(plain, window: 65_536, patch: (10, [9, 9])))
        #expect(Array(patched[9..<13]) == [1, 9, 9, 1])
        #expect(throws: SealedFileError.alreadySealed(offset: 70_000)) { try seal(plain, window: 65_536, patch: (70_000, [9])) }
    }

    @Test("any part can be read alone, and beyond the end there is nothing")
    func ranges() throws {
        var random = Seeded(5)
        let plain = random.bytes(200_000)
        _ = try seal(plain)
        let descriptor = open(file(), O_RDONLY)
        defer { close(descriptor) }
        let reader = try SealedReader(descriptor: descriptor, key: key, context: context)
        for range in [0..<1, 65_530..<65_540, 131_071..<131_073, 199_999..<200_000] { #expect(try reader.read(at: range.lowerBound, count: range.count) == Array(plain[range])) }
        #expect(try reader.read(at: 200_000, count: 10).isEmpty)
    }

    @Test("another key, recording, object, modality or part does not open it")
    func bound() throws {
        let sealed = try seal([1, 2, 3])
        #expect(throws: SealedFileError.wrongKeyOrContext) { try opened(sealed, key: .random()) }
        var others = [SealedContext](repeating: context, count: 4)
        others[0].recording = RecordingID(rawValue: "s")!
        others[1].object = "rendition:y"
        others[2].modality = "composite"
        others[3].part = "soun"
        for other in others { #expect(throws: SealedFileError.wrongKeyOrContext) { try opened(sealed, context: other) } }
    }

    @Test("flipped, dropped, swapped, repeated, cut and extended: every change is found, none crashes")
    func tampered() throws {
        var random = Seeded(6)
        let sealed = try seal(random.bytes(200_000))
        let (head, chunk) = (80, 65_552)
        func chunks() -> [[UInt8]] { stride(from: head, to: sealed.count, by: chunk).map { Array(sealed[$0..<min($0 + chunk, sealed.count)]) } }
        var corpus: [[UInt8]] = []
        for _ in 0..<200 {
            var copy = sealed
            copy[Int.random(in: 0..<copy.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            corpus.append(copy)
        }
        var parts = chunks()
        parts.swapAt(0, 1)
        corpus.append(Array(sealed[..<head]) + parts.flatMap { $0 })
        for drop in 0..<4 { corpus.append(Array(sealed[..<head]) + chunks().enumerated().filter { $0.offset != drop }.flatMap(\.element)) }
        corpus.append(Array(sealed[..<head]) + [chunks()[0]].flatMap { $0 } + chunks().flatMap { $0 })
        for cut in [0, 1, 79, 80, 81, 95, 96, head + chunk, sealed.count - 1] { corpus.append(Array(sealed.prefix(cut))) }
        corpus.append(sealed + [0])
        corpus.append(sealed + sealed)
        let again = try seal(random.bytes(200_000))
        corpus.append(Array(sealed[..<head]) + again[head...])
        for (place, copy) in corpus.enumerated() { #expect(throws: SealedFileError.self, "case \(place)") { try opened(copy) } }
    }

    @Test("a log's valid prefix opens, and an end that was cut is told from one that was closed")
    func log() throws {
        var sealer = SealedLogSealer(key: key, context: context)
        var bytes = sealer.header
        for block in [[1, 2, 3], [UInt8](repeating: 7, count: 65_536), []] as [[UInt8]] { block.withUnsafeBytes { sealer.seal($0, isLast: block.isEmpty, into: &bytes) } }
        func read(_ bytes: [UInt8]) throws -> (blocks: [Int], end: String) {
            var opener = try SealedLogOpener(header: Array(bytes.prefix(80)), key: key, context: context)
            opener.feed(bytes.dropFirst(80))
            var blocks: [Int] = []
            while true {
                switch opener.next() {
                case .block(let block): blocks.append(block.count)
                case .closed(let block): return (blocks + [block.count], "closed")
                case .needsMore: return (blocks, "cut")
                case .damaged: return (blocks, "damaged")
                }
            }
        }
        #expect(try read(bytes) == ([3, 65_536, 0], "closed"))
        #expect(try read(bytes.dropLast(1)) == ([3, 65_536], "cut"))
        var flipped = bytes
        flipped[200] ^= 1
        #expect(try read(flipped) == ([3], "damaged"))
        flipped = bytes
        flipped[80] = 0xFF
        #expect(try read(flipped) == ([], "damaged"))
    }

    @Test("a wrapped key opens only under its parent and for its id")
    func wrapping() throws {
        let parent = DataKey.random()
        let wrapped = WrappedKey(key, under: parent, id: "track:a")
        #expect(try wrapped.unwrapped(under: parent, id: "track:a").withBytes { Array($0) } == key.withBytes { Array($0) })
        #expect(throws: SealedFileError.wrongKeyOrContext) { try wrapped.unwrapped(under: .random(), id: "track:a") }
        #expect(throws: SealedFileError.wrongKeyOrContext) { try wrapped.unwrapped(under: parent, id: "track:b") }
        #expect(!"\(key)\(String(reflecting: key))".contains(Hexadecimal.text(key.withBytes { Array($0) }).prefix(8)))
    }

    @Test("a root key is made once with mode 0600, and refused when missing, open to others or of another length")
    func rootKey() throws {
        let path = file("root.key")
        #expect(throws: SealedFileError.self) { try RootKey.load(path: path) }
        let made = try RootKey.create(path: path)
        #expect(try RootKey.load(path: path).withBytes { Array($0) } == made.withBytes { Array($0) })
        #expect(throws: SealedFileError.self) { try RootKey.create(path: path) }
        chmod(path, 0o640)
        let open = #expect(throws: SealedFileError.self) { try RootKey.load(path: path) }
        #expect(open?.description.contains("chmod 600") == true)
        chmod(path, 0o600)
        truncate(path, 31)
        #expect(throws: SealedFileError.self) { try RootKey.load(path: path) }
    }
}
