import Foundation
import Glibc
import Media
@testable import SealedFile
import TestSupport
import Testing

/// The tamper corpus of sealed files: whoever can write to the disk and has no key. Everything is detected, nothing crashes, and not one wrong
/// byte comes out before it is.
@Suite("Tampered sealed files")
struct TamperTests {
    let folder: TemporaryFolder
    let key = DataKey.random()
    let context = SealedContext(recording: RecordingID(rawValue: "r")!, object: "rendition:x", modality: "mix", part: "sound")
    private static let (head, chunk) = (80, 65_552)

    init() throws { folder = try TemporaryFolder() }

    private func seal(_ plain: [UInt8], key: DataKey? = nil, context: SealedContext? = nil, suite: CipherSuite = .aes256GCM) throws -> [UInt8] {
        let path = folder.path + "/s"
        let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
        defer { close(descriptor) }
        let writer = try SealedWriter(descriptor: descriptor, key: key ?? self.key, context: context ?? self.context, suite: suite)
        try writer.append(plain)
        _ = try writer.finish()
        return Array(try Data(contentsOf: URL(filePath: path)))
    }

    /// What comes out until an error, reading in pieces as a download does; `isWhole` where there was none.
    private func served(_ bytes: [UInt8]) throws -> (bytes: [UInt8], isWhole: Bool) {
        let path = folder.path + "/t"
        try Data(bytes).write(to: URL(filePath: path))
        let descriptor = open(path, O_RDONLY)
        defer { close(descriptor) }
        var out: [UInt8] = []
        do {
            let reader = try SealedReader(descriptor: descriptor, key: key, context: context)
            while out.count < reader.length { out += try reader.read(at: out.count, count: 20_000) }
            return (out, true)
        } catch { return (out, false) }
    }

    private func expectDetected(_ changed: [UInt8], _ plain: [UInt8], _ what: String) throws {
        let (bytes, isWhole) = try served(changed)
        #expect(!isWhole, "\(what): not detected")
        #expect(plain.starts(with: bytes), "\(what): a wrong byte came out")
    }

