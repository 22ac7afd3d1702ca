@testable import Depacketize
import Foundation
import Media
import TestSupport
import Testing

/// Sends H.264 (RFC 6184) or H.265 (RFC 7798): access units of one to three slices, each alone, aggregated or in fragments.
struct NALSender {
    enum Standard { case h264, h265 }

    var standard = Standard.h264
    /// Each key picture brings its parameter sets.
    var hasSetsInBand = true
    var keyEvery = 25
    /// Every other picture is needed by none (H.264).
    var hasDisposable = false

    /// Of x264 and x265, 854x478.
    static let h264Sets: [[UInt8]] = ["6764001eacd940d83de6ac0440000003004000000c83c58b6580", "68eae3cb22c0"].map(hex)
    static let h265Sets: [[UInt8]] = [
        "40010c01ffff0408000003009e0800000300005a959809", "4201010408000003009e0800000300005a9000d6403c3bbcb2b349265780b7020200000040000003000003006420", "4401c172860c4624",
    ].map(hex)

    var sets: [[UInt8]] { standard == .h264 ? Self.h264Sets : Self.h265Sets }

    static func hex(_ text: String) -> [UInt8] {
        stride(from: 0, to: text.count, by: 2).map { UInt8(text.dropFirst($0).prefix(2), radix: 16)! }
    }

    static func annexB(_ units: [[UInt8]]) -> [UInt8] { units.flatMap { [0, 0, 0, 1] + $0 } }

    /// `type` in H.264: 5 or 1; in H.265 as it is.
    func slice(_ number: Int, type: Int, isDisposable: Bool = false, isBipredictive: Bool = false, isIntra: Bool = false, _ random: inout Seeded) -> [UInt8] {
        var writer = BitWriter()
        switch standard {
        case .h264:
            writer.put((isDisposable ? 0 : 0x60) | type, 8)
            writer.exponential(number * 40)
            writer.exponential(type == 5 || isIntra ? 7 : isBipredictive ? 6 : 5)
            writer.exponential(0)
        case .h265:
            writer.put(type << 9 | 1, 16)
            writer.put(number == 0 ? 1 : 0, 1)
            if type >= 16 { writer.put(0, 1) }
            writer.exponential(0)
        }
        return writer.bytes + random.body(Int.random(in: 4...60, using: &random))
    }

    /// The payloads of one access unit.
    func packets(_ units: [[UInt8]], _ random: inout Seeded) -> [[UInt8]] {
        var payloads: [[UInt8]] = []
        var at = 0
        while at < units.count {
            let together = Int.random(in: 1...3, using: &random)
            if together > 1, at + together <= units.count {
                let head: [UInt8] = standard == .h264 ? [0x78] : [0x60, 1]
                payloads.append(head + units[at..<at + together].flatMap { [UInt8($0.count >> 8), UInt8($0.count & 0xFF)] + $0 })
                at += together
                continue
            }
            let unit = units[at]
            at += 1
            let headBytes = standard == .h264 ? 1 : 2
            if unit.count > 8, Bool.random(using: &random) {
                let parts = random.cut(unit.dropFirst(headBytes), most: (unit.count - headBytes) / 2)
                for (place, part) in parts.enumerated() {
                    let edge: UInt8 = (place == 0 ? 0x80 : 0) | (place == parts.count - 1 ? 0x40 : 0)
                    switch standard {
                    case .h264: payloads.append([unit[0] & 0xE0 | 28, edge | unit[0] & 0x1F] + part)
                    case .h265: payloads.append([unit[0] & 0x81 | 49 << 1, unit[1], edge | unit[0] >> 1 & 0x3F] + part)
                    }
                }
            } else {
                payloads.append(unit)
            }
        }
        return payloads
    }

    func send(_ pictures: Int, _ random: inout Seeded) -> SentStream {
        var stream = SentStream()
        var reference: Int?
        for place in 0..<pictures {
            let isKey = place % keyEvery == 0
            let isDisposable = hasDisposable && !isKey && place % 2 == 0
            let type = standard == .h264 ? (isKey ? 5 : 1) : (isKey ? 19 : 1)
            let slices = (0..<Int.random(in: 1...3, using: &random)).map { slice($0, type: type, isDisposable: isDisposable, &random) }
            let delimiter: [UInt8] = standard == .h264 ? [9, 0xF0] : [35 << 1, 1, 0x50]
            let filler: [UInt8] = standard == .h264 ? [12, 0xFF, 0x80] : [38 << 1, 1, 0xFF, 0x80]
            let kept = (isKey && hasSetsInBand ? sets : []) + slices
            stream.units.append(SentUnit(bytes: Self.annexB(isKey ? sets + slices : slices), timestamp: Int64(place) * 3_000, needs: isKey ? [] : [reference!], isKey: isKey))
            stream.send(packets([delimiter] + kept + [filler], &random), at: Int64(place) * 3_000)
            if !isDisposable { reference = stream.units.count - 1 }
        }
        return stream
    }

