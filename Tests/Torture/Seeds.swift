import Foundation
import Media
import RTP
import TestSupport

/// The fuzzers' first inputs, one folder for each: what a parser sees on a good day, in the form in which its fuzzer reads it (`Tests/Fuzz`).
///
/// `mitschnitt-torture --corpus Tests/Fuzz/corpus` writes them; they are kept with the sources.
struct Seeds {
    private(set) var files: [(folder: String, name: String, bytes: [UInt8])] = []

    init() {
        addDatagrams()
        addDescriptions()
        addSound()
        addPictures()
        addTracks()
        addCaptures()
    }

    func write(to folder: URL) throws {
        for file in files {
            let directory = folder.appending(path: file.folder)
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            try Data(file.bytes).write(to: directory.appending(path: file.name))
        }
    }

    private mutating func add(_ folder: String, _ name: String, _ bytes: [UInt8]) { files.append((folder, name, bytes)) }

    /// Length and bytes, as the fuzzers take a block.
    private func block(_ bytes: [UInt8]) -> [UInt8] { [UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes }
}

/// Datagrams and what describes them.
extension Seeds {
    private func packets(_ source: PacketSource, _ count: Int) -> [SentPacket] { Array(source.prefix(count)) }

    private mutating func addDatagrams() {
        add("rtp", "opus", packets(PacketSource(.opus(hasLevels: true), seconds: 1, seed: 1), 1)[0].bytes)
        add("rtp", "vp8", packets(PacketSource(.vp8(hasLayers: true), seconds: 1, seed: 1), 1)[0].bytes.prefix(60) + [])
        add("rtp", "padded-with-sources", [0xA2] + rtp(1, 2, payload: [])[1...] + [0, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4, 0, 0, 0, 4])
        let short: [UInt8] = [0x10, 0x85, 0x21, 0x61, 0x30, 0x68, 0x40, 0x72, 0x50, 0x01, 0x67] + [UInt8](repeating: 7, count: 8) + [0]
        add("rtp", "short-extensions", [0x90] + rtp(1, 2, payload: [])[1...] + [0xBE, 0xDE, 0, 5] + short + [9, 9])
        add("rtp", "long-extensions", [0x90] + rtp(1, 2, payload: [])[1...] + [0x10, 0, 0, 4, 1, 1, 0x85, 2, 1, 0x61, 3, 2, 0x68, 0x69, 5, 1, 1, 0, 0, 0] + [9, 9])
        add("rtp", "retransmission", rtp(1, 2, payloadType: 97, payload: [0, 7, 1, 2, 3]))

        let (a, b) = (SSRC(rawValue: 7), SSRC(rawValue: 8))
        var source = PacketSource(.pcmu, seconds: 6, seed: 1)
        source.reportSeconds = 2
        let report = source.first { $0.unit == nil }?.bytes ?? []
        add("rtcp", "sender-report", report)
        let name: [UInt8] = [0x81, 202, 0, 3, 0, 0, 0, 7, 1, 3, 0x61, 0x40, 0x62, 0, 0, 0]
        let block: [UInt8] = [0, 0, 0, 8, 1, 0, 0, 2, 0, 1, 0, 9, 0, 0, 0, 5, 1, 2, 3, 4, 0, 0, 1, 0]
        add("rtcp", "compound", [0x81, 200, 0, 12] + report.dropFirst(4) + block + name + [0x81, 203, 0, 1, 0, 0, 0, 7])
        add("rtcp", "receiver-report", [0x81, 201, 0, 7, 0, 0, 0, 7] + block)
        add("rtcp", "picture-loss", RTCPPacket.pictureLossIndication(from: a, about: b))
        add("rtcp", "intra-request", RTCPPacket.fullIntraRequest(from: a, about: b, sequenceNumber: 3))
        add("rtcp", "lost-packets", RTCPPacket.genericNACK(from: a, about: b, lost: [1, 2, 17, 65_535]))
    }

