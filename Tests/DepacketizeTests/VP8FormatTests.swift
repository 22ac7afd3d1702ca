@testable import Depacketize
import Media
import TestSupport
import Testing

/// Sends VP8 (RFC 7741) with temporal layers.
struct VP8Sender {
    var layers = 1
    var hasIDs = true
    var pictureIDBits = 15
    /// Nothing needs the pictures of the top layer.
    var topIsNonReference = false
    var keyEvery = 40

    static func frame(isKey: Bool, _ random: inout Seeded) -> [UInt8] {
        let tag: [UInt8] = isKey ? [0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0] : [0x11, 0, 0]
        return tag + random.body(Int.random(in: 8...60, using: &random))
    }

    func send(_ pictures: Int, _ random: inout Seeded) -> SentStream {
        var stream = SentStream()
        let pattern = [[0], [0, 1], [0, 2, 1, 2]][layers - 1]
        var lastOf = [Int?](repeating: nil, count: 3)
        var pictureID = 1 << pictureIDBits - 20
        var baseIndex = 250
        for place in 0..<pictures {
            let isKey = place % keyEvery == 0
            let layer = pattern[place % keyEvery % pattern.count]
            if isKey { lastOf = [nil, nil, nil] }
            let isTop = layers > 1 && layer == layers - 1
            let isNonReference = topIsNonReference && isTop
            let isSync = layer > 0 && (lastOf[1...layer].allSatisfy { $0 == nil } || Int.random(in: 0..<4, using: &random) == 0)
            let needs = isKey ? [] : isSync ? [lastOf[0]!] : lastOf[0...layer].compactMap { $0 }
            let bytes = Self.frame(isKey: isKey, &random)
            let time = Int64(place) * 3_000
            stream.units.append(SentUnit(bytes: bytes, timestamp: time, needs: needs, isKey: isKey))
            if layer == 0 { baseIndex += 1 }
            pictureID += 1
            var descriptor: [UInt8] = []
            if hasIDs {
                descriptor = [layers > 1 ? 0xE0 : 0x80]
                let id = pictureID & (1 << pictureIDBits - 1)
                descriptor += pictureIDBits == 15 ? [0x80 | UInt8(id >> 8), UInt8(id & 0xFF)] : [UInt8(id)]
                if layers > 1 { descriptor += [UInt8(baseIndex & 0xFF), UInt8(layer << 6 | (isSync ? 0x20 : 0))] }
            }
            let flags: UInt8 = (hasIDs ? 0x80 : 0) | (isNonReference ? 0x20 : 0)
            stream.send(random.cut(bytes, most: 40).enumerated().map { [flags | ($0 == 0 ? 0x10 : 0)] + descriptor + $1 }, at: time)
            if !isNonReference { lastOf[layer] = stream.units.count - 1 }
        }
        return stream
    }
}

@Suite("VP8")
struct VP8FormatTests {
    /// A key frame of 320x240 (RFC 6386 section 9.1) and what follows one.
    static let key: [UInt8] = [0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0, 9, 9]
    static let delta: [UInt8] = [0x11, 0, 0, 5, 5]

    private func push(_ assembler: inout VP8Assembler, _ payload: [UInt8], _ time: Int64, marker: Bool = true, contiguous: Bool = true) -> VideoFrame? {
        payload.withUnsafeBytes { assembler.push($0, timestamp: time, marker: marker, isContiguous: contiguous) }.last
    }

    @Test("a frame comes out when its last packet is there, whole and with its size")
    func frame() {
        var assembler = VP8Assembler()
        #expect(push(&assembler, [0x10] + Self.key.prefix(6), 0, marker: false) == nil)
        #expect(push(&assembler, [0x00] + Self.key.dropFirst(6), 0) == VideoFrame(bytes: Self.key, timestamp: 0, isKey: true, width: 320, height: 240))
        #expect(!assembler.needsKey)
    }

