/// What an assembler counts, and whether the next frame follows a loss. Before the first frame of all there is nothing to lose.
struct LossLedger {
    private(set) var dropped = 0
    var malformed = 0
    private var hasBegun = false
    private var followsLoss = false

    /// A frame, or a part of one, is not given out.
    mutating func drop() {
        guard hasBegun else { return }
        dropped += 1
        followsLoss = true
    }

    /// Whole frames may be missing that nothing was seen of.
    mutating func miss() { followsLoss = hasBegun }

    /// A frame is given out; says whether it follows a loss.
    mutating func give() -> Bool {
        defer { (hasBegun, followsLoss) = (true, false) }
        return followsLoss
    }
}