    private mutating func addDescriptions() {
        add("sdp", "plain", Array("v=0\r\nm=audio 5004 RTP/AVP 0 8 9 13 101\r\nc=IN IP4 192.0.2.1/127\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n".utf8))
        add("sdp", "browser", Array("""
            v=0
            o=- 1 2 IN IP4 127.0.0.1
            s=-
            c=IN IP6 ::1
            t=0 0
            m=audio 9 UDP/TLS/RTP/SAVPF 63 111
            a=mid:0
            a=rtcp-mux
            a=rtcp:9 IN IP4 0.0.0.0
            a=sendonly
            a=rtpmap:111 opus/48000/2
            a=fmtp:111 minptime=10;useinbandfec=1
            a=rtpmap:63 red/48000/2
            a=fmtp:63 111/111
            a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
            m=video 9 RTP/SAVPF 96 97 102
            a=mid:1
            a=extmap:2/sendonly urn:ietf:params:rtp-hdrext:sdes:mid
            a=rtpmap:96 VP8/90000
            a=rtpmap:97 rtx/90000
            a=fmtp:97 apt=96
            a=rtpmap:102 H264/90000
            a=fmtp:102 packetization-mode=1;profile-level-id=42c00d;sprop-parameter-sets=Z0LADdoFB+Q=,aM44gA==
            a=ssrc-group:FID 7 8
            a=ssrc:7 cname:a
            a=ssrc:8 cname:a
            a=rid:h send pt=96;max-width=320
            a=rid:l send
            a=simulcast:send h;~l recv h
            a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^20|1:4
            a=crypto:2 AEAD_AES_256_GCM inline:AAAA
            a=inactive

            """.utf8))
    }

    private mutating func addSound() {
        var source = PacketSource(.opus(), seconds: 1, seed: 1)
        source.redundancy = 2
        let redundant = packets(source, 3).map { Array($0.bytes.dropFirst(12)) }
        add("sound", "redundant", redundant.flatMap { [0, 3, 192] + block($0) })
        add("sound", "lengths", [[0xF8, 1, 2], [0x03, 0x41, 1, 5, 5], [0x7B, 0x83, 1, 1, 9, 9, 9], [0x0A, 1, 0xC0, 2], [0xFB, 6]].flatMap { [0, 3, 192] + block($0) })
        add("sound", "keys", [[1, 10, 0, 160], [1, 10, 1, 64], [1, 0x8A, 1, 224], [1, 0x8A, 1, 224], [9, 10, 0, 160]].flatMap { [1, 0, 0] + block($0) })
    }
}

/// Pictures: what their fuzzers take is a flag byte (1: marker, 2: the same time stamp) and a block for each packet.
extension Seeds {
    /// As an encoder wrote them for 320x240, without their filling.
    private static let h265: (vps: [UInt8], sps: [UInt8], pps: [UInt8]) = (
        [0x40, 0x01, 0x0C, 0x01, 0xFF, 0xFF, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3C, 0x95, 0x98, 0x09],
        [0x42, 0x01, 0x01, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3C, 0xA0, 0x0A, 0x08, 0x0F, 0x16, 0x59, 0x59, 0xA4, 0x93, 0x2B, 0xC0, 0x5A, 0x02, 0, 0, 3, 0, 2, 0, 0, 3, 0, 0x0A, 0x10],
        [0x44, 0x01, 0xC1, 0x72, 0xB4, 0x62, 0x40])
    private static let av1Sequence: [UInt8] = [0x08, 0x00, 0x00, 0x00, 0x04, 0x3C, 0xFF, 0xBC, 0xDA, 0xF9, 0x00, 0x40]
    private static let av1Key: [UInt8] = [0x30, 0x10, 0x00, 0x85, 0xA0, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0xEB, 0xC6, 0x8E, 0xE3, 0x06]
    private static let av1Inter: [UInt8] = [0x30, 0x30, 0x03, 0xC0, 0x80, 0x00, 0x00, 0x06, 0x90, 0x00, 0x00, 0x00, 0xA0, 0x00, 0x08]
    private static let vp9Key: [UInt8] = [0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xF0, 0x0E, 0xF6, 0x00, 0x38, 0x24, 0x1C, 0x18]
    private static let vp9Inter: [UInt8] = [0x86, 0x00, 0x40, 0x92, 0x9C, 0x00, 0x50]

