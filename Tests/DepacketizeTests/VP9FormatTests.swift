@testable import Depacketize
import Media
import TestSupport
import Testing

/// Sends VP9 (RFC 9628) with spatial and temporal layers.
struct VP9Sender {
    enum References { case none, ids, base, flexible }

    var spatial = 1
    var temporal = 1
    var references = References.base
    var pictureIDBits = 15
    /// Upper layers use the lower ones only in key pictures (K-SVC).
    var isKeyOnly = false
    var keyEvery = 24
    /// The probabilities of a frame build on no earlier one's.
    var isResilient = true

    /// The begin of a frame: key with a size, or one whose size is that of a reference.
    static func header(isKey: Bool, isResilient: Bool = false, width: Int = 320, height: Int = 180) -> [UInt8] {
        var writer = BitWriter()
        if isKey {
            for (value, count) in [(0b10_00_0_0_1_0, 8), (0x498342, 24), (0b001_0, 4), (width - 1, 16), (height - 1, 16)] { writer.put(value, count) }
        } else {
            for (value, count) in [(0b10_00_0_1_1, 7), (isResilient ? 1 : 0, isResilient ? 1 : 3), (1, 8), (0, 12), (1, 1)] { writer.put(value, count) }
        }
        return writer.bytes
    }

    private func be(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }

    func send(_ pictures: Int, _ random: inout Seeded) -> SentStream {
        var stream = SentStream()
        let pattern = [[0], [0, 1], [0, 2, 1, 2]][temporal - 1]
        /// By spatial and temporal layer: picture and unit.
        var lastOf = [[(picture: Int, unit: Int)?]](repeating: [nil, nil, nil], count: 3)
        var baseIndex = 250
        var lastKey: Int?
        for place in 0..<pictures {
            let isKey = place % keyEvery == 0
            let t = pattern[place % keyEvery % pattern.count]
            let isSwitch = isKey || Int.random(in: 0..<4, using: &random) == 0
            if t == 0 { baseIndex += 1 }
            let time = Int64(place) * 3_000
            let id = (place + 1 << pictureIDBits - 20) & (1 << pictureIDBits - 1)
            var payloads: [[UInt8]] = []
            if isKey { lastKey = stream.units.count }
            for s in 0..<spatial {
                if isKey { lastOf[s] = [nil, nil, nil] }
                let isInterLayer = s > 0 && (isKey || !isKeyOnly)
                let earlier = isKey ? [] : lastOf[s][0...t].compactMap { $0 }
                let bytes = Self.header(isKey: isKey && s == 0, isResilient: isResilient, width: 320 << s, height: 180 << s) + random.body(Int.random(in: 8...60, using: &random))
                let unit = stream.units.count
                let all = Array((lastKey ?? unit)..<unit)
                stream.units.append(SentUnit(bytes: bytes, timestamp: time, needs: isResilient ? earlier.map(\.unit) + (isInterLayer ? [unit - 1] : []) : all, isKey: isKey))
                let hasLayers = (spatial > 1 || temporal > 1 || references == .base) && references != .none && references != .ids
                var flags: UInt8 = references == .none ? 0 : 0x80
                if !isKey { flags |= 0x40 }
                if hasLayers { flags |= 0x20 }
                if references == .flexible { flags |= 0x10 }
                var descriptor: [UInt8] = []
                if references != .none { descriptor += pictureIDBits == 15 ? [0x80 | UInt8(id >> 8), UInt8(id & 0xFF)] : [UInt8(id)] }
                if hasLayers { descriptor.append(UInt8(t << 5 | (isSwitch ? 0x10 : 0) | s << 1 | (isInterLayer ? 1 : 0))) }
                if hasLayers, references == .base { descriptor.append(UInt8(baseIndex & 0xFF)) }
                if references == .flexible {
                    for (number, reference) in earlier.enumerated() { descriptor.append(UInt8((place - reference.picture) << 1 | (number < earlier.count - 1 ? 1 : 0))) }
                }
                var structure: [UInt8] = []
                if isKey, s == 0, spatial > 1 {
                    flags |= 0x02
                    structure = [UInt8(spatial - 1) << 5 | 0x18]
                    for layer in 0..<spatial { structure += be(320 << layer) + be(180 << layer) }
                    structure += [2, 0x04, 1, 0x28, 1, 2]
                }
                let parts = random.cut(bytes, most: 40)
                for (number, part) in parts.enumerated() {
                    let edge: UInt8 = (number == 0 ? 0x08 : 0) | (number == parts.count - 1 ? 0x04 : 0)
                    payloads.append([(number == 0 ? flags : flags & ~0x02) | edge] + descriptor + (number == 0 ? structure : []) + part)
                }
                lastOf[s][t] = (place, unit)
                if isSwitch { for upper in (t + 1)..<3 where t < 2 { lastOf[s][upper] = nil } }
            }
            stream.send(payloads, at: time)
        }
        return stream
    }
}

