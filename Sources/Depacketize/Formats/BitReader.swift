/// Reads a codec's header bit by bit; past the end it reads zeros and says so.
///
/// With `isEscaped` the emulation prevention bytes of H.264 and H.265 are left out (0x000003, H.264 section 7.4.1).
struct BitReader {
    private let bytes: UnsafeRawBufferPointer
    private let isEscaped: Bool
    private var at = 0
    private var current: UInt8 = 0
    private var left = 0
    private var zeros = 0
    /// More was read than there is, or a number was longer than 32 bits.
    private(set) var isExhausted = false

    init(_ bytes: UnsafeRawBufferPointer, isEscaped: Bool = false) {
        self.bytes = bytes
        self.isEscaped = isEscaped
    }

    mutating func bit() -> Int {
        if left == 0 { load() }
        left -= 1
        return Int(current >> UInt8(left)) & 1
    }

    mutating func flag() -> Bool { bit() == 1 }

    /// An unsigned number of at most 32 bits; more are skipped.
    mutating func bits(_ count: Int) -> Int {
        var value = 0
        for _ in 0..<count { value = (value << 1 | bit()) & 0xFFFF_FFFF }
        return value
    }

    mutating func skip(_ count: Int) { for _ in 0..<count where !isExhausted { _ = bit() } }

    /// ue(v), H.264 section 9.1.
    mutating func exponential() -> Int {
        var zeros = 0
        while bit() == 0 {
            zeros += 1
            guard zeros < 32, !isExhausted else {
                isExhausted = true
                return 0
            }
        }
        return (1 << zeros) - 1 + bits(zeros)
    }

    /// se(v), H.264 section 9.1.1.
    mutating func signedExponential() -> Int {
        let value = exponential()
        return value & 1 == 1 ? (value + 1) / 2 : -(value / 2)
    }

    private mutating func load() {
        left = 8
        if isEscaped, zeros >= 2, at < bytes.count, bytes[at] == 3 {
            at += 1
            zeros = 0
        }
        guard at < bytes.count else {
            (current, isExhausted) = (0, true)
            return
        }
        current = bytes[at]
        at += 1
        zeros = current == 0 ? zeros + 1 : 0
    }
}

/// A picture's size in pixels.
struct PictureSize: Hashable {
    var width: Int
    var height: Int
}