    private typealias Payload = (flags: UInt8, bytes: [UInt8])

    /// Payloads of each codec by name, several shapes of each.
    private static var payloads: [(codec: String, shape: String, payloads: [Payload])] {
        let (vps, sps, pps) = h265
        func sized(_ unit: [UInt8]) -> [UInt8] { [0, UInt8(unit.count)] + unit }
        func av1(_ unit: [UInt8]) -> [UInt8] { [UInt8(unit.count)] + unit }
        let structure: [UInt8] = [0x18, 0x01, 0x40, 0x00, 0xF0, 1, 0x04, 1]
        let layers: [UInt8] = [0x38, 0, 160, 0, 120, 0x01, 0x40, 0x00, 0xF0, 1, 0x04, 1]
        return [
            ("vp9", "one-layer", [(1, [0x8E, 0x81, 0x02] + structure + vp9Key), (1, [0xCC, 0x81, 0x03] + vp9Inter), (1, [0x8C, 0x81, 0x04] + vp9Inter)]),
            ("vp9", "two-layers", [(0, [0xAE, 0x81, 0x02, 0x00, 5] + layers + vp9Key), (3, [0xAC, 0x81, 0x02, 0x03, 5] + vp9Inter),
                                   (0, [0xEC, 0x81, 0x03, 0x20, 6] + vp9Inter), (3, [0xEC, 0x81, 0x03, 0x23, 6] + vp9Inter)]),
            ("vp9", "flexible", [(1, [0x9E, 0x05] + structure + vp9Key), (1, [0xDC, 0x06, 0x02] + vp9Inter), (1, [0xDC, 0x07, 0x03, 0x04] + vp9Inter)]),
            ("h265", "single", [(0, vps), (2, sps), (2, pps), (3, [0x26, 0x01, 0xAF, 1, 2, 3]), (1, [0x02, 0x01, 0xD0, 4, 5])]),
            ("h265", "aggregated-and-fragmented", [(0, [0x60, 0x01] + sized(vps) + sized(sps) + sized(pps)), (2, [0x62, 0x01, 0x93, 0xAF, 1]), (2, [0x62, 0x01, 0x13, 2]), (3, [0x62, 0x01, 0x53, 3])]),
            ("av1", "whole", [(1, [0x28] + av1(av1Sequence) + av1Key), (1, [0x10] + av1Inter), (5, [0x10] + av1Inter)]),
            ("av1", "fragmented", [(0, [0x68] + av1(av1Sequence) + av1Key[..<8]), (3, [0x90] + av1Key[8...]), (0, [0x50] + av1Inter[..<6]), (3, [0x90] + av1Inter[6...])]),
        ]
    }

    private func input(_ payloads: [Payload], parameters: String? = nil) -> [UInt8] {
        (parameters.map { [1] + block(Array($0.utf8)) } ?? [0]) + payloads.flatMap { [$0.flags] + block($0.bytes) }
    }

    /// A source's packets, each picture with a time stamp of its own.
    private func payloads(of source: PacketSource, _ count: Int) -> [Payload] {
        var last: SentUnit?
        return packets(source, count).map { packet in
            defer { last = packet.unit }
            return ((packet.bytes[1] & 0x80 != 0 ? 1 : 0) | (packet.unit == last ? 2 : 0), Array(packet.bytes.dropFirst(12)))
        }
    }

