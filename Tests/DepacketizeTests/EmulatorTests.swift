import Depacketize
import Media
import RTP
import TestSupport
import Testing

/// The emulator judges everything else, so it is judged first.
@Suite("The emulated network itself")
struct EmulatorTests {
    private func deliver(_ source: PacketSource, _ network: Network, seed: UInt64) -> [(arrival: WallTime, bytes: [UInt8])] {
        var emulator = NetworkEmulator(network, seed: seed)
        var all: [(arrival: WallTime, bytes: [UInt8])] = []
        for packet in source {
            emulator.send(packet)
            while let arrived = emulator.receive() { all.append(arrived) }
        }
        while let arrived = emulator.drain() { all.append(arrived) }
        return all
    }

    @Test("the same seed is the same run, and another seed another")
    func seeded() {
        var network = Network()
        (network.jitter, network.loss, network.keepsOrder) = (.gamma(mean: .milliseconds(20)), .bernoulli(0.1), false)
        let runs = [(1, 1), (1, 1), (1, 2), (2, 1)].map { deliver(PacketSource(.vp8(), seconds: 4, seed: UInt64($0.0)), network, seed: UInt64($0.1)) }
        let bytes = runs.map { $0.map(\.bytes) }
        let times = runs.map { $0.map(\.arrival) }
        #expect(bytes[0] == bytes[1] && times[0] == times[1])
        #expect(times[0] != times[2] && bytes[0] != bytes[3])
    }

    @Test("what arrives comes in the order of arrival, never before the least delay, and as often as the shares say")
    func shares() {
        var network = Network()
        (network.jitter, network.keepsOrder) = (.uniform(max: .milliseconds(100)), false)
        (network.loss, network.duplication) = (.bursts(enter: 0.02, leave: 0.2, loss: 0.5), 0.1)
        let source = PacketSource(.pcmu, seconds: 200, seed: 1)
        let sent = Dictionary(uniqueKeysWithValues: source.map { ($0.bytes, $0.sentAt) })
        let arrived = deliver(source, network, seed: 2)
        #expect(zip(arrived, arrived.dropFirst()).allSatisfy { $0.arrival <= $1.arrival })
        #expect(arrived.allSatisfy { $0.arrival - (sent[$0.bytes] ?? $0.arrival) >= network.leastDelay })
        let distinct = Set(arrived.map(\.bytes)).count
        // A share of 1/11 of the time is bad, and half is lost then.
        #expect((0.93...0.98).contains(Double(distinct) / Double(sent.count)))
        #expect((0.08...0.12).contains(Double(arrived.count - distinct) / Double(distinct)))
    }

    @Test("a stall holds what was sent in it until its end, and an outage swallows it")
    func spans() {
        let source = PacketSource(.pcmu, seconds: 10, seed: 1)
        func at(_ seconds: Double) -> WallTime { source.start + Nanoseconds(seconds: seconds) }
        var network = Network()
        network.stalls = [.init(from: at(2), to: at(4))]
        network.outages = [.init(from: at(6), to: at(7))]
        let arrived = deliver(source, network, seed: 1)
        #expect(arrived.count == 450)
        #expect(arrived.filter { at(2.031) < $0.arrival && $0.arrival < at(4) }.isEmpty)
        #expect(arrived.filter { $0.arrival == at(4) }.count >= 98)
        #expect(arrived.filter { at(6.031) < $0.arrival && $0.arrival < at(7.03) }.isEmpty)
    }

    @Test("a lost packet comes again as a retransmission that restores it (RFC 4588)")
    func retransmission() throws {
        var network = Network()
        (network.loss, network.retransmission) = (.bernoulli(0.2), .init(after: .milliseconds(50)))
        let source = PacketSource(.vp8(), seconds: 10, seed: 1)
        let format = source.format(isRepeated: true)
        let types = Retransmission.mediaTypes(of: format)
        #expect(types == [97: 96])
        var restored: Set<[UInt8]> = []
        var missing = Set(source.map(\.bytes))
        for (_, bytes) in deliver(source, network, seed: 1) {
            missing.remove(bytes)
            try bytes.withUnsafeBytes { buffer in
                let header = try RTPHeader(buffer)
                guard let media = format.repairs[header.ssrc.rawValue] else { return }
                let original = try #require(Retransmission.restored(header, in: buffer, apt: 96, ssrc: SSRC(rawValue: media)))
                restored.insert(rtp(original.sequenceNumber, original.timestamp, payloadType: 96, ssrc: media, marker: original.marker, payload: Array(buffer[original.payload])))
            }
        }
        // One of five is lost, and so is one of five of those that come again.
        #expect(restored.count > 50 && restored.isSubset(of: missing))
        #expect((0.1...0.3).contains(Double(missing.count - restored.count) / Double(missing.count)))
    }

