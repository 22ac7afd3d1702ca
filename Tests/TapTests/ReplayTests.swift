import CLinux
import Foundation
import Glibc
import Media
import PacketLog
@testable import Tap
import TestSupport
import Testing

@Suite("Replay")
struct ReplayTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func capture(_ seconds: [Double]) throws -> CaptureFileReader {
        let path = folder.path + "/c.pcapng"
        let blocks = seconds.enumerated().flatMap { PcapngWriter.block(.rtp(arrival: WallTime(seconds: $1), bytes: [UInt8($0)]), port: 5_004) }
        try Data(PcapngWriter.head + blocks).write(to: URL(filePath: path))
        return try CaptureFileReader(path: path)
    }

    private func receiver() -> (socket: Int32, port: UInt16) {
        let socket = clinux_udp_bind("127.0.0.1", 0, 1 << 20)
        return (socket, clinux_bound_port(socket))
    }

    private func received(_ socket: Int32) -> [UInt8] {
        var found: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 10)
        while recv(socket, &bytes, bytes.count, Int32(MSG_DONTWAIT)) == 1 { found.append(bytes[0]) }
        return found
    }

    @Test("a mapped port's packets are sent in their order, the others are left out, progress ends at the end")
    func order() throws {
        let (socket, port) = receiver()
        defer { close(socket) }
        var shares: [Double] = []
        let reader = try capture([10, 10.5, 10.4, 11])
        let report = try ReplaySender(map: [5_004: .init(address: "127.0.0.1", port: port)], speed: 100).run(reader) { _ in } progress: { share, _ in shares.append(share) }
        #expect((report.sent, report.failed) == (4, 0))
        #expect(received(socket) == [0, 1, 2, 3])
        #expect(shares.last == 1)
        let none = try ReplaySender(map: [9: .init(address: "127.0.0.1", port: port)]).run(try capture([10]), started: { _ in }, progress: { _, _ in })
        #expect(none == ReplaySender.Report())
    }

    @Test("a replay that is cancelled ends, even while it waits for a packet that is years away")
    func cancelled() throws {
        let (socket, port) = receiver()
        defer { close(socket) }
        var asked = 0
        let sender = ReplaySender(map: [5_004: .init(address: "127.0.0.1", port: port)], speed: 0.000_001)
        let report = try sender.run(try capture([10, 1_700_000_000, 11]), isCancelled: { asked += 1; return asked > 1 }, started: { _ in }, progress: { _, _ in })
        #expect(report.sent == 1)
        #expect(received(socket) == [0])
    }
}