    func assembler() -> any VideoAssembler {
        let base64 = sets.map { Data($0).base64EncodedString() }
        switch standard {
        case .h264:
            let parameters = "packetization-mode=1; sprop-parameter-sets=\(base64.joined(separator: ","))"
            return VideoFormats.assembler(for: Codec(name: "H264", clockRate: 90_000), parameters: hasSetsInBand ? nil : parameters)!
        case .h265:
            let parameters = "sprop-vps=\(base64[0]);sprop-sps=\(base64[1]); sprop-pps=\(base64[2])"
            return VideoFormats.assembler(for: Codec(name: "H265", clockRate: 90_000), parameters: hasSetsInBand ? nil : parameters)!
        }
    }
}

@Suite("H.264 and H.265")
struct NALFormatTests {
    private func push(_ assembler: inout some VideoAssembler, _ payload: [UInt8], _ time: Int64, marker: Bool = true, contiguous: Bool = true) -> VideoFrame? {
        payload.withUnsafeBytes { assembler.push($0, timestamp: time, marker: marker, isContiguous: contiguous) }.last
    }

    private static func size(_ unit: NALUnit?) -> PictureSize? {
        guard case .parameterSet(let set) = unit else { return nil }
        return set.size
    }

    @Test("a sequence parameter set says the size after cropping: progressive, with fields and 4:2:2, baseline, H.265")
    func sequenceSets() {
        let fields = NALSender.hex("677a001ebcd940d87bcd58088000000300800000190f8a14cb")
        let baseline = NALSender.hex("6742c00dd90141fb011000000300100000030320f142a480")
        #expect(Self.size(NALSender.h264Sets[0].withUnsafeBytes { H264Syntax.unit($0) }) == PictureSize(width: 854, height: 478))
        #expect(Self.size(fields.withUnsafeBytes { H264Syntax.unit($0) }) == PictureSize(width: 854, height: 478))
        #expect(Self.size(baseline.withUnsafeBytes { H264Syntax.unit($0) }) == PictureSize(width: 320, height: 240))
        #expect(Self.size(NALSender.h265Sets[1].withUnsafeBytes { H265Syntax.unit($0) }) == PictureSize(width: 854, height: 478))
        for cut in 0..<9 { #expect(Array(fields.prefix(cut)).withUnsafeBytes { H264Syntax.unit($0) } == nil) }
        for cut in 0..<24 { #expect(Array(NALSender.h265Sets[1].prefix(cut)).withUnsafeBytes { H265Syntax.unit($0) } == nil) }
    }

    @Test("an exponential number longer than 32 bits, or cut off, is none")
    func exponential() {
        for bytes in [[UInt8](repeating: 0, count: 40), [0, 0, 0, 0, 0x80], [0x01]] as [[UInt8]] {
            bytes.withUnsafeBytes {
                var reader = BitReader($0)
                _ = reader.exponential()
                #expect(reader.isExhausted)
            }
        }
        ([0xA6, 0x42, 0x98, 0xE2, 0x04, 0x8A] as [UInt8]).withUnsafeBytes {
            var reader = BitReader($0)
            #expect((0..<9).map { _ in reader.exponential() } == [0, 1, 2, 3, 4, 5, 6, 7, 8])
        }
    }

    static let senders: [NALSender] = [
        NALSender(), NALSender(hasSetsInBand: false), NALSender(hasDisposable: true), NALSender(standard: .h265), NALSender(standard: .h265, hasSetsInBand: false),
    ]

    @Test("each access unit comes out with start codes, key ones with their parameter sets, without delimiters and filler", arguments: 0..<senders.count)
    func whole(sender: Int) {
        var random = Seeded(UInt64(sender))
        let stream = Self.senders[sender].send(60, &random)
        var assembler = Self.senders[sender].assembler()
        let frames = receive(stream, &assembler, [])
        #expect(frames.map(\.bytes) == stream.units.map(\.bytes))
        #expect(frames.map(\.isKey) == stream.units.map(\.isKey))
        #expect(frames.filter(\.isKey).allSatisfy { $0.width == 854 && $0.height == 478 })
    }

    @Test("whatever is lost, each access unit that comes out was sent, and all it needs came out before it", arguments: 0..<senders.count)
    func property(sender: Int) {
        var random = Seeded(UInt64(sender))
        var stream = Self.senders[sender].send(80, &random)
        stream.pad(&random)
        for lost in losses(stream.packets.count, &random) {
            var assembler = Self.senders[sender].assembler()
            _ = stream.check(receive(stream, &assembler, lost), "sender \(sender), lost \(lost.sorted())")
        }
    }

    private func receive(_ stream: SentStream, _ assembler: inout any VideoAssembler, _ lost: Set<Int>) -> [VideoFrame] {
        func open(_ assembler: inout some VideoAssembler) -> [VideoFrame] { stream.receive(&assembler, losing: lost) }
        return open(&assembler)
    }

    @Test("a key picture whose parameter sets are not known is none")
    func unknownSets() {
        var random = Seeded(1)
        let sender = NALSender()
        let key = sender.slice(0, type: 5, &random)
        var assembler = NALAssembler<H264Syntax>()
        #expect(push(&assembler, key, 0) == nil)
        #expect(assembler.needsKey)
        // They may come by themselves, with a time stamp of their own.
        for set in sender.sets { #expect(push(&assembler, set, 1) == nil) }
        #expect(push(&assembler, key, 2)?.bytes == NALSender.annexB(sender.sets + [key]))
        #expect(assembler.dropped == 0)
    }

    @Test("a key picture after a gap, without the sets that its sender puts in front of each, may need new ones")
    func lostSets() {
        var random = Seeded(1)
        let sender = NALSender()
        let key = sender.slice(0, type: 5, &random)
        var assembler = NALAssembler<H264Syntax>()
        for set in sender.sets { _ = push(&assembler, set, 0, marker: false) }
        #expect(push(&assembler, key, 0) != nil)
        #expect(push(&assembler, key, 1, contiguous: false) == nil)
        for set in sender.sets { _ = push(&assembler, set, 2, marker: false) }
        #expect(push(&assembler, key, 2) != nil)
    }

    @Test("new sets give a new size")
    func newSize() {
        var random = Seeded(1)
        let sender = NALSender()
        var assembler = NALAssembler<H264Syntax>()
        var widths: [Int?] = []
        for sets in [sender.sets, ["6742c00dd90141fb011000000300100000030320f142a480", "68cb83cb20"].map(NALSender.hex), sender.sets] {
            let time = Int64(widths.count)
            for set in sets { _ = push(&assembler, set, time, marker: false) }
            widths.append(push(&assembler, sender.slice(0, type: 5, &random), time)?.width)
        }
        #expect(widths == [854, 320, 854])
    }

    @Test("after a loss decoding may begin at a recovery point with count 0 and I slices, without the B pictures behind it")
    func recoveryPoint() {
        var random = Seeded(1)
        let sender = NALSender(hasSetsInBand: false)
        var assembler = NALAssembler<H264Syntax>(sprop: sender.sets.map { Data($0).base64EncodedString() })
        let (p, b, i) = (sender.slice(0, type: 1, &random), sender.slice(0, type: 1, isBipredictive: true, &random), sender.slice(0, type: 1, isIntra: true, &random))
        let now: [UInt8] = [6, 6, 1, 0xC4, 0x80]  // recovery_frame_cnt 0
        let later: [UInt8] = [6, 0x05, 2, 3, 3, 6, 1, 0x5C, 0x80]  // after another message; recovery_frame_cnt 1
        func unit(_ parts: [[UInt8]], _ time: Int64) -> VideoFrame? {
            parts.enumerated().map { push(&assembler, $1, time, marker: $0 == parts.count - 1) }.last ?? nil
        }
        #expect(unit([i], 0) == nil)
        #expect(unit([later, i], 1) == nil)
        #expect(unit([now, p], 2) == nil)
        #expect(unit([now, i], 3)?.isKey == true)
        #expect(unit([b], 4) == nil)
        #expect(unit([p], 5)?.isKey == false)
        #expect(unit([b], 6) != nil)
        #expect(unit([now, i], 7)?.isKey == false, "B pictures behind it may need what came before")
        #expect(unit([b], 8) != nil)
    }

    @Test("decoding may begin at a clean random access picture of H.265, without its leading pictures that need what came before")
    func cleanRandomAccess() {
        var random = Seeded(1)
        let sender = NALSender(standard: .h265, hasSetsInBand: false)
        var assembler = sender.assembler() as! NALAssembler<H265Syntax>
        func unit(_ type: Int, _ time: Int64, contiguous: Bool = true) -> VideoFrame? { push(&assembler, sender.slice(0, type: type, &random), time, contiguous: contiguous) }
        #expect(unit(21, 0)?.isKey == true)
        #expect(unit(9, 1) == nil)
        #expect(unit(7, 2) != nil)
        #expect(unit(1, 3) != nil)
        #expect(unit(21, 4)?.isKey == true)
        #expect(unit(9, 5) != nil)
        #expect(unit(16, 6) != nil)
        #expect(unit(9, 7) == nil, "a broken link says that they cannot be decoded")
        #expect(unit(1, 8, contiguous: false) == nil)
        #expect(unit(21, 9) != nil)
        #expect(unit(8, 10) == nil)
    }

    @Test("what the payload formats forbid is counted, and what was being put together is void", arguments: [
        [25, 0, 1, 0, 2, 0x65, 0x88], [26, 0, 1, 0, 4, 0, 0, 0, 0x65], [29, 0x85, 0, 1, 0x88], [30, 1], [0, 1], [24, 0, 9, 0x65], [24, 0, 0, 1], [28, 0x9C, 1], [28, 0x85], [28, 0x05, 1],
    ] as [[UInt8]])
    func forbidden(payload: [UInt8]) {
        var random = Seeded(1)
        let sender = NALSender(hasSetsInBand: false)
        var assembler = NALAssembler<H264Syntax>(sprop: sender.sets.map { Data($0).base64EncodedString() })
        #expect(push(&assembler, sender.slice(0, type: 5, &random), 0) != nil)
        #expect(push(&assembler, payload, 1, marker: false) == nil)
        #expect(push(&assembler, sender.slice(1, type: 1, &random), 1) == nil)
        #expect(assembler.malformed == 1)
        #expect(assembler.needsKey)
    }

    @Test("the begin of a key picture is seen in each kind of packet")
    func beginsKeyFrame() {
        let h264 = Codec(name: "H264", clockRate: 90_000)
        let h265 = Codec(name: "H265", clockRate: 90_000)
        func begins(_ codec: Codec, _ payload: [UInt8]) -> Bool { payload.withUnsafeBytes { VideoFormats.beginsKeyFrame($0, codec: codec) } }
        for key in [[0x65, 0x88], [0x67, 1], [0x78, 0, 1, 9, 0, 1, 0x67], [0x7C, 0x85, 1]] as [[UInt8]] { #expect(begins(h264, key)) }
        for other in [[0x61, 0x88], [0x68, 1], [0x78, 0, 1, 0x61], [0x7C, 0x05, 1], [0x7C, 0x81, 1], []] as [[UInt8]] { #expect(!begins(h264, other)) }
        for key in [[0x26, 1, 1], [0x40, 1, 1], [0x60, 1, 0, 2, 0x42, 1], [0x62, 1, 0x93, 1]] as [[UInt8]] { #expect(begins(h265, key)) }
        for other in [[0x02, 1, 1], [0x44, 1, 1], [0x62, 1, 0x13, 1], [0x64, 1, 1, 1]] as [[UInt8]] { #expect(!begins(h265, other)) }
        #expect(begins(.vp8, [0x90, 0x80, 1, 0x10]))
        #expect(!begins(.vp8, [0x90, 0x80, 1, 0x11]))
        #expect(!begins(.vp8, [0x80, 0x80, 1, 0x10]))
        let vp9 = Codec(name: "VP9", clockRate: 90_000)
        #expect(begins(vp9, [0x88, 1] + VP9Sender.header(isKey: true)))
        #expect(!begins(vp9, [0xC8, 1] + VP9Sender.header(isKey: false) + [0]))
        let av1 = Codec(name: "AV1", clockRate: 90_000)
        #expect(begins(av1, [0x18, 0x08, 0]))
        #expect(begins(av1, [0x10, 0x08, 0]))
        #expect(!begins(av1, [0x10, 0x30, 0]))
        #expect(!begins(av1, [0x90, 0x08, 0]))
    }

    @Test("interleaved units are not known; neither is any other codec")
    func unknown() {
        #expect(VideoFormats.assembler(for: Codec(name: "H264", clockRate: 90_000), parameters: "profile-level-id=42e01f;packetization-mode=2") == nil)
        #expect(VideoFormats.assembler(for: Codec(name: "H265", clockRate: 90_000), parameters: "sprop-max-don-diff=2") == nil)
        #expect(VideoFormats.assembler(for: Codec(name: "H266", clockRate: 90_000), parameters: nil) == nil)
    }

    @Test("a sender that marks each slice is understood from its second key picture on")
    func markedSlices() {
        var random = Seeded(1)
        let sender = NALSender(hasSetsInBand: false)
        var assembler = NALAssembler<H264Syntax>(sprop: sender.sets.map { Data($0).base64EncodedString() })
        var frames: [VideoFrame] = []
        var sent: [[UInt8]] = []
        for time in 0..<6 as Range<Int64> {
            let slices = (0..<2).map { sender.slice($0, type: time % 3 == 0 ? 5 : 1, &random) }
            sent.append(NALSender.annexB((time % 3 == 0 ? sender.sets : []) + slices))
            for slice in slices { frames += slice.withUnsafeBytes { assembler.push($0, timestamp: time, marker: true, isContiguous: true) } }
        }
        #expect(frames.dropFirst().map(\.bytes) == Array(sent[3..<5]))
        #expect(assembler.finish().map(\.bytes) == [sent[5]])
    }
}