    private mutating func addPictures() {
        for hasLayers in [false, true] {
            var source = PacketSource(.vp8(keySeconds: 0.2, hasLayers: hasLayers), seconds: 1, seed: 1)
            source.pictureBytes = 8...130
            add("vp8", hasLayers ? "layers" : "plain", input(payloads(of: source, 12)))
        }
        var source = PacketSource(.h264(keySeconds: 0.2), seconds: 1, seed: 1)
        source.pictureBytes = 8...130
        add("h264", "plain", input(payloads(of: source, 14)))
        add("h264", "parameters", input([(1, [0x65, 0x88, 0x84]), (1, [0x41, 0x9A, 7])], parameters: "packetization-mode=1;sprop-parameter-sets=Z0LADdoFB+Q=,aM44gA=="))
        for (codec, shape, payloads) in Self.payloads { add(codec, shape, input(payloads)) }
        add("h265", "parameters", input([(1, [0x26, 0x01, 0xAF, 1])], parameters: "sprop-vps=QAEMAf//AWAAAAMAkAAAAwAAAwA8lZgJ;sprop-sps=QgEBAWAAAAMAkAAAAwAAAwA8oAoIDxZZWaSTK8BaAgAAAwACAAADAAoQ;sprop-pps=RAHBcrRiQA=="))
    }
}

/// Whole tracks and files.
extension Seeds {
    /// As the depacketizer's fuzzer reads them: the format's place, then kind, milliseconds (in steps of four) and a block for each record.
    private func track(_ format: UInt8, _ packets: [SentPacket]) -> [UInt8] {
        var last: WallTime?
        return [format] + packets.flatMap { packet in
            let step = UInt8(clamping: ((packet.sentAt - (last ?? packet.sentAt)).count / 4_000_000))
            last = packet.sentAt
            return [packet.unit == nil ? 2 : 1, step] + block(packet.bytes)
        }
    }

    private mutating func addTracks() {
        var sound = PacketSource(.opus(isDiscontinuous: true, hasLevels: true), seconds: 20, seed: 3)
        sound.reportSeconds = 1
        sound.events = [(1, .mute(seconds: 1)), (2.5, .jump(ticks: 1 << 30)), (4, .rejoin(after: 1))]
        add("depacketizer", "opus", track(0, packets(sound, 40)))
        sound.redundancy = 1
        add("depacketizer", "redundant", track(0, packets(sound, 20)))
        add("depacketizer", "pcmu", track(1, packets(PacketSource(.pcmu, seconds: 1, seed: 1), 20)))
        for (place, content) in [(UInt8(2), PacketSource.Content.vp8(keySeconds: 0.5)), (4, .h264(keySeconds: 0.5))] {
            var source = PacketSource(content, seconds: 3, seed: 4)
            source.pictureBytes = 8...130
            add("depacketizer", source.codec.name, track(place, packets(source, 30)))
        }
        for (codec, shape, payloads) in Self.payloads {
            let place: UInt8 = switch codec {
            case "vp9": 3
            case "h265": 5
            default: 6
            }
            // Records that are built from their numbers: kind 0, time, flags, the type's place.
            add("depacketizer", "\(codec)-\(shape)", [place] + payloads.flatMap { [0, 10, ($0.flags & 1) << 7 | ($0.flags & 2 == 0 ? 0x31 : 0x01), 0] + block($0.bytes) })
        }
        // Marks between sound, and a retransmission.
        add("depacketizer", "marks", [0] + (0..<6).flatMap { [0, 5, 0x11, 2] + block([0xF8, $0]) + [3, 5, $0] })
        add("depacketizer", "retransmission", [2, 0, 9, 0xB1, 0] + block([0x10, 0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0, 9]) + [0, 9, 0xF1, 1, 8] + block([0xFD, 0xEA, 0x10, 0x11, 0, 0, 9]))
    }

    private func little<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
    private func big<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }

