import Crypto
import Foundation
import SealedFile

/// A SHA-256 value of the audit log: of a leaf, of a node, or of the chain.
public struct AuditHash: Hashable, Sendable {
    public static let byteCount = 32
    public let bytes: [UInt8]

    init(_ digest: SHA256.Digest) { bytes = Array(digest) }

    /// Takes exactly 64 lower-case hexadecimal digits.
    public init?(hex: String) {
        guard hex.utf8.count == Self.byteCount * 2, let bytes = Hexadecimal.bytes(hex) else { return nil }
        self.bytes = bytes
    }

    /// Takes standard base64 (RFC 4648 section 4) of 32 bytes.
    public init?(base64: String) {
        guard let data = Data(base64Encoded: base64), data.count == Self.byteCount, data.base64EncodedString() == base64 else { return nil }
        bytes = Array(data)
    }

    public var hex: String { Hexadecimal.text(bytes) }
    public var base64: String { Data(bytes).base64EncodedString() }
}

/// The Merkle tree of RFC 9162 section 2.1 (the one of RFC 6962): hashes of leaves in, roots and proofs out.
///
/// Proofs are made in time linear in the leaves; checking them takes as many hashes as the path is long.
public enum MerkleTree {
    /// Longest path that is looked at; a tree of 2^62 leaves has none longer.
    public static let pathCountMax = 64

    /// The hash of one entry's bytes: SHA-256(0x00 ‖ bytes).
    public static func leaf(_ bytes: some Sequence<UInt8>) -> AuditHash { AuditHash(SHA256.hash(data: [0] + Array(bytes))) }

    /// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
    public static func node(_ left: AuditHash, _ right: AuditHash) -> AuditHash { AuditHash(SHA256.hash(data: [1] + left.bytes + right.bytes)) }

    /// The root of the tree over `leaves`; of no leaves SHA-256 of nothing.
    public static func root(_ leaves: ArraySlice<AuditHash>) -> AuditHash {
        var frontier = MerkleFrontier()
        for leaf in leaves { frontier.append(leaf) }
        return frontier.root
    }

    /// The largest power of two below `count`, which is at least 2.
    private static func split(_ count: Int) -> Int { 1 << (Int.bitWidth - 1 - (count - 1).leadingZeroBitCount) }

    /// The nodes from the leaf at `index` up to the root (section 2.1.3.1).
    public static func inclusionPath(_ index: Int, _ leaves: ArraySlice<AuditHash>) -> [AuditHash] {
        precondition(index >= 0 && index < leaves.count)
        guard leaves.count > 1 else { return [] }
        let middle = split(leaves.count)
        let (left, right) = (leaves.prefix(middle), leaves.dropFirst(middle))
        return index < middle ? inclusionPath(index, left) + [root(right)] : inclusionPath(index - middle, right) + [root(left)]
    }

    /// The nodes that show that the tree over the first `count` leaves became the one over all (section 2.1.4.1).
    public static func consistencyPath(_ count: Int, _ leaves: ArraySlice<AuditHash>) -> [AuditHash] {
        precondition(count > 0 && count <= leaves.count)
        func path(_ count: Int, _ leaves: ArraySlice<AuditHash>, _ isKnown: Bool) -> [AuditHash] {
            if count == leaves.count { return isKnown ? [] : [root(leaves)] }
            let middle = split(leaves.count)
            let (left, right) = (leaves.prefix(middle), leaves.dropFirst(middle))
            return count <= middle ? path(count, left, isKnown) + [root(right)] : path(count - middle, right, false) + [root(left)]
        }
        return path(count, leaves, true)
    }

    /// The root that a leaf at `index` and its path lead to in a tree of `size` leaves; nil where the path does not fit (section 2.1.3.2).
    public static func root(leaf: AuditHash, index: Int, size: Int, path: [AuditHash]) -> AuditHash? {
        guard index >= 0, index < size, path.count <= pathCountMax else { return nil }
        var (place, last, hash) = (index, size - 1, leaf)
        for step in path {
            guard last > 0 else { return nil }
            if place & 1 == 1 || place == last {
                hash = node(step, hash)
                while place & 1 == 0, place != 0 { (place, last) = (place >> 1, last >> 1) }
            } else {
                hash = node(hash, step)
            }
            (place, last) = (place >> 1, last >> 1)
        }
        return last == 0 ? hash : nil
    }

    /// Whether the tree `second` of `secondSize` leaves holds the tree `first` as its beginning, unchanged (section 2.1.4.2).
    public static func isConsistent(_ first: AuditHash, firstSize: Int, _ second: AuditHash, secondSize: Int, path: [AuditHash]) -> Bool {
        guard firstSize > 0, firstSize <= secondSize, path.count <= pathCountMax else { return false }
        if firstSize == secondSize { return path.isEmpty && first == second }
        guard !path.isEmpty else { return false }
        var steps = path[...]
        if firstSize & (firstSize - 1) == 0 { steps = [first] + steps }
        var (place, last) = (firstSize - 1, secondSize - 1)
        while place & 1 == 1 { (place, last) = (place >> 1, last >> 1) }
        guard let start = steps.popFirst() else { return false }
        var (old, new) = (start, start)
        for step in steps {
            guard last > 0 else { return false }
            if place & 1 == 1 || place == last {
                (old, new) = (node(step, old), node(step, new))
                while place & 1 == 0, place != 0 { (place, last) = (place >> 1, last >> 1) }
            } else {
                new = node(new, step)
            }
            (place, last) = (place >> 1, last >> 1)
        }
        return old == first && new == second && last == 0
    }
}

/// The right edge of a tree: the roots of its whole subtrees, largest first; enough to append, and for the root. At most 63 hashes.
public struct MerkleFrontier: Hashable, Sendable {
    public private(set) var size = 0
    public private(set) var peaks: [AuditHash] = []

    public init() {}

    /// Takes a frontier up again; nil where the number of peaks is not that of the ones in `size`.
    public init?(size: Int, peaks: [AuditHash]) {
        guard size >= 0, peaks.count == size.nonzeroBitCount else { return nil }
        (self.size, self.peaks) = (size, peaks)
    }

    /// Adds a leaf; gives back the root of the largest whole subtree that ends with it.
    @discardableResult
    public mutating func append(_ leaf: AuditHash) -> AuditHash {
        var node = leaf
        var rest = size
        while rest & 1 == 1 {
            node = MerkleTree.node(peaks.removeLast(), node)
            rest >>= 1
        }
        peaks.append(node)
        size += 1
        return node
    }

    public var root: AuditHash {
        guard var hash = peaks.last else { return AuditHash(SHA256.hash(data: [UInt8]())) }
        for peak in peaks.dropLast().reversed() { hash = MerkleTree.node(peak, hash) }
        return hash
    }

    /// The inclusion path of the leaf that is appended next, in the tree that it completes.
    public var pathOfNext: [AuditHash] { peaks.reversed() }

    /// Where the whole subtrees of a tree of `size` leaves end, counted from 1.
    static func ends(_ size: Int) -> [Int] {
        var ends: [Int] = []
        var end = 0
        for bit in (0..<Int.bitWidth - 1).reversed() where size & 1 << bit != 0 {
            end += 1 << bit
            ends.append(end)
        }
        return ends
    }
}
