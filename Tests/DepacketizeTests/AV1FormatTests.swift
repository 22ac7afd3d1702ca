@testable import Depacketize
import Media
import TestSupport
import Testing

/// Sends AV1 (RTP payload format for AV1, version 1.0): OBUs with and without sizes, cut anywhere.
struct AV1Sender {
    var keyEvery = 25
    /// Three temporal layers with dependency descriptors.
    var hasDescriptors = false

    /// Of libaom, 854x478.
    static let sequence = NALSender.hex("20000024c6abdd36be48086801")
    static let sequenceSize = PictureSize(width: 854, height: 478)

    static func length(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        AV1Syntax.append(length: count, to: &bytes)
        return bytes
    }

    /// A whole OBU; `layer` is an extension header.
    static func unit(_ type: UInt8, _ payload: [UInt8], hasSize: Bool, layer: UInt8? = nil) -> [UInt8] {
        [type << 3 | (layer == nil ? 0 : 4) | (hasSize ? 2 : 0)] + (layer.map { [$0] } ?? []) + (hasSize ? length(payload.count) : []) + payload
    }

    /// Elements to packets: each holds up to four of them; an OBU may go on in the next packet.
    static func packets(_ units: [[UInt8]], isNew: Bool, _ random: inout Seeded) -> [[UInt8]] {
        // What a packet holds, and whether its last element goes on.
        var packets: [(elements: [[UInt8]], goesOn: Bool)] = [([], false)]
        for unit in units {
            if packets[packets.count - 1].elements.count >= 4 || packets[packets.count - 1].elements.count > 0 && Bool.random(using: &random) { packets.append(([], false)) }
            let parts = Bool.random(using: &random) ? [unit] : random.cut(unit, most: 30)
            for (place, part) in parts.enumerated() {
                packets[packets.count - 1].elements.append(part)
                guard place < parts.count - 1 else { continue }
                packets[packets.count - 1].goesOn = true
                packets.append(([], false))
            }
        }
        return packets.enumerated().map { place, packet in
            let isContinued = place > 0 && packets[place - 1].goesOn
            let count = packet.elements.count <= 3 && Bool.random(using: &random) ? packet.elements.count : 0
            var payload: [UInt8] = [(isContinued ? 0x80 : 0) | (packet.goesOn ? 0x40 : 0) | UInt8(count << 4) | (isNew && place == 0 ? 0x08 : 0)]
            for (number, element) in packet.elements.enumerated() {
                payload += (count > 0 && number == count - 1 ? [] : length(element.count)) + element
            }
            return payload
        }
    }

    /// Pattern 0 2 1 2: what the picture at this place after a key picture needs, as distances.
    static func references(_ place: Int) -> [Int] { place == 0 ? [] : [[4], [1], [2], [1, 3]][place % 4] }

    static func descriptor(_ number: Int, ofKey place: Int, isFirst: Bool, isLast: Bool, _ random: inout Seeded) -> [UInt8] {
        let templates: [(layer: Int, references: [Int])] = [(0, []), (0, [4]), (1, [2]), (2, [1]), (2, [1, 3])]
        let needed = references(place)
        let template = templates.firstIndex { $0.references == needed }!
        var writer = BitWriter()
        for (value, count) in [(isFirst ? 1 : 0, 1), (isLast ? 1 : 0, 1), ((62 + template) % 64, 6), (number + 65_500, 16)] { writer.put(value & (1 << count - 1), count) }
        let hasStructure = place == 0 && isFirst
        let isCustom = Bool.random(using: &random)
        guard hasStructure || isCustom else { return writer.bytes }
        for flag in [hasStructure, isCustom, isCustom, isCustom, false] { writer.put(flag ? 1 : 0, 1) }
        if hasStructure {
            writer.put(62, 6)
            writer.put(2, 5)  // three decode targets
            for next in [0, 1, 1, 0, 3] { writer.put(next, 2) }
            for _ in 0..<templates.count * 3 { writer.put(2, 2) }
            for template in templates {
                for reference in template.references { writer.put(0x10 | reference - 1, 5) }
                writer.put(0, 1)
            }
            writer.put(1, 2)  // one chain: ns(4), then ns(1) three times without a bit
            for _ in templates { writer.put(4, 4) }
            writer.put(1, 1)
            writer.put(854 - 1, 16)
            writer.put(478 - 1, 16)
        }
        if isCustom {
            writer.put(7, 3)
            for _ in 0..<3 { writer.put(1, 2) }
            for reference in needed {
                let size = Int.random(in: 1...3, using: &random)
                writer.put(size, 2)
                writer.put(reference - 1, 4 * size)
            }
            writer.put(0, 2)
        }
        return writer.bytes
    }