    private mutating func addCaptures() {
        let sent = packets(PacketSource(.pcmu, seconds: 1, seed: 1), 3).map { Array($0.bytes.prefix(40)) }
        func udp(_ payload: [UInt8]) -> [UInt8] { big(UInt16(4_000)) + big(UInt16(5_004)) + big(UInt16(payload.count + 8)) + [0, 0] + payload }
        func ip4(_ body: [UInt8], fragment: UInt16 = 0) -> [UInt8] {
            [0x45, 0] + big(UInt16(body.count + 20)) + [0, 1] + big(fragment) + [64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2] + body
        }
        func ip6(_ body: [UInt8]) -> [UInt8] { [0x60, 0, 0, 0] + big(UInt16(body.count)) + [17, 64] + [UInt8](repeating: 1, count: 32) + body }
        func ethernet(_ packet: [UInt8], tag: [UInt8] = []) -> [UInt8] { [UInt8](repeating: 2, count: 12) + tag + (packet[0] >> 4 == 4 ? [8, 0] : [0x86, 0xDD]) + packet }
        func pcap(link: UInt32, magic: UInt32 = 0xA1B2_C3D4, _ frames: [[UInt8]]) -> [UInt8] {
            little(magic) + [2, 0, 4, 0] + [UInt8](repeating: 0, count: 8) + little(UInt32(65_535)) + little(link)
                + frames.enumerated().flatMap { little(UInt32(1_700_000_000)) + little(UInt32($0 * 20_000)) + little(UInt32($1.count)) + little(UInt32($1.count)) + $1 }
        }
        add("capture", "ethernet.pcap", pcap(link: 1, sent.map { ethernet(ip4(udp($0)), tag: [0x81, 0, 0, 5]) }))
        add("capture", "cooked.pcap", pcap(link: 113, sent.map { [UInt8](repeating: 0, count: 14) + [8, 0] + ip4(udp($0)) }))
        add("capture", "cooked2.pcap", pcap(link: 276, sent.map { [8, 0] + [UInt8](repeating: 0, count: 18) + ip4(udp($0)) }))
        add("capture", "raw-nanoseconds.pcap", pcap(link: 101, magic: 0xA1B2_3C4D, sent.map { ip6(udp($0)) }))
        add("capture", "loopback.pcap", pcap(link: 0, sent.map { [2, 0, 0, 0] + ip4(udp($0)) }))
        let whole = udp(sent[0])
        add("capture", "fragments.pcap", pcap(link: 1, [ethernet(ip4(Array(whole[..<24]), fragment: 0x2000)), ethernet(ip4(Array(whole[24...]), fragment: 3))]))

        func block(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
            let padded = body + [UInt8](repeating: 0, count: (4 - body.count % 4) % 4)
            return little(type) + little(UInt32(padded.count + 12)) + padded + little(UInt32(padded.count + 12))
        }
        let section = block(0x0A0D_0D0A, little(UInt32(0x1A2B_3C4D)) + [1, 0, 0, 0] + little(Int64(-1)))
        let interface = block(1, [1, 0, 0, 0] + little(UInt32(65_535)) + [9, 0, 1, 0, 9, 0, 0, 0] + [14, 0, 8, 0] + little(Int64(1)) + [0, 0, 0, 0])
        let frames = sent.map { ethernet(ip4(udp($0))) }
        add("capture", "blocks.pcapng", section + interface + frames.flatMap { block(6, little(UInt32(0)) + little(UInt32(395_812_000)) + little(UInt32(7)) + little(UInt32($0.count)) + little(UInt32($0.count)) + $0) }
            + block(3, little(UInt32(frames[0].count)) + frames[0]) + block(5, [0, 0, 0, 0]))

        let json = Array(#"{"t":"v","c":"vp8","x":{"1":"urn:ietf:params:rtp-hdrext:sdes:mid"},"s":1700000000000000,"u":1700000000100000,"f":"a=b","or":63}"#.utf8)
        add("capture", "version0.mjr", Array("MEETECHO".utf8) + big(UInt16(5)) + Array("audio".utf8) + sent.flatMap { Array("MEETECHO".utf8) + big(UInt16($0.count)) + $0 })
        add("capture", "version1.mjr", Array("MJR00001".utf8) + big(UInt16(json.count)) + json + sent.flatMap { Array("MEETECHO".utf8) + big(UInt16($0.count)) + $0 })
        add("capture", "version2.mjr", Array("MJR00002".utf8) + big(UInt16(json.count)) + json + sent.flatMap { Array("MEET".utf8) + big(UInt32(20)) + big(UInt16($0.count)) + $0 })
        add("capture", "plain.rtpdump", Array("#!rtpplay1.0 192.0.2.1/5004\n".utf8) + big(UInt32(1_700_000_000)) + [UInt8](repeating: 0, count: 12)
            + sent.enumerated().flatMap { big(UInt16($1.count + 8)) + big(UInt16($0 == 2 ? 0 : $1.count)) + big(UInt32($0 * 20)) + $1 })
    }
}
