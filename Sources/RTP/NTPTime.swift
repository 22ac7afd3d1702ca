import Media

/// 64-bit NTP times and the wall clock (RFC 3550 section 4, RFC 5905 section 6).
public enum NTPTime {
    /// 1900-01-01 to 1970-01-01.
    static let secondsTo1970: Int64 = 2_208_988_800

    /// The moment that `ntp` means: its seconds begin anew every 2^32 (next in February 2036), so the one nearest to `reference` is taken.
    /// Exact to a nanosecond, rounded down.
    public static func wallTime(_ ntp: UInt64, near reference: WallTime) -> WallTime {
        let expected = reference.nanoseconds / 1_000_000_000 + secondsTo1970
        // The distance to the reference in the 32 bits that are sent, as a signed number.
        let distance = Int64(Int32(truncatingIfNeeded: Int64(ntp >> 32) - expected))
        let nanoseconds = Int64(((ntp & 0xFFFF_FFFF) * 1_000_000_000) >> 32)
        return WallTime(nanoseconds: (expected + distance - secondsTo1970) &* 1_000_000_000 &+ nanoseconds)
    }

    /// `time` as a sender report says it.
    public static func ntp(_ time: WallTime) -> UInt64 {
        var (second, subsecond) = time.nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        if subsecond < 0 { (second, subsecond) = (second - 1, subsecond + 1_000_000_000) }
        let fraction = (UInt64(subsecond) << 32 + 999_999_999) / 1_000_000_000  // up, so that the way back meets the same nanosecond
        return UInt64(truncatingIfNeeded: second + secondsTo1970) << 32 | fraction
    }
}

extension RTCPPacket.SenderReport {
    /// When ``rtpTimestamp`` was, on the sender's wall clock; nil where the sender has none (RFC 3550 section 6.4.1).
    ///
    /// `reference` is any moment within 68 years, such as the arrival.
    public func wallTime(near reference: WallTime) -> WallTime? { ntp == 0 ? nil : NTPTime.wallTime(ntp, near: reference) }

    /// ``wallTime(near:)`` in nanoseconds since 1970.
    public func nanoseconds(near reference: WallTime) -> Int64? { wallTime(near: reference)?.nanoseconds }
}