    func send(_ pictures: Int, _ random: inout Seeded) -> SentStream {
        var stream = SentStream()
        for place in 0..<pictures {
            let isKey = place % keyEvery == 0
            var expected: [UInt8] = []
            var units: [[UInt8]] = []
            func add(_ type: UInt8, _ payload: [UInt8], isKept: Bool = true, layer: UInt8? = nil) {
                units.append(Self.unit(type, payload, hasSize: Bool.random(using: &random), layer: layer))
                if isKept { expected += Self.unit(type, payload, hasSize: true, layer: layer) }
            }
            if Bool.random(using: &random) { add(2, [], isKept: false) }
            if isKey { add(1, Self.sequence) }
            if Bool.random(using: &random) { add(5, random.body(9)) }
            add(6, [isKey ? 0x10 : 0x30] + random.body(Int.random(in: 4...200, using: &random)), layer: Bool.random(using: &random) ? 0x20 : nil)
            if Bool.random(using: &random) { add(15, [1, 2, 3], isKept: false) }
            let references = hasDescriptors ? Self.references(place % keyEvery) : isKey ? [] : [1]
            stream.units.append(SentUnit(bytes: expected, timestamp: Int64(place) * 3_000, needs: references.map { place - $0 }, isKey: isKey))
            let payloads = Self.packets(units, isNew: isKey, &random)
            stream.send(payloads, at: Int64(place) * 3_000)
            guard hasDescriptors else { continue }
            for part in payloads.indices {
                stream.packets[stream.packets.count - payloads.count + part].dependencies = Self.descriptor(
                    place, ofKey: place % keyEvery, isFirst: part == 0, isLast: part == payloads.count - 1, &random)
            }
        }
        return stream
    }
}

@Suite("AV1")
struct AV1FormatTests {
    private func push(_ assembler: inout AV1Assembler, _ payload: [UInt8], _ time: Int64, marker: Bool = true, contiguous: Bool = true) -> VideoFrame? {
        payload.withUnsafeBytes { assembler.push($0, timestamp: time, marker: marker, isContiguous: contiguous) }.last
    }

