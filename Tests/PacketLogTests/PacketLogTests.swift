import Foundation
import Glibc
import Media
@testable import PacketLog
import SealedFile
import TestSupport
import Testing

@Suite("Packet log")
struct PacketLogTests {
    let folder: TemporaryFolder
    let key = DataKey.random()
    let identity = TrackLogIdentity(recording: RecordingID(rawValue: "r")!, track: TrackID(rawValue: "t")!, kind: .audio)
    var directory: String { folder.path + "/track" }

    init() throws { folder = try TemporaryFolder() }

    private func records(_ count: Int, from: Int = 0) -> [TrackRecord] {
        (from..<from + count).map { .rtp(arrival: WallTime(seconds: 1_000 + Double($0) * 0.02), bytes: rtp(UInt16($0), UInt32($0 * 960), payload: Array("payload-\($0)-of-somebody".utf8))) }
    }

    private func write(_ records: [TrackRecord], to writer: TrackLogWriter) throws {
        for (place, record) in records.enumerated() {
            switch record {
            case .rtp(let arrival, let bytes): try bytes.withUnsafeBytes { try writer.append(rtp: $0, arrival: arrival) }
            case .rtcp(let arrival, let bytes): try bytes.withUnsafeBytes { try writer.append(rtcp: $0, arrival: arrival) }
            case .mark(let time, let mark): try writer.append(mark: mark, at: time)
            }
            if place % 25 == 24 { try writer.flush(now: record.time) }
        }
    }

    private func read() throws -> (records: [TrackRecord], defects: [TrackLogReader.Defect]) {
        let segments = try TrackLogFolder.segments(directory).map { TrackLogReader.Segment(number: $0, descriptor: open("\(directory)/\(TrackLogFiles.segment($0))", O_RDONLY)) }
        defer { for segment in segments { close(segment.descriptor) } }
        let reader = TrackLogReader(segments: segments, identity: identity, key: key)
        var all: [TrackRecord] = []
        while let record = try reader.next() { all.append(record) }
        return (all, reader.defects)
    }

    @Test("records come back in order over segments of five seconds, and no payload lies open")
    func roundTrip() throws {
        let writer = try TrackLogWriter(directory: directory, identity: identity, key: key)
        let all = records(1_000) + [.mark(at: WallTime(seconds: 1_020), .paused), .rtcp(arrival: WallTime(seconds: 1_021), bytes: [0x80, 200, 0, 0])]
        try write(all, to: writer)
        try writer.close()
        let (found, defects) = try read()
        #expect(found == all)
        #expect(defects.isEmpty)
        let manifest = try TrackManifest.read(directory: directory, identity: identity, key: key)
        #expect(manifest.count == 4 || manifest.count == 5)
        #expect(manifest.reduce(0) { $0 + $1.packets } == 1_000)
        #expect(manifest.allSatisfy { $0.isWhole })
        #expect(try !folder.contains(Array("payload-7-of-somebody".utf8)))
    }

    @Test("after a kill at any byte the valid prefix is kept, listed once, and new packets go to a new segment", arguments: 0..<25 as Range<UInt64>)
    func recovery(seed: UInt64) throws {
        var random = Seeded(seed)
        let writer = try TrackLogWriter(directory: directory, identity: identity, key: key)
        try write(records(600), to: writer)
        try writer.sync()
        // The process dies here; the last segment ends anywhere.
        let last = try #require(try TrackLogFolder.segments(directory).last)
        let path = "\(directory)/\(TrackLogFiles.segment(last))"
        let size = try #require(try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
        let cut = Int.random(in: 0...size, using: &random)
        truncate(path, cut)
        let report = try TrackLogRecovery.recover(directory: directory, identity: identity, key: key)
        #expect(report.recovered.count <= 1 && report.missing.isEmpty)
        #expect(try TrackLogRecovery.recover(directory: directory, identity: identity, key: key) == TrackLogRecovery.Report())
        let kept = try read().records
        #expect(Array(records(600).prefix(kept.count)) == kept)
        #expect(cut < size || kept.count == 600)
        let again = try TrackLogWriter(directory: directory, identity: identity, key: key)
        try write(records(50, from: 600), to: again)
        try again.close()
        #expect(try read().records == kept + records(50, from: 600))
        #expect(try TrackManifest.read(directory: directory, identity: identity, key: key).map(\.number) == TrackLogFolder.segments(directory))
    }

