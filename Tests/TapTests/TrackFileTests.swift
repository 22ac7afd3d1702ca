import Foundation
import Media
import RTP
@testable import Tap
import TestSupport
import Testing

@Suite("Recordings of one stream: .mjr and rtpdump")
struct TrackFileTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func write(_ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: folder.url.appending(path: "f"))
        return folder.path + "/f"
    }

    private func all(_ bytes: [UInt8], start: WallTime? = nil) throws -> (datagrams: [CapturedDatagram], reader: CaptureFileReader) {
        let reader = try CaptureFileReader(path: write(bytes), start: start)
        var found: [CapturedDatagram] = []
        while let datagram = try reader.next() { found.append(datagram) }
        return (found, reader)
    }

    private func text(_ text: String) -> [UInt8] { Array(text.utf8) }
    private func header(_ magic: String, _ json: String) -> [UInt8] { text(magic) + Wire.be(UInt16(json.utf8.count)) + text(json) }
    private func old(_ packet: [UInt8]) -> [UInt8] { text("MEETECHO") + Wire.be(UInt16(packet.count)) + packet }
    private func new(_ packet: [UInt8], ms: UInt32) -> [UInt8] { text("MEET") + Wire.be(ms) + Wire.be(UInt16(packet.count)) + packet }

    @Test("the second version says when each packet came, which codec it is, and needs no SDP")
    func second() throws {
        let packets = [rtp(1, 0, payload: [1]), rtp(2, 960, payload: [2])]
        let json = #"{"t":"v","c":"h264","f":"profile-level-id=42e01f;packetization-mode=1","x":{"13":"urn:3gpp:video-orientation"},"s":1795479863647632,"u":1795479864504580}"#
        let (found, reader) = try all(header("MJR00002", json) + new(packets[0], ms: 0) + new(packets[1], ms: 20))
        #expect(found.map(\.payload) == packets)
        #expect(found.map(\.arrival.nanoseconds) == [1_795_479_864_504_580_000, 1_795_479_864_524_580_000])
        #expect(reader.saysTime && !reader.hasPorts && !reader.isTruncated)
        let track = try #require(reader.track)
        let media = try SessionDescription(parsing: track.sessionDescription(payloadType: 96)).media[0]
        #expect(media.type == "video" && media.port == CaptureFileReader.portWithoutPorts)
        #expect(media.codecs == [96: Codec(name: "H264", clockRate: 90_000)])
        #expect(media.formatParameters == [96: "profile-level-id=42e01f;packetization-mode=1"])
        #expect(media.extensions == [13: "urn:3gpp:video-orientation"])
    }

    @Test("a recording with redundant sound announces both payload types")
    func redundancy() throws {
        let track = try #require(try all(header("MJR00002", #"{"t":"a","c":"opus","or":63,"u":1}"#)).reader.track)
        #expect(try SessionDescription(parsing: track.sessionDescription(payloadType: 111)).media[0].codecs == [111: .opus, 63: Codec(name: "red", clockRate: 48_000, channels: 2)])
    }

    @Test("the first version keeps no arrival times: the RTP time stamps say when, from the header's time on")
    func first() throws {
        let frames = [(1, 5_000), (2, 5_960), (4, 7_880), (3, 6_920), (5, 0), (6, 960)].map { old(rtp($0.0, $0.1, payload: [1])) }
        let (found, _) = try all(header("MJR00001", #"{"t":"a","c":"opus","u":7000000}"#) + frames.flatMap { $0 })
        // The fourth came late, and the fifth began anew, which is no time that passed.
        #expect(found.map(\.arrival) == [7, 7.02, 7.06, 7.06, 7.06, 7.06].map { WallTime(seconds: $0) })
    }

    @Test("a time stamp that leaps more than a minute moves no clock")
    func leaps() {
        var pace = TimestampPace(start: WallTime(seconds: 10), clockRate: 8_000)
        let stamps: [UInt32] = [.max - 7_999, 0, 3_000_000_000, 160, 320]
        #expect(stamps.map { pace.arrival(timestamp: $0) } == [10, 11, 11, 11, 11.02].map { WallTime(seconds: $0) })
    }

    @Test("the oldest layout has no header: Opus or VP8 by name, from the given start or from 1970")
    func oldest() throws {
        let bytes = text("MEETECHO") + Wire.be(UInt16(5)) + text("audio") + old(rtp(1, 100, payload: [1])) + old(rtp(2, 1_060, payload: [2]))
        let (found, reader) = try all(bytes)
        #expect(found.map(\.arrival) == [WallTime(seconds: 0), WallTime(seconds: 0.02)])
        #expect(reader.track == JanusTrack(kind: .audio, codec: .opus))
        #expect(!reader.saysTime)
        #expect(try all(bytes, start: WallTime(seconds: 50)).datagrams.map(\.arrival) == [WallTime(seconds: 50), WallTime(seconds: 50.02)])
    }

    @Test("what cannot be recorded is refused in words", arguments: [
        (#"{"t":"a","c":"opus","e":true}"#, "end-to-end encrypted"), (#"{"t":"a","c":"isac"}"#, "'isac'"), (#"{"t":"a"}"#, "names no codec"), (#"{"c":"opus"}"#, "audio or video"),
        ("{", "no JSON"), ("[]", "no JSON"), (#"{"t":"a","c":"opus","u":1e99}"#, "no JSON"),
    ])
    func refused(json: String, word: String) throws {
        let error = #expect(throws: CaptureFileError.self) { try all(header("MJR00002", json)) }
        #expect(error?.description.contains(word) == true)
    }

    @Test("a header cannot smuggle lines into the SDP")
    func smuggled() throws {
        let track = try #require(try all(header("MJR00002", #"{"t":"a","c":"opus","f":"x=1\r\na=crypto:1","x":{"3":"urn:a\r\nm=video","5":"urn:ok"}}"#)).reader.track)
        #expect(track.parameters == nil)
        #expect(track.extensions == [5: "urn:ok"])
    }

    @Test("a data channel has nothing for us, a cut tail yields what was whole, damage names its place")
    func ends() throws {
        let (none, data) = try all(header("MJR00002", #"{"t":"d","c":"text"}"#) + new(text("hello, all of you"), ms: 0))
        #expect(none.isEmpty && data.track == nil && data.skipped == 1)
        let head = header("MJR00002", #"{"t":"a","c":"opus","u":7000000}"#)
        let (whole, cut) = try all(head + new(rtp(1, 0, payload: [1]), ms: 0) + new(rtp(2, 960, payload: [2]), ms: 20).dropLast())
        #expect(whole.count == 1 && cut.isTruncated)
        let error = #expect(throws: CaptureFileError.self) { try all(head + new(rtp(1, 0, payload: [1]), ms: 0) + text("MEAT567890")) }
        #expect(error?.description.contains("at byte \(head.count + 23)") == true)
    }

    private func dump(_ seconds: UInt32, _ records: [UInt8], line: String = "#!rtpplay1.0 0.0.0.0/20000\n") -> [UInt8] {
        text(line) + Wire.be(seconds) + Wire.be(UInt32(250_000)) + [10, 0, 0, 1] + Wire.be(UInt16(20_000)) + [0, 0] + records
    }
    private func record(_ body: [UInt8], plen: Int, ms: UInt32) -> [UInt8] { Wire.be(UInt16(body.count + 8)) + Wire.be(UInt16(plen)) + Wire.be(ms) + body }

    @Test("rtpdump: RTCP is marked by a packet length of 0, the first offset counts, a packet kept in part is left out")
    func rtpdump() throws {
        let packet = rtp(1, 160, payloadType: 0, payload: [1, 2, 3])
        let report: [UInt8] = [0x80, 200, 0, 0]
        let (found, reader) = try all(dump(100, record(packet, plen: packet.count, ms: 44_020) + record(report, plen: 0, ms: 44_030) + record(Array(packet.prefix(12)), plen: packet.count, ms: 44_040)))
        let source = try #require(IPAddress("10.0.0.1"))
        #expect(found == [
            CapturedDatagram(arrival: WallTime(nanoseconds: 144_270_000_000), source: source, sourcePort: 20_000, destinationPort: 20_000, payload: packet),
            CapturedDatagram(arrival: WallTime(nanoseconds: 144_280_000_000), source: source, sourcePort: 20_000, destinationPort: 20_001, payload: report),
        ])
        #expect(reader.counts.cut == 1 && reader.saysTime)
        #expect(try all(dump(0, record(packet, plen: packet.count, ms: 20)), start: WallTime(seconds: 9)).datagrams.map(\.arrival) == [WallTime(seconds: 9.02)])
    }

    @Test("a damaged or cut rtpdump says so")
    func rtpdumpDamage() throws {
        #expect(throws: CaptureFileError.self) { try all(dump(1, [0, 7, 0, 0, 0, 0, 0, 0])) }
        #expect(throws: CaptureFileError.self) { try all(dump(1, [], line: "#!rtpwhat\n")) }
        #expect(throws: CaptureFileError.self) { try all(text("#!rtpplay1.0 1.2.3.4/5\n") + [0, 0]) }
        #expect(try all(dump(1, record(rtp(1, 1, payload: [1]), plen: 13, ms: 0).dropLast())).reader.isTruncated)
    }

    @Test("mutilated files give packets or an error, never a crash", arguments: 0..<40 as Range<UInt64>)
    func fuzz(seed: UInt64) throws {
        var random = Seeded(seed)
        let packets = (0..<100).map { rtp(UInt16($0), UInt32($0) * 960, payload: random.bytes(20)) }
        var bytes = switch seed % 3 {
        case 0: header("MJR00002", #"{"t":"a","c":"opus","u":1795479864504580,"x":{"1":"urn:a"}}"#) + packets.enumerated().flatMap { new($1, ms: UInt32($0) * 20) }
        case 1: header("MJR00001", #"{"t":"v","c":"vp8","s":1795479864504580}"#) + packets.flatMap(old)
        default: dump(100, packets.enumerated().flatMap { record($1, plen: $1.count, ms: UInt32($0) * 20) })
        }
        for _ in 0..<Int.random(in: 1...12, using: &random) { bytes[Int.random(in: 4..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
        if Bool.random(using: &random) { bytes.removeLast(Int.random(in: 0...bytes.count - 8, using: &random)) }
        do { _ = try all(bytes) } catch { #expect(error is CaptureFileError) }
    }
}
