import Media

/// A piece of an IP datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
struct Fragment: Hashable, Sendable {
    struct Key: Hashable, Sendable {
        var version: LinkLayer.Version
        var source: IPAddress
        var destination: IPAddress
        var id: UInt32
    }
    var key: Key
    var offset: Int
    var isLast: Bool
    /// The header that the first fragment begins with.
    var nextHeader: UInt8
    var bytes: [UInt8]
}

/// Puts fragments together. Pure: the time is the fragments' own.
///
/// At most 256 datagrams of 64 KiB in 256 parts are open, each for at most 30 s; then the oldest goes. A fragment that comes twice is passed over; one that
/// overlaps another in any other way makes the datagram void (RFC 5722 section 4): nobody can tell which of them the receiver believed.
struct FragmentAssembly: Sendable {
    static let openMax = 256
    static let datagramBytesMax = 1 << 16
    static let partsMax = 256
    static let age = Nanoseconds.seconds(30)

    private struct Open: Sendable {
        var since: WallTime
        /// By offset; never overlapping.
        var parts: [(offset: Int, bytes: [UInt8])] = []
        var held = 0
        var total: Int?
        var nextHeader: UInt8 = 17
        var isVoid = false
        var count = 0
    }

    private var open: [Fragment.Key: Open] = [:]
    /// Fragments that came to nothing.
    private(set) var dropped = 0

    /// The payload of the whole datagram once its last missing piece is here.
    mutating func take(_ fragment: Fragment, arrival: WallTime) -> (nextHeader: UInt8, bytes: [UInt8])? {
        if let old = open[fragment.key], arrival - old.since > Self.age || old.since - arrival > Self.age { drop(fragment.key) }
        if open[fragment.key] == nil {
            if open.count >= Self.openMax, let oldest = open.min(by: { $0.value.since < $1.value.since })?.key { drop(oldest) }
            open[fragment.key] = Open(since: arrival)
        }
        guard var datagram = open.removeValue(forKey: fragment.key) else { return nil }
        datagram.count += 1
        add(fragment, to: &datagram)
        if let total = datagram.total, datagram.held == total, !datagram.isVoid {
            return (datagram.nextHeader, datagram.parts.flatMap(\.bytes))
        }
        open[fragment.key] = datagram
        return nil
    }

    private func add(_ fragment: Fragment, to datagram: inout Open) {
        guard !datagram.isVoid else { return }
        let end = fragment.offset + fragment.bytes.count
        let place = datagram.parts.firstIndex { $0.offset >= fragment.offset } ?? datagram.parts.count
        if place < datagram.parts.count, datagram.parts[place].offset == fragment.offset, datagram.parts[place].bytes == fragment.bytes { return }
        let isApart = (place == 0 || datagram.parts[place - 1].offset + datagram.parts[place - 1].bytes.count <= fragment.offset)
            && (place == datagram.parts.count || end <= datagram.parts[place].offset)
        // All but the last are of whole 8 bytes, and an empty one has no business here.
        let isSound = datagram.parts.count < Self.partsMax && !fragment.bytes.isEmpty && end <= Self.datagramBytesMax && (fragment.isLast || fragment.bytes.count % 8 == 0)
        let isWithin = datagram.total.map { fragment.isLast ? end == $0 : end <= $0 } ?? (!fragment.isLast || (datagram.parts.last.map { $0.offset + $0.bytes.count } ?? 0) <= end)
        guard isApart, isSound, isWithin else {
            datagram.isVoid = true
            datagram.parts = []
            return
        }
        if fragment.isLast { datagram.total = end }
        if fragment.offset == 0 { datagram.nextHeader = fragment.nextHeader }
        datagram.parts.insert((fragment.offset, fragment.bytes), at: place)
        datagram.held += fragment.bytes.count
    }

    private mutating func drop(_ key: Fragment.Key) { dropped += open.removeValue(forKey: key)?.count ?? 0 }

    mutating func dropAll() { for key in Array(open.keys) { drop(key) } }
}
