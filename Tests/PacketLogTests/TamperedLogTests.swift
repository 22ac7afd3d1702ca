import Foundation
import Glibc
import Media
@testable import PacketLog
import SealedFile
import TestSupport
import Testing

@Suite("Tampered packet logs")
struct TamperedLogTests {
    let folder: TemporaryFolder
    let key = DataKey.random()
    let identity = TrackLogIdentity(recording: RecordingID(rawValue: "r")!, track: TrackID(rawValue: "t")!, kind: .audio)
    var directory: String { folder.path + "/track" }
    private func path(_ segment: Int) -> String { "\(directory)/\(TrackLogFiles.segment(segment))" }
    private var manifest: String { "\(directory)/\(TrackLogFiles.manifest)" }

    init() throws { folder = try TemporaryFolder() }

    /// Segments of five seconds with 20 packets each.
    private func write(_ segments: Int) throws {
        let writer = try TrackLogWriter(directory: directory, identity: identity, key: key)
        for place in 0..<segments * 20 {
            let time = WallTime(seconds: 1_000 + Double(place) * 0.25)
            try rtp(UInt16(place), UInt32(place * 960), payload: Array("payload-\(place)".utf8)).withUnsafeBytes { try writer.append(rtp: $0, arrival: time) }
            if place % 4 == 3 { try writer.flush(now: time) }
        }
        try writer.close()
    }

    private func faults(_ isThorough: Bool = true) throws -> [TrackLogFault] { try TrackManifest.faults(directory: directory, identity: identity, key: key, isThorough: isThorough) }

    private func sequence() throws -> [UInt16] {
        let segments = try TrackLogFolder.segments(directory).map { TrackLogReader.Segment(number: $0, descriptor: open(path($0), O_RDONLY)) }
        defer { for segment in segments { close(segment.descriptor) } }
        let reader = TrackLogReader(segments: segments, identity: identity, key: key)
        var numbers: [UInt16] = []
        while let record = try reader.next() { if case .rtp(_, let bytes) = record { numbers.append(UInt16(bytes[2]) << 8 | UInt16(bytes[3])) } }
        return numbers
    }

    @Test("segments removed, exchanged, cut, extended, doubled, put back to an older state: each is named, and no packet comes out of its place")
    func segments() throws {
        try write(5)
        let (count, whole) = (try TrackLogFolder.segments(directory).count, try sequence())
        #expect(try faults() == [] && faults(false) == [])
        let originals = try (1...count).map { try Data(contentsOf: URL(filePath: path($0))) }
        func restore() throws {
            for number in try TrackLogFolder.segments(directory) where number > count { unlink(path(number)) }
            for (place, bytes) in originals.enumerated() { try bytes.write(to: URL(filePath: path(place + 1))) }
        }
        func check(_ expected: [TrackLogFault], _ what: String) throws {
            #expect(try faults() == expected, "\(what)")
            let found = try sequence()
            #expect(found == found.sorted() && Set(found).isSubset(of: whole) && Set(found).count == found.count, "\(what)")
            try restore()
        }
        unlink(path(2))
        try check([.missing(segment: 2)], "removed")
        try originals[2].write(to: URL(filePath: path(2)))
        try originals[1].write(to: URL(filePath: path(3)))
        try check([.changed(segment: 2), .changed(segment: 3)], "exchanged")
        try originals[1].write(to: URL(filePath: path(count + 1)))
        try check([.unlisted(segment: count + 1)], "doubled")
        try (originals[1] + [0]).write(to: URL(filePath: path(2)))
        try check([.changed(segment: 2)], "extended")
        var random = Seeded(31)
        for _ in 0..<60 {
            let victim = Int.random(in: 1...count, using: &random)
            let cut = Int.random(in: 0..<originals[victim - 1].count, using: &random)
            // Its older states are its beginnings.
            try originals[victim - 1].prefix(cut).write(to: URL(filePath: path(victim)))
            #expect(try faults(false) == [.changed(segment: victim)])
            try check([.changed(segment: victim)], "cut at \(cut)")
            var bytes = originals[victim - 1]
            bytes[Int.random(in: bytes.indices, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            try bytes.write(to: URL(filePath: path(victim)))
            try check([.changed(segment: victim)], "flipped")
        }
    }

    @Test("a manifest that was flipped, cut, extended or exchanged does not open; an older one leaves segments unlisted, and recovery lists them again")
    func manifests() throws {
        try write(2)
        let older = try Data(contentsOf: URL(filePath: manifest))
        try write(2)
        let (newer, listed) = (try Data(contentsOf: URL(filePath: manifest)), try TrackManifest.read(directory: directory, identity: identity, key: key))
        var random = Seeded(32)
        for round in 0..<120 {
            var bytes = newer
            switch round % 4 {
            case 0: bytes[Int.random(in: bytes.indices, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes = bytes.prefix(Int.random(in: bytes.indices, using: &random))
            case 2: bytes += random.bytes(Int.random(in: 1...100, using: &random))
            default: bytes = newer.prefix(80) + older.dropFirst(80)
            }
            try bytes.write(to: URL(filePath: manifest))
            #expect(throws: SealedFileError.self) { try faults() }
        }
        try Data(contentsOf: URL(filePath: path(1))).write(to: URL(filePath: manifest))
        #expect(throws: SealedFileError.self) { try faults() }
        try older.write(to: URL(filePath: manifest))
        let unlisted = try faults()
        #expect(!unlisted.isEmpty && unlisted.allSatisfy { if case .unlisted = $0 { true } else { false } })
        _ = try TrackLogRecovery.recover(directory: directory, identity: identity, key: key)
        #expect(try TrackManifest.read(directory: directory, identity: identity, key: key) == listed && faults() == [])
        unlink(manifest)
        #expect(try faults().count == listed.count)
    }
}
