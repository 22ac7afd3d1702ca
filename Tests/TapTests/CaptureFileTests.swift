import Foundation
import Media
import PacketLog
@testable import Tap
import TestSupport
import Testing
import Truth

@Suite("Capture files")
struct CaptureFileTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func all(_ path: String) throws -> (datagrams: [CapturedDatagram], reader: CaptureFileReader) {
        let reader = try CaptureFileReader(path: path)
        var found: [CapturedDatagram] = []
        while let datagram = try reader.next() { found.append(datagram) }
        return (found, reader)
    }

    private func write(_ bytes: [UInt8], _ name: String = "f.pcap") throws -> String {
        try Data(bytes).write(to: folder.url.appending(path: name))
        return folder.path + "/" + name
    }

    @Test("the fixtures hold as many packets for each port as their makers counted", arguments: ["vp8", "vp8-lipsync"])
    func counts(name: String) throws {
        let capture = Checkout.fixtures.appending(path: "\(name).pcap")
        let (datagrams, reader) = try all(capture.path)
        for stream in try CaptureTruth(capture: capture).streams { #expect(datagrams.filter { $0.destinationPort == stream.rtpPort }.count == stream.packets) }
        #expect(!reader.isTruncated)
        #expect(datagrams.allSatisfy { $0.source == IPAddress("127.0.0.1") })
    }

    @Test("our own pcapng export is read back, to the nanosecond")
    func pcapng() throws {
        let records: [TrackRecord] = [.rtp(arrival: WallTime(nanoseconds: 1_795_478_532_165_000_001), bytes: [1, 2, 3]), .rtcp(arrival: WallTime(nanoseconds: 1_795_478_533_000_000_000), bytes: [4, 5, 6, 7])]
        let path = try write(PcapngWriter.head + records.flatMap { PcapngWriter.block($0, port: 5_004) }, "f.pcapng")
        let found = try all(path).datagrams
        #expect(found.map(\.payload) == [[1, 2, 3], [4, 5, 6, 7]])
        #expect(found.map(\.destinationPort) == [5_004, 5_005])
        #expect(found.map(\.arrival.nanoseconds) == [1_795_478_532_165_000_001, 1_795_478_533_000_000_000])
    }

    @Test("nanoseconds, the other byte order, VLAN tags and a cut end are read as what they are")
    func variants() throws {
        func be(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
        let ip: [UInt8] = [0x46, 0, 0, 35, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0, 0x10, 0, 0x20, 0, 0, 11, 0, 0, 7, 8, 9]
        let frame = [UInt8](repeating: 2, count: 12) + [0x81, 0, 0, 5, 0x08, 0x00] + ip
        let head = be(0xA1B2_3C4D) + [0, 2, 0, 4] + be(0) + be(0) + be(65_535) + be(1)
        let packet = be(100) + be(7) + be(UInt32(frame.count)) + be(UInt32(frame.count)) + frame
        let (found, reader) = try all(write(head + packet + packet.dropLast(3)))
        #expect(found == [CapturedDatagram(arrival: WallTime(nanoseconds: 100_000_000_007), source: IPAddress("10.0.0.1")!, sourcePort: 0x1000, destination: IPAddress("10.0.0.2")!, destinationPort: 0x2000, payload: [7, 8, 9])])
        #expect(reader.isTruncated)
    }

    @Test("pcapng's own offset and resolution make the time, and a simple packet, which has none, is counted")
    func interfaces() throws {
        func le<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
        func block(_ type: UInt32, _ body: [UInt8]) -> [UInt8] { le(type) + le(UInt32(body.count + 12)) + body + le(UInt32(body.count + 12)) }
        let ip: [UInt8] = [0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x10, 0, 0x20, 0, 0, 9, 0, 0, 7, 0, 0, 0]
        let head = block(0x0A0D_0D0A, le(UInt32(0x1A2B_3C4D)) + [1, 0, 0, 0] + le(Int64(-1)))
        // Raw IP; milliseconds; 100 s later than said.
        let interface = block(1, le(UInt16(101)) + [0, 0] + le(UInt32(0)) + [9, 0, 1, 0, 3, 0, 0, 0] + [14, 0, 8, 0] + le(Int64(100)) + [0, 0, 0, 0])
        let packet = block(6, le(UInt32(0)) + le(UInt32(0)) + le(UInt32(2_500)) + le(UInt32(29)) + le(UInt32(29)) + ip)
        let nowhere = block(6, le(UInt32(7)) + le(UInt32(0)) + le(UInt32(2_500)) + le(UInt32(29)) + le(UInt32(29)) + ip)
        let (found, reader) = try all(write(head + interface + packet + block(3, le(UInt32(29)) + ip) + nowhere, "f.pcapng"))
        #expect(found.map(\.arrival) == [WallTime(seconds: 102.5)])
        #expect(found.map(\.payload) == [[7]])
        #expect(reader.skipped == 2)
    }

    @Test("what is no capture is refused by name")
    func refused() throws {
        for bytes in [[], [1, 2, 3], Array("RIFF and more than that".utf8), [0xD4, 0xC3, 0xB2, 0xA1, 0, 0]] as [[UInt8]] {
            let path = try write(bytes)
            let error = #expect(throws: CaptureFileError.self) { try all(path) }
            #expect(error?.description.contains(path) == true)
        }
        #expect(throws: CaptureFileError.self) { try all(folder.path + "/nowhere.pcap") }
    }

    @Test("mutilated captures give packets or an error, never a crash", arguments: 0..<20 as Range<UInt64>)
    func fuzz(seed: UInt64) throws {
        var random = Seeded(seed)
        let source = seed % 2 == 0 ? Array(try Data(contentsOf: Checkout.fixtures.appending(path: "vp8-lipsync.pcap")).prefix(60_000))
            : PcapngWriter.head + (0..<300).flatMap { PcapngWriter.block(.rtp(arrival: WallTime(seconds: Double($0)), bytes: rtp(1, 2, payload: [3])), port: 9) }
        var bytes = source
        for _ in 0..<40 { bytes[Int.random(in: 4..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
        let path = try write(bytes)
        do { _ = try all(path) } catch { #expect(error is CaptureFileError) }
        for _ in 0..<2_000 { _ = LinkLayer.content(random.bytes(Int.random(in: 0...80, using: &random)), link: [0, 1, 12, 101, 108, 113, 276, 999].randomElement(using: &random)!, arrival: WallTime(seconds: 0)) }
    }
}