    @Test("storage that is away loses only what it did not take, and the log goes on when it is back")
    func away() throws {
        let writer = try TrackLogWriter(directory: directory, identity: identity, key: key)
        try write(records(100), to: writer)
        try FileManager.default.moveItem(atPath: directory, toPath: directory + "-away")
        // The open segment is closed by its age, and cannot be listed; no new one can be made.
        #expect(throws: SealedFileError.self) { try writer.flush(now: WallTime(seconds: 1_100)) }
        for round in 0..<3 {
            for record in records(40, from: 100 + round * 40) { if case .rtp(let arrival, let bytes) = record { try bytes.withUnsafeBytes { try writer.append(rtp: $0, arrival: arrival) } } }
            #expect(throws: SealedFileError.self) { try writer.flush(now: WallTime(seconds: 1_101)) }
        }
        try FileManager.default.moveItem(atPath: directory + "-away", toPath: directory)
        try write(records(50, from: 300), to: writer)
        try writer.close()
        let (found, defects) = try read()
        #expect(found == records(100) + records(50, from: 300))
        #expect(writer.lostToStorage == 120 && defects.isEmpty)
        #expect(try TrackManifest.read(directory: directory, identity: identity, key: key).map(\.number) == TrackLogFolder.segments(directory))
    }

    @Test("a damaged segment gives its valid part, is named, and the next ones are read")
    func damage() throws {
        let writer = try TrackLogWriter(directory: directory, identity: identity, key: key)
        try write(records(1_000), to: writer)
        try writer.close()
        let path = "\(directory)/\(TrackLogFiles.segment(2))"
        let handle = try FileHandle(forUpdating: URL(filePath: path))
        try handle.seek(toOffset: 2_000)
        try handle.write(contentsOf: [0xFF, 0xFE, 0xFD])
        try handle.close()
        let (found, defects) = try read()
        #expect(defects == [.damaged(segment: 2)])
        #expect(found.first == records(1).first && found.last == records(1_000).last)
        #expect(found.count < 1_000 && found.count > 700)
    }

    @Test("a packet log does not open under another track's key or name")
    func bound() throws {
        let writer = try TrackLogWriter(directory: directory, identity: identity, key: key)
        try write(records(10), to: writer)
        try writer.close()
        var other = identity
        other.track = TrackID(rawValue: "u")!
        #expect(throws: SealedFileError.wrongKeyOrContext) { try TrackManifest.read(directory: directory, identity: other, key: key) }
        #expect(throws: SealedFileError.wrongKeyOrContext) { try TrackManifest.read(directory: directory, identity: identity, key: .random()) }
    }

    @Test("the pcapng export is the one of the format, to the byte")
    func pcapng() {
        let block = PcapngWriter.block(.rtp(arrival: WallTime(nanoseconds: 0x1_0000_0002), bytes: [1, 2, 3]), port: 5_004)
        #expect(PcapngWriter.head.count == 60)
        #expect(Array(block[0..<28]) == [6, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 31, 0, 0, 0, 31, 0, 0, 0])
        #expect(Array(block[28..<60]) == [0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0x3C, 0xCC, 127, 0, 0, 1, 127, 0, 0, 1, 0x13, 0x8C, 0x13, 0x8C, 0, 11, 0, 0, 1, 2, 3, 0])
        #expect(Array(block.suffix(4)) == [64, 0, 0, 0])
    }
}
