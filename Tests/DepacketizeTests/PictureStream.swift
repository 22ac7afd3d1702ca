@testable import Depacketize
import Media
import TestSupport
import Testing

/// A decodable thing that a test's sender made: a frame, or one spatial layer of a picture.
struct SentUnit {
    var bytes: [UInt8]
    var timestamp: Int64
    /// Places of the units that have to be decoded before it.
    var needs: [Int] = []
    var isKey = false
}

struct SentPacket {
    var timestamp: Int64
    var marker: Bool
    var payload: [UInt8]
    /// The dependency descriptor, where there is one.
    var dependencies: [UInt8] = []
}

/// What a sender sent: units, and the packets they were cut into.
struct SentStream {
    var units: [SentUnit] = []
    var packets: [SentPacket] = []

    mutating func send(_ payloads: [[UInt8]], at timestamp: Int64, marksEnd: Bool = true) {
        for (place, payload) in payloads.enumerated() {
            packets.append(SentPacket(timestamp: timestamp, marker: marksEnd && place == payloads.count - 1, payload: payload))
        }
    }

    /// Empty payloads in between, as a congestion controller sends them to probe.
    mutating func pad(_ random: inout Seeded) {
        var at = 0
        while at < packets.count {
            if Int.random(in: 0..<6, using: &random) == 0 {
                packets.insert(SentPacket(timestamp: packets[at].timestamp, marker: false, payload: []), at: at)
                at += 1
            }
            at += 1
        }
    }

    /// What `assembler` makes of it without the packets in `lost`.
    func receive(_ assembler: inout some VideoAssembler, losing lost: Set<Int> = []) -> [VideoFrame] {
        var frames: [VideoFrame] = []
        var isContiguous = true
        for (place, packet) in packets.enumerated() {
            guard !lost.contains(place) else {
                isContiguous = false
                continue
            }
            if !packet.dependencies.isEmpty { packet.dependencies.withUnsafeBytes { assembler.note(dependencies: $0) } }
            frames += packet.payload.withUnsafeBytes { assembler.push($0, timestamp: packet.timestamp, marker: packet.marker, isContiguous: isContiguous) }
            isContiguous = true
        }
        return frames + assembler.finish()
    }

    /// Checks that each given frame is one that was sent, bit for bit, in order, and that all it needs was given before it.
    /// Gives the places of the units that were given.
    func check(_ frames: [VideoFrame], split: (VideoFrame) -> [[UInt8]] = { [$0.bytes] }, _ comment: Comment) -> Set<Int> {
        var given: Set<Int> = []
        var last = -1
        for frame in frames {
            for bytes in split(frame) {
                guard let place = units.indices[(last + 1)...].first(where: { units[$0].timestamp == frame.timestamp && units[$0].bytes == bytes }) else {
                    Issue.record("a frame that was not sent, or not in this order, at \(frame.timestamp): \(comment)")
                    return given
                }
                if !units[place].needs.allSatisfy(given.contains) { Issue.record("unit \(place) needs \(units[place].needs), which were not all given: \(comment)") }
                given.insert(place)
                last = place
            }
        }
        return given
    }
}

extension Seeded {
    /// Bytes without zeros at risk of being start codes, and whose last one is no superframe's.
    mutating func body(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 4...127, using: &self) } }

    /// Cuts into at least one part of up to `most` bytes.
    mutating func cut(_ bytes: some Collection<UInt8>, most: Int) -> [[UInt8]] {
        var parts: [[UInt8]] = []
        var rest = Array(bytes)[...]
        repeat {
            let count = Swift.min(rest.count, Int.random(in: 1...most, using: &self))
            parts.append(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        } while !rest.isEmpty
        return parts
    }
}

/// Writes a codec's header.
struct BitWriter {
    private(set) var bits: [UInt8] = []

    mutating func put(_ value: Int, _ count: Int) { for i in (0..<count).reversed() { bits.append(UInt8(value >> i & 1)) } }

    /// ue(v), H.264 section 9.1.
    mutating func exponential(_ value: Int) {
        let length = Int.bitWidth - (value + 1).leadingZeroBitCount
        put(0, length - 1)
        put(value + 1, length)
    }

    /// With zeros up to the next byte.
    var bytes: [UInt8] {
        stride(from: 0, to: bits.count, by: 8).map { at in (0..<8).reduce(0) { $0 << 1 | (at + $1 < bits.count ? bits[at + $1] : 0) } }
    }
}

/// All single losses, and many random ones: bursts, and up to a third of all packets.
func losses(_ count: Int, _ random: inout Seeded) -> [Set<Int>] {
    var all: [Set<Int>] = [[]] + (0..<count).map { [$0] }
    for _ in 0..<60 {
        let share = Double.random(in: 0.005...0.3, using: &random)
        var lost: Set<Int> = []
        for place in 0..<count where Double.random(in: 0..<1, using: &random) < share {
            for burst in 0..<Int.random(in: 1...3, using: &random) { lost.insert(place + burst) }
        }
        all.append(lost)
    }
    return all
}
