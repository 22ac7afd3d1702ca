import Media

/// Tells the gaps in one source's sequence numbers, and which of them were filled. Pure; at most ``missingMax`` numbers are remembered.
struct SequenceWatch: Sendable {
    enum Step: Hashable, Sendable {
        /// The highest number so far; `skipped` numbers before it did not come yet.
        case next(skipped: Int)
        /// One that was missing.
        case filled
        /// Came before, or is too old to be known.
        case known
        /// The numbers jumped (RFC 3550 appendix A.1: by 3,000): the sender began anew.
        case restart
    }

    private struct Missing: Sendable {
        var sequence: Int64
        var since: WallTime
        var isTold = false
    }

    static let missingMax = 256
    static let jumpMax = 3_000
    /// A gap this old is a loss.
    static let patience = Nanoseconds.milliseconds(200)
    /// What comes later than this is not told from a duplicate.
    static let memory = Nanoseconds.seconds(3)

    private var highest: Int64?
    private var missing: [Missing] = []
    private var isOverfull = false

    mutating func take(_ number: UInt16, at now: WallTime) -> Step {
        guard let last = highest else {
            highest = Int64(number)
            return .next(skipped: 0)
        }
        let distance = Int(Int16(bitPattern: number &- UInt16(truncatingIfNeeded: last)))
        guard abs(distance) < Self.jumpMax else {
            self = SequenceWatch()
            highest = Int64(number)
            return .restart
        }
        let sequence = last &+ Int64(distance)
        guard distance > 0 else { return fill(sequence) ? .filled : .known }
        highest = sequence
        if distance > 1 { forget(at: now) }
        for skipped in (last + 1)..<sequence {
            guard missing.count < Self.missingMax else {
                isOverfull = true
                break
            }
            missing.append(Missing(sequence: skipped, since: now))
        }
        return .next(skipped: distance - 1)
    }

    /// A retransmission of `number` came (RFC 4588 section 4).
    mutating func take(repairOf number: UInt16) -> Bool {
        guard let last = highest else { return false }
        return fill(last &+ Int64(Int16(bitPattern: number &- UInt16(truncatingIfNeeded: last))))
    }

    private mutating func fill(_ sequence: Int64) -> Bool {
        guard let place = missing.firstIndex(where: { $0.sequence == sequence }) else { return false }
        missing.remove(at: place)
        return true
    }

    /// Whether a gap has become a loss by `now`; each is told once.
    mutating func takeLoss(at now: WallTime) -> Bool {
        guard !missing.isEmpty || isOverfull else { return false }
        var isLost = isOverfull
        isOverfull = false
        forget(at: now)
        for place in missing.indices where !missing[place].isTold && now - missing[place].since >= Self.patience {
            missing[place].isTold = true
            isLost = true
        }
        return isLost
    }

    private mutating func forget(at now: WallTime) {
        // Also when the clock was set back.
        missing.removeAll { now < $0.since || now - $0.since >= Self.memory }
    }
}