@Suite("VP9")
struct VP9FormatTests {
    private func push(_ assembler: inout VP9Assembler, _ payload: [UInt8], _ time: Int64, marker: Bool = true, contiguous: Bool = true) -> VideoFrame? {
        payload.withUnsafeBytes { assembler.push($0, timestamp: time, marker: marker, isContiguous: contiguous) }.last
    }

    private static func layers(_ frame: VideoFrame) -> [[UInt8]] { VP9Superframe.split(frame.bytes[...]).map(Array.init) }

    @Test("the descriptor is read to the byte, with layers, references and scalability structure (RFC 9628 section 4.2)")
    func descriptor() {
        let flexible: [UInt8] = [0xFA, 0x81, 0x02, 0x73, 0x07, 0x08, 0x38, 0x01, 0x40, 0x00, 0xB4, 0x02, 0x80, 0x01, 0x68, 1, 0x04, 1, 0x86]
        let found = flexible.withUnsafeBytes { VP9Descriptor($0) }
        #expect(found?.start == 18)
        #expect(found?.pictureID == 0x102)
        #expect(found.map { [$0.temporalLayer, $0.spatialLayer] } == [3, 1])
        #expect(found.map { [$0.isSwitchingPoint, $0.isInterLayer, $0.isInterPicture, $0.isFlexible, $0.beginsFrame, $0.endsFrame] } == [true, true, true, true, true, false])
        #expect(found?.references == [3, 4])
        #expect(found?.sizes == [PictureSize(width: 320, height: 180), PictureSize(width: 640, height: 360)])
        for cut in 0...18 { #expect(Array(flexible.prefix(cut)).withUnsafeBytes { VP9Descriptor($0) } == nil) }
        #expect(([0xAC, 0x05, 0x40, 0x09, 0x86] as [UInt8]).withUnsafeBytes { VP9Descriptor($0) }?.baseIndex == 9)
        #expect(([0x50, 0x02, 0x86] as [UInt8]).withUnsafeBytes { VP9Descriptor($0) } == nil, "flexible mode needs picture ids")
    }

    @Test("a key frame says its size (VP9 bitstream specification section 6.2)")
    func header() {
        #expect(VP9Sender.header(isKey: true, width: 854, height: 481).withUnsafeBytes { VP9Header($0) }?.size == PictureSize(width: 854, height: 481))
        #expect((VP9Sender.header(isKey: false) + [0]).withUnsafeBytes { VP9Header($0) } .map { [$0.isKey, $0.size == nil] } == [false, true])
        for cut in 0..<9 { #expect(Array(VP9Sender.header(isKey: true).prefix(cut)).withUnsafeBytes { VP9Header($0) } == nil) }
    }

    @Test("all layers of a picture are one superframe with an index (annex B), which is taken apart again")
    func superframe() {
        let frames: [[UInt8]] = [[0x86, 1], [UInt8](repeating: 5, count: 300), [7]]
        let joined = VP9Superframe.join(frames.map { $0[...] })!
        #expect(joined.suffix(8) == [0xCA, 2, 0, 0x2C, 1, 1, 0, 0xCA])
        #expect(VP9Superframe.split(joined[...]).map(Array.init) == frames)
        #expect(VP9Superframe.join([joined[...], [9]]).map { VP9Superframe.split($0[...]).count } == 4)
        #expect(VP9Superframe.join(Array(repeating: [1], count: 9)) == nil)
        // An index that does not fit is none.
        for cut in 1..<joined.count { _ = VP9Superframe.split(joined[cut...]) }
    }

    @Test("three spatial layers come out together, and the size is that of the highest")
    func spatial() {
        var random = Seeded(3)
        var assembler = VP9Assembler()
        let stream = VP9Sender(spatial: 3, temporal: 1).send(3, &random)
        let frames = stream.receive(&assembler)
        #expect(frames.map { Self.layers($0).count } == [3, 3, 3])
        #expect(frames.map(\.isKey) == [true, false, false])
        #expect(frames[0].width == 1_280)
        #expect(frames[1].width == nil)
    }

    @Test("an upper layer that broke stays away, its size goes with it, and the layers below go on")
    func upperLayer() {
        var random = Seeded(4)
        let stream = VP9Sender(spatial: 2, temporal: 1, keyEvery: 20).send(30, &random)
        // The last packet of the tenth picture's upper layer.
        let lost = stream.packets.lastIndex { $0.timestamp == 30_000 }!
        var assembler = VP9Assembler()
        let frames = stream.receive(&assembler, losing: [lost])
        #expect(frames.map { Self.layers($0).count } == Array(repeating: 2, count: 10) + Array(repeating: 1, count: 10) + Array(repeating: 2, count: 10))
        #expect(frames[10].width == 320)
        #expect(frames[20].width == 640)
        #expect(!assembler.needsKey || frames.count == 30)
        _ = stream.check(frames, split: Self.layers, "upper layer")
    }

    static let senders: [VP9Sender] = [
        VP9Sender(references: .none), VP9Sender(references: .ids), VP9Sender(references: .ids, pictureIDBits: 7), VP9Sender(), VP9Sender(temporal: 2), VP9Sender(temporal: 3),
        VP9Sender(spatial: 2), VP9Sender(spatial: 3, temporal: 3), VP9Sender(spatial: 2, temporal: 2, isKeyOnly: true), VP9Sender(references: .flexible),
        VP9Sender(temporal: 3, references: .flexible), VP9Sender(spatial: 3, temporal: 3, references: .flexible), VP9Sender(spatial: 2, temporal: 3, references: .flexible, pictureIDBits: 7),
        VP9Sender(spatial: 2, temporal: 2, isResilient: false), VP9Sender(spatial: 2, temporal: 2, references: .flexible, isResilient: false), VP9Sender(spatial: 2, isKeyOnly: true, isResilient: false),
    ]

    @Test("whatever is lost, each layer that comes out was sent, and all it needs came out before it", arguments: 0..<senders.count)
    func property(sender: Int) {
        var random = Seeded(UInt64(sender))
        var stream = Self.senders[sender].send(60, &random)
        stream.pad(&random)
        for lost in losses(stream.packets.count, &random) {
            var assembler = VP9Assembler()
            let given = stream.check(stream.receive(&assembler, losing: lost), split: Self.layers, "sender \(sender), lost \(lost.sorted())")
            if lost.isEmpty { #expect(given.count == stream.units.count) }
        }
    }

    @Test("the base layer outlives any loss above it", arguments: [VP9Sender.References.base, .flexible])
    func layers(references: VP9Sender.References) {
        var random = Seeded(1)
        let stream = VP9Sender(temporal: 3, references: references, keyEvery: 1_000).send(200, &random)
        let times = stream.packets.map(\.timestamp)
        for time in Set(times) where time % 12_000 != 0 {  // not of layer 0
            var assembler = VP9Assembler()
            let last = times.lastIndex { $0 == time }!
            let given = stream.check(stream.receive(&assembler, losing: [last]), "lost the end of \(time)")
            #expect(stride(from: 0, to: 200, by: 4).allSatisfy(given.contains))
            #expect(given.count > 150)
        }
    }

    @Test("at the end, layers whose end was seen come out though the marker was not")
    func finish() {
        var assembler = VP9Assembler()
        #expect(push(&assembler, [0xAC, 5, 0x00, 1] + VP9Sender.header(isKey: true) + [1], 0, marker: false) == nil)
        #expect(assembler.finish().map(\.isKey) == [true])
        #expect(assembler.needsKey)
        #expect(push(&assembler, [0xA8, 5, 0x00, 1] + VP9Sender.header(isKey: true) + [1], 0, marker: false) == nil)
        #expect(assembler.finish() == [])
    }
}