    @Test("the extended descriptor is skipped to the byte (RFC 7741 section 4.2)")
    func descriptor() {
        let all: [UInt8] = [0xB0, 0xF0, 0x81, 0x02, 7, 0x60] + Self.key
        let found = all.withUnsafeBytes { VP8Descriptor($0) }
        #expect(found?.start == 6)
        #expect(found?.pictureID == 0x102)
        #expect(found?.baseIndex == 7)
        #expect(found?.temporalLayer == 1)
        #expect(found?.isLayerSync == true)
        #expect(found?.isNonReference == true)
        for cut in 0...6 { #expect(Array(all.prefix(cut)).withUnsafeBytes { VP8Descriptor($0) } == nil) }
    }

    @Test("a frame without its marker is ended by the next one in direct succession, and by nothing else")
    func noMarker() {
        var assembler = VP8Assembler()
        func bytes(_ payload: [UInt8], _ time: Int64, contiguous: Bool = true) -> [[UInt8]] {
            payload.withUnsafeBytes { assembler.push($0, timestamp: time, marker: false, isContiguous: contiguous) }.map(\.bytes)
        }
        #expect(bytes([0x10] + Self.key, 0) == [])
        #expect(bytes([0x10] + Self.delta, 1) == [Self.key])
        #expect(bytes([0x10] + Self.delta, 2, contiguous: false) == [])
        #expect(assembler.dropped == 1)
        #expect(assembler.finish() == [])
    }

    @Test("without ids nothing comes out after a loss until the next key frame, which says so")
    func loss() {
        var assembler = VP8Assembler()
        #expect(push(&assembler, [0x10] + Self.delta, 0) == nil)
        #expect(push(&assembler, [0x10] + Self.key, 1)?.followsLoss == false)
        #expect(push(&assembler, [0x10] + Self.delta, 2) != nil)
        #expect(push(&assembler, [0x10] + Self.delta, 4, contiguous: false) == nil)
        #expect(assembler.needsKey)
        #expect(push(&assembler, [0x10] + Self.delta, 5) == nil)
        #expect(push(&assembler, [0x10] + Self.key, 6)?.followsLoss == true)
        #expect(assembler.dropped == 2)
    }

    @Test("a gap between pictures with ids in succession has lost nothing but padding, across the wrap too", arguments: [(0x7F, 0x00), (0x10, 0x11)] as [(UInt8, UInt8)])
    func padding(first: UInt8, second: UInt8) {
        var assembler = VP8Assembler()
        #expect(push(&assembler, [0x90, 0x80, first] + Self.key, 0) != nil)
        #expect(push(&assembler, [0x90, 0x80, second] + Self.delta, 3_000, contiguous: false)?.followsLoss == false)
        #expect(push(&assembler, [0x90, 0x80, second &+ 2] + Self.delta, 6_000, contiguous: false) == nil)
    }

    @Test("a first partition longer than the frame, or a wrong start code, is no frame", arguments: [[0x11, 0xFF, 0, 5, 5], [0x10, 0, 0, 0x9D, 1, 0x2B, 0x40, 1, 0xF0, 0, 9, 9], [0x11]] as [[UInt8]])
    func wrong(frame: [UInt8]) {
        var assembler = VP8Assembler()
        _ = push(&assembler, [0x10] + Self.key, 0)
        #expect(push(&assembler, [0x10] + frame, 1) == nil)
        #expect(assembler.malformed == 1)
        #expect(assembler.needsKey)
    }

    static let senders: [VP8Sender] = [
        VP8Sender(hasIDs: false), VP8Sender(), VP8Sender(pictureIDBits: 7), VP8Sender(layers: 2), VP8Sender(layers: 3), VP8Sender(layers: 3, pictureIDBits: 7),
        VP8Sender(layers: 2, topIsNonReference: true), VP8Sender(layers: 3, topIsNonReference: true),
    ]

    @Test("whatever is lost, each frame that comes out was sent, and all it needs came out before it", arguments: 0..<senders.count)
    func property(sender: Int) {
        var random = Seeded(UInt64(sender))
        var stream = Self.senders[sender].send(120, &random)
        stream.pad(&random)
        for lost in losses(stream.packets.count, &random) {
            var assembler = VP8Assembler()
            let given = stream.check(stream.receive(&assembler, losing: lost), "sender \(sender), lost \(lost.sorted())")
            if lost.isEmpty { #expect(given.count == stream.units.count) }
        }
    }

    @Test("the base layer outlives any loss above it, and the upper layers come back at their sync")
    func layers() {
        var random = Seeded(1)
        let stream = VP8Sender(layers: 3, keyEvery: 1_000).send(400, &random)
        let times = stream.packets.map(\.timestamp)
        for time in Set(times) where time % 12_000 != 0 {  // not of layer 0
            var assembler = VP8Assembler()
            let given = stream.check(stream.receive(&assembler, losing: Set(times.indices.filter { times[$0] == time })), "lost \(time)")
            #expect(stride(from: 0, to: 400, by: 4).allSatisfy(given.contains))
            #expect(given.count > 360)
        }
    }

    @Test("a torn picture that nothing needs is dropped alone")
    func nonReference() {
        var assembler = VP8Assembler()
        #expect(push(&assembler, [0x90, 0x80, 1] + Self.key, 0) != nil)
        #expect(push(&assembler, [0xB0, 0x80, 2] + Self.delta, 3_000, marker: false) == nil)
        #expect(push(&assembler, [0x90, 0x80, 3] + Self.delta, 6_000, contiguous: false)?.followsLoss == true)
        #expect(assembler.dropped == 1)
    }
}