    @Test("a bit flipped in any field of the header, and in ciphertext and tag of any chunk", arguments: CipherSuite.allCases)
    func flipped(suite: CipherSuite) throws {
        var random = Seeded(21)
        let plain = random.bytes(150_000)
        let sealed = try seal(plain, suite: suite)
        let regions = ["magic": 0..<8, "version": 8..<9, "suite": 9..<10, "chunk size": 10..<11, "reserved": 11..<16, "salt": 16..<48, "commitment": 48..<80,
                       "first chunk": 80..<65_616, "first tag": 65_616..<65_632, "second chunk": 65_632..<131_168, "second tag": 131_168..<131_184,
                       "last chunk": 131_184..<sealed.count - 16, "last tag": sealed.count - 16..<sealed.count]
        for (name, region) in regions {
            for _ in 0..<12 {
                var changed = sealed
                changed[Int.random(in: region, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                try expectDetected(changed, plain, name)
            }
        }
    }

    @Test("chunks dropped, doubled, exchanged, put in from elsewhere in the file or from another one under the same key; cut and extended anywhere")
    func moved() throws {
        var random = Seeded(22)
        let plain = random.bytes(300_000), other = try seal(random.bytes(300_000))
        let sealed = try seal(plain)
        let count = (sealed.count - Self.head + Self.chunk - 1) / Self.chunk
        func parts(_ file: [UInt8]) -> [[UInt8]] { stride(from: Self.head, to: file.count, by: Self.chunk).map { Array(file[$0..<min($0 + Self.chunk, file.count)]) } }
        func file(_ parts: [[UInt8]]) -> [UInt8] { Array(sealed[..<Self.head]) + parts.flatMap { $0 } }
        for place in 0..<count {
            var changed = parts(sealed)
            changed.remove(at: place)
            try expectDetected(file(changed), plain, "without chunk \(place)")
            changed = parts(sealed)
            changed.insert(changed[place], at: place)
            try expectDetected(file(changed), plain, "chunk \(place) twice")
            changed = parts(sealed)
            changed[place] = parts(other)[place]
            try expectDetected(file(changed), plain, "chunk \(place) of another file")
            for with in 0..<place {
                changed = parts(sealed)
                changed.swapAt(place, with)
                try expectDetected(file(changed), plain, "chunks \(with) and \(place) exchanged")
            }
        }
        for _ in 0..<60 { try expectDetected(Array(sealed.prefix(Int.random(in: 0..<sealed.count, using: &random))), plain, "cut") }
        for chunks in 0..<count { try expectDetected(Array(sealed.prefix(Self.head + chunks * Self.chunk)), plain, "cut behind chunk \(chunks)") }
        for extra in [1, 15, 16, 17, Self.chunk] { try expectDetected(sealed + random.bytes(extra), plain, "extended by \(extra)") }
        try expectDetected(sealed + sealed, plain, "twice")
        try expectDetected(Array(other[..<Self.head]) + sealed[Self.head...], plain, "under another file's header")
        try expectDetected([], plain, "empty")
    }

    @Test("another version's file in its place, older or newer, and one of another recording, do not open")
    func exchanged() throws {
        let plain: [UInt8] = [1, 2, 3]
        var elsewhere = context
        elsewhere.object = "rendition:older"
        // Each version has an id and a key of its own: an older one is another object.
        try expectDetected(try seal(plain, key: .random(), context: elsewhere), plain, "an older version")
        try expectDetected(try seal(plain, context: elsewhere), plain, "under the same key")
        elsewhere = context
        elsewhere.recording = RecordingID(rawValue: "s")!
        try expectDetected(try seal(plain, context: elsewhere), plain, "another recording's")
    }

    @Test("many changes at once, seeded", arguments: 0..<4 as Range<UInt64>)
    func random(seed: UInt64) throws {
        var random = Seeded(1_000 + seed)
        let plain = random.bytes(Int.random(in: 0...200_000, using: &random))
        let sealed = try seal(plain)
        for _ in 0..<60 {
            var changed = sealed
            for _ in 0...Int.random(in: 0..<4, using: &random) where !changed.isEmpty {
                let place = Int.random(in: changed.indices, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: changed[place] ^= UInt8.random(in: 1...255, using: &random)
                case 1: changed.remove(at: place)
                case 2: changed.insert(UInt8.random(in: .min ... .max, using: &random), at: place)
                default: changed.removeSubrange(place..<min(changed.count, place + Int.random(in: 1...70_000, using: &random)))
                }
            }
            if changed != sealed { try expectDetected(changed, plain, "seed \(seed)") }
        }
        for length in [0, 1, 79, 80, 96, 200, 70_000] { try expectDetected(random.bytes(length), plain, "random bytes") }
    }

    private func log(_ blocks: [[UInt8]], isClosed: Bool = true) -> [UInt8] {
        var sealer = SealedLogSealer(key: key, context: context)
        var bytes = sealer.header
        for (place, block) in blocks.enumerated() { block.withUnsafeBytes { sealer.seal($0, isLast: isClosed && place == blocks.count - 1, into: &bytes) } }
        return bytes
    }

    /// The blocks that come out, and whether the log says that it was closed with nothing behind.
    private func read(_ bytes: [UInt8]) -> (blocks: [[UInt8]], isClosed: Bool) {
        guard var opener = try? SealedLogOpener(header: Array(bytes.prefix(80)), key: key, context: context) else { return ([], false) }
        opener.feed(bytes.dropFirst(80))
        var blocks: [[UInt8]] = []
        while true {
            switch opener.next() {
            case .block(let block): blocks.append(Array(block))
            case .closed(let block): return (blocks + [Array(block)], opener.validBytes == bytes.count)
            case .needsMore, .damaged: return (blocks, false)
            }
        }
    }

    @Test("a log's blocks flipped, dropped, doubled, exchanged, cut and extended: only its true beginning comes out, and never as a closed log", arguments: 0..<4 as Range<UInt64>)
    func logs(seed: UInt64) {
        var random = Seeded(2_000 + seed)
        let blocks = (0..<6).map { _ in random.bytes(Int.random(in: 0...3_000, using: &random)) }
        let sealed = log(blocks)
        #expect(read(sealed).blocks == blocks && read(sealed).isClosed)
        func expect(_ changed: [UInt8], _ what: String) {
            let found = read(changed)
            #expect(!found.isClosed && blocks.starts(with: found.blocks), "\(what)")
        }
        var starts = [80]
        for block in blocks { starts.append(starts.last! + block.count + SealedLogSealer.overheadBytes) }
        func part(_ place: Int) -> ArraySlice<UInt8> { sealed[starts[place]..<starts[place + 1]] }
        for place in 0..<6 {
            expect(Array(sealed[..<starts[place]] + sealed[starts[place + 1]...]), "without block \(place)")
            expect(Array(sealed[..<starts[place]] + part(place) + sealed[starts[place]...]), "block \(place) twice")
            for field in [0..<4, 4..<max(5, part(place).count - 16), part(place).count - 16..<part(place).count] {
                for _ in 0..<8 {
                    var changed = sealed
                    changed[starts[place] + Int.random(in: field, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                    expect(changed, "a bit of block \(place)")
                }
            }
            for with in 0..<place {
                let order = (0..<6).map { $0 == place ? with : $0 == with ? place : $0 }
                expect(Array(sealed[..<80]) + order.flatMap { Array(part($0)) }, "blocks \(with) and \(place) exchanged")
            }
        }
        for place in 0..<80 {
            var changed = sealed
            changed[place] ^= 1 << UInt8(place % 8)
            expect(changed, "a bit of the header")
        }
        for _ in 0..<40 { expect(Array(sealed.prefix(Int.random(in: 0..<sealed.count, using: &random))), "cut") }
        expect(sealed + [0], "extended")
        expect(Array(log(blocks)[..<80]) + sealed[80...], "under another log's header")
        // An older state of the same log is its beginning, and is not closed.
        expect(Array(sealed[..<starts[3]]), "an older state")
    }

    @Test("keys lie in locked memory, their places are used again, and a place that was given back holds zeroes")
    func memory() throws {
        let bytes = [UInt8](repeating: 0xA5, count: 32)
        for _ in 0..<3 {
            let keys = try (0..<600).map { _ in try DataKey(bytes: bytes) }
            #expect(keys.allSatisfy { $0.withBytes { Array($0) } == bytes })
        }
        let address = try DataKey(bytes: bytes).withBytes { UInt(bitPattern: $0.baseAddress) }
        // Nobody else takes the place between the two lines but another test's key, which is not this pattern.
        #expect(UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: 32).map { $0 } != bytes)
        #expect(try DataKey(bytes: bytes).isSame(as: DataKey(bytes: bytes)) && !DataKey.random().isSame(as: DataKey.random()))
    }
}
