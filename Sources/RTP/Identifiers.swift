/// Synchronisation source of an RTP stream (RFC 3550 section 3).
public struct SSRC: RawRepresentable, Hashable, Sendable, Codable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// Puts 16-bit sequence numbers into one line of 64-bit ones (RFC 3550 appendix A.1), tolerant of reordering by up to 2^15.
public struct SequenceExtender: Hashable, Sendable {
    private var highest: Int64?
    public init() {}

    /// The extended number nearest to the highest seen.
    public mutating func extend(_ sequenceNumber: UInt16) -> Int64 {
        guard let last = highest else {
            highest = Int64(sequenceNumber) + 1 << 16  // room for earlier packets that come late
            return highest ?? 0
        }
        let extended = last + Int64(Int16(bitPattern: sequenceNumber &- UInt16(truncatingIfNeeded: last)))
        if extended > last { highest = extended }
        return extended
    }
}

/// Puts 32-bit RTP time stamps into one line of 64-bit ones, tolerant of jumps back by up to 2^31.
public struct TimestampExtender: Hashable, Sendable {
    private var last: Int64?
    public init() {}

    /// Goes on from an extended time stamp.
    public init(from extended: Int64) { last = extended }

    public mutating func extend(_ timestamp: UInt32) -> Int64 {
        guard let previous = last else {
            last = Int64(timestamp) + 1 << 32
            return last ?? 0
        }
        let extended = previous + Int64(Int32(bitPattern: timestamp &- UInt32(truncatingIfNeeded: previous)))
        last = extended
        return extended
    }
}