    @Test("a sequence header says the largest size (AV1 bitstream specification section 5.5)")
    func sequenceHeader() {
        #expect(AV1Sender.sequence.withUnsafeBytes { AV1SequenceHeader($0) }?.size == AV1Sender.sequenceSize)
        for cut in 0..<7 { #expect(Array(AV1Sender.sequence.prefix(cut)).withUnsafeBytes { AV1SequenceHeader($0) } == nil) }
        // With timing, decoder model and two operating points.
        var writer = BitWriter()
        for (value, count) in [(0, 3), (0, 2), (1, 1), (1, 32), (30, 32), (1, 1), (1, 1), (1, 1), (9, 5), (1, 32), (9, 5), (9, 5), (1, 1), (1, 5)] { writer.put(value, count) }
        for (value, count) in [(0x101, 12), (8, 5), (1, 1), (1, 1), (5, 10), (5, 10), (0, 1), (1, 1), (3, 4)] { writer.put(value, count) }
        for (value, count) in [(0x100, 12), (7, 5), (0, 1), (0, 1), (10, 4), (9, 4), (1_919, 11), (1_023, 10)] { writer.put(value, count) }
        #expect(writer.bytes.withUnsafeBytes { AV1SequenceHeader($0) }?.size == PictureSize(width: 1_920, height: 1_024))
    }

    @Test("a temporal unit comes out as OBUs with sizes, without delimiter and padding")
    func whole() {
        var random = Seeded(1)
        let stream = AV1Sender().send(100, &random)
        var assembler = AV1Assembler()
        let frames = stream.receive(&assembler)
        #expect(frames.map(\.bytes) == stream.units.map(\.bytes))
        #expect(frames.map(\.isKey) == stream.units.map(\.isKey))
        #expect(frames[0].width == 854)
        #expect((assembler.dropped, assembler.malformed) == (0, 0))
    }

    @Test("whatever is lost, each temporal unit that comes out was sent, and all it needs came out before it", arguments: 0..<4 as Range<UInt64>, [false, true])
    func property(seed: UInt64, hasDescriptors: Bool) {
        var random = Seeded(seed)
        var stream = AV1Sender(hasDescriptors: hasDescriptors).send(80, &random)
        stream.pad(&random)
        for lost in losses(stream.packets.count, &random) {
            var assembler = AV1Assembler()
            _ = stream.check(stream.receive(&assembler, losing: lost), "seed \(seed), lost \(lost.sorted())")
        }
    }

    @Test("with dependency descriptors the base layer outlives any loss above it, and all that needs nothing lost comes out")
    func layers() {
        var random = Seeded(1)
        let stream = AV1Sender(keyEvery: 1_000, hasDescriptors: true).send(200, &random)
        let times = stream.packets.map(\.timestamp)
        for time in Set(times) where time % 12_000 != 0 {  // not of layer 0
            var assembler = AV1Assembler()
            let given = stream.check(stream.receive(&assembler, losing: [times.firstIndex(of: time)!]), "lost the begin of \(time)")
            #expect(given.count == (time % 12_000 == 6_000 ? 198 : 199))
            #expect(!stride(from: 0, to: 200, by: 4).contains { !given.contains($0) })
        }
    }

    @Test("a descriptor is read with its structure, or not at all")
    func descriptor() {
        var random = Seeded(3)
        var structure: DependencyStructure?
        let first = AV1Sender.descriptor(0, ofKey: 0, isFirst: true, isLast: false, &random)
        let second = AV1Sender.descriptor(3, ofKey: 3, isFirst: true, isLast: false, &random)
        #expect(second.withUnsafeBytes { DependencyDescriptor($0, structure: &structure) } == nil)
        let key = first.withUnsafeBytes { DependencyDescriptor($0, structure: &structure) }
        #expect(key?.frameNumber == 65_500)
        #expect(key?.references == [])
        #expect(structure?.templates.map(\.temporal) == [0, 0, 1, 2, 2])
        #expect(structure?.templates.map(\.references) == [[], [4], [2], [1], [1, 3]])
        let later = second.withUnsafeBytes { DependencyDescriptor($0, structure: &structure) }
        #expect(later?.references == [1, 3])
        #expect(later?.temporalLayer == 2)
        for _ in 0..<20_000 {
            _ = random.bytes(Int.random(in: 0...40, using: &random)).withUnsafeBytes { DependencyDescriptor($0, structure: &structure) }
        }
    }

    @Test("a key frame without its sequence header is no place to begin, nor is one that is not shown or shown again")
    func noKey() {
        var assembler = AV1Assembler()
        let sequence: [UInt8] = [UInt8(AV1Sender.sequence.count + 1), 0x08] + AV1Sender.sequence
        #expect(push(&assembler, [0x18, 0x30, 0x10, 1], 0) == nil)
        for head in [0x00, 0x80, 0x30] as [UInt8] { #expect(push(&assembler, [0x28] + sequence + [0x30, head, 1], 1) == nil) }
        #expect(push(&assembler, [0x28] + sequence + [0x30, 0x10, 1], 2)?.isKey == true)
        #expect(push(&assembler, [0x18, 0x30, 0x10, 1], 3)?.isKey == false)
    }

    @Test("what the payload format forbids is counted, and what was being put together is void", arguments: [
        [0x00, 5, 0x30, 1], [0x20, 1, 0x30], [0x10], [0x00, 0], [0x10, 0xB0, 1], [0x10, 0x32, 9, 1], [0x80, 2, 0x30, 1], [0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x30],
    ] as [[UInt8]])
    func forbidden(payload: [UInt8]) {
        var assembler = AV1Assembler()
        #expect(push(&assembler, [0x28, UInt8(AV1Sender.sequence.count + 1), 0x08] + AV1Sender.sequence + [0x30, 0x10, 1], 0) != nil)
        #expect(push(&assembler, payload, 1, marker: false) == nil)
        #expect(push(&assembler, [0x10, 0x30, 0x30, 1], 1) == nil)
        #expect(assembler.malformed == 1)
        #expect(assembler.needsKey)
    }
}