    @Test("redundant sound carries the packets before it, at their distance (RFC 2198)")
    func redundancy() throws {
        var source = PacketSource(.opus(), seconds: 2, seed: 1)
        source.redundancy = 2
        var units: [TestSupport.SentUnit] = []
        for packet in source {
            units.append(try #require(packet.unit))
            try packet.bytes.withUnsafeBytes { buffer in
                let header = try RTPHeader(buffer)
                let payload = UnsafeRawBufferPointer(rebasing: buffer[header.payload])
                let blocks = try #require(RedundantAudio.blocks(payload))
                #expect(header.payloadType == PacketSource.redundancyType)
                #expect(blocks.map { Array(payload[$0.range]) } == units.suffix(3).map { source.payload(of: $0) })
                #expect(blocks.map(\.timestampOffset) == [1_920, 960, 0].suffix(blocks.count))
            }
        }
    }

    @Test("pictures come out of their packets as they were sent, whatever needs them or not", arguments: [PacketSource.Content.vp8(), .vp8(hasLayers: true), .h264()])
    func pictures(content: PacketSource.Content) throws {
        let source = PacketSource(content, seconds: 10, seed: 1)
        var assembler = try #require(VideoFormats.assembler(for: source.codec, parameters: source.format().parameters[source.payloadType]))
        var units: [TestSupport.SentUnit] = []
        var frames: [VideoFrame] = []
        for packet in source {
            let unit = try #require(packet.unit)
            if units.last != unit { units.append(unit) }
            frames += try packet.bytes.withUnsafeBytes { buffer in
                let header = try RTPHeader(buffer)
                return assembler.push(UnsafeRawBufferPointer(rebasing: buffer[header.payload]), timestamp: Int64(header.timestamp), marker: header.marker, isContiguous: true)
            }
        }
        #expect(frames.map(\.bytes) == units.map { source.payload(of: $0) })
        #expect(frames.map(\.isKey) == units.map(\.isKey))
        #expect(frames.map { source.number(in: $0.bytes) } == units.map(\.number))
        #expect([frames.first?.width, frames.first?.height] == [320, 240])
    }

    @Test("a sender report names the moment on both clocks")
    func report() throws {
        var source = PacketSource(.vp8(), seconds: 3_600, seed: 1, timestamp: .max)
        (source.driftPPM, source.reportSeconds, source.reportOffset, source.reportDriftPPM) = (200, 600, .seconds(-7), 50)
        var last: (sent: WallTime, report: RTCPPacket.SenderReport)?
        for packet in source where packet.unit == nil {
            let parsed = try packet.bytes.withUnsafeBytes { try RTCPPacket.parse($0) }
            guard case .senderReport(_, let report) = parsed.first else { continue }
            if let last {
                let truth = (packet.sentAt - last.sent).seconds
                #expect(abs(Double(report.rtpTimestamp &- last.report.rtpTimestamp) / 90_000 * (1 + 200e-6) - truth) < 1e-4)
                #expect(abs(Double(Int64(bitPattern: report.ntp &- last.report.ntp)) / 0x1p32 - truth * (1 + 50e-6)) < 1e-6)
            }
            let ntp = Double(report.ntp >> 32) - 2_208_988_800 + Double(report.ntp & 0xFFFF_FFFF) / 0x1p32
            #expect(abs(ntp - packet.sentAt.seconds + 7) < 0.2)
            last = (packet.sentAt, report)
        }
        #expect(last != nil)
    }
}
