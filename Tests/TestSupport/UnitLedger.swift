import Depacketize
import Media
import RTP

/// What was sent and has not come out yet, and the rules that what comes out must keep.
struct UnitLedger {
    /// More units than this without one that comes out is a depacketizer that keeps them, or gave up.
    static let pendingMax = 1 << 16
    /// The wait for a missing packet is shorter than this; what is held back longer may be given up.
    static let patience = Nanoseconds.milliseconds(300)

    private struct Entry {
        var unit: SentUnit
        var lostPackets = 0
        var isCarried = false
    }

    private let source: PacketSource
    private let network: Network
    private let constant: Nanoseconds
    private let endsAt: WallTime
    private var outcome: EmulatedTrack.Outcome
    private var pending: [Entry] = []
    private var head = 0
    /// What became of the last units, by number modulo their count: whether they came out, whether they could be decoded.
    private var recent = [(came: Bool, isDecodable: Bool)](repeating: (false, false), count: 64)
    private var lastTime: WallTime?
    private var lastNumber = -1
    // What the verdict must count.
    private var delivered = 0
    private var duplicates = 0
    private var lost = 0
    private var lostSinceArrival = 0
    private var life = -1
    private var repeats = 0

    init(source: PacketSource, network: Network, timeline: TrackTimeline, verdict: TrackVerdict) {
        (self.source, self.network) = (source, network)
        constant = network.leastDelay + source.leastLag
        endsAt = source.start + Nanoseconds(seconds: source.seconds - 60)
        outcome = .init(timeline: timeline, verdict: verdict)
    }

    private mutating func broke(_ rule: String) {
        if outcome.broken.count < EmulatedTrack.Outcome.brokenMax { outcome.broken.append(rule) }
    }

    // MARK: Sent

    mutating func note(_ packet: SentPacket, _ fate: NetworkEmulator.Fate) {
        guard let unit = packet.unit else { return }
        outcome.packetsSent += 1
        delivered += fate.copies + (fate.comesAgain ? 1 : 0)
        duplicates += max(0, fate.copies - 1)
        if unit.life != life { (life, lostSinceArrival) = (unit.life, -1) }
        if fate.copies == 0, !fate.comesAgain {
            // What is lost before a life's first packet or after its last one, nobody can know.
            if lostSinceArrival >= 0 { lostSinceArrival += 1 }
        } else {
            lost += max(0, lostSinceArrival)
            lostSinceArrival = 0
        }
        if fate.comesAgain { repeats += 1 }
        if pending.last?.unit.number != unit.number {
            outcome.unitsSent += 1
            if pending.count - head >= Self.pendingMax {
                if outcome.mostPending < Self.pendingMax { broke("\(Self.pendingMax) units were sent and none came out") }
                settle(upTo: unit.number - Self.pendingMax / 2)
            }
            pending.append(Entry(unit: unit))
            outcome.mostPending = max(outcome.mostPending, pending.count - head)
        }
        if fate.copies == 0, !fate.comesAgain {
            pending[pending.count - 1].lostPackets += 1
        } else if source.redundancy > 0 {
            // Only a window of 2^14 ticks and lengths below 2^10 can be carried (RFC 2198 section 3); the sources stay below.
            for place in pending.indices.dropLast().suffix(source.redundancy) where pending[place].unit.life == unit.life { pending[place].isCarried = true }
        }
    }

    /// Decides what became of all units before `number`, none of which came out (else they would be decided), and forgets them.
    private mutating func settle(upTo number: Int) {
        while head < pending.count, pending[head].unit.number < number {
            decide(pending[head], came: false)
            head += 1
        }
        if head > 1_024, head > pending.count / 2 {
            pending.removeFirst(head)
            head = 0
        }
    }

    private mutating func decide(_ entry: Entry, came: Bool) {
        let number = entry.unit.number
        func known(_ need: Int) -> (came: Bool, isDecodable: Bool) { need < 0 || number - need >= 64 ? (false, false) : recent[need & 63] }
        let isDecodable = (entry.lostPackets == 0 || entry.isCarried) && (entry.unit.needs + entry.unit.mayNeed).allSatisfy { known($0).isDecodable }
        if isDecodable { outcome.unitsDecodable += 1 }
        if came, !entry.unit.needs.allSatisfy({ known($0).came }) { broke("unit \(number) came out without what it needs (\(entry.unit.needs))") }
        if came, entry.lostPackets > 0, !entry.isCarried { broke("unit \(number) came out, but \(entry.lostPackets) of its packets never arrived") }
        if !came, isDecodable, network.isLossless { broke("unit \(number) was sent without loss and did not come out") }
        recent[number & 63] = (came, isDecodable)
    }

    // MARK: Came out

    mutating func take(_ event: TrackEvent) {
        guard case .accessUnit(let unit) = event else { return }
        outcome.unitsOut += 1
        if let lastTime, unit.time <= lastTime { broke("time went back from \(lastTime.nanoseconds) to \(unit.time.nanoseconds)") }
        lastTime = unit.time
        // A flipped bit may be anywhere: such a run shows that nothing breaks, not that everything is right.
        guard network.corruption == 0 else { return }
        guard let place = place(of: unit) else { return }
        let sent = pending[place].unit
        if !isEqual(unit.payload, source.payload(of: sent)) { broke("unit \(sent.number) came out with other bytes than it was sent with") }
        if unit.isKey != sent.isKey { broke("unit \(sent.number) is \(sent.isKey ? "a" : "no") key picture and is called the opposite") }
        let error = unit.time - sent.captured - constant
        outcome.error.add(error)
        if sent.captured >= endsAt { outcome.endError.add(error) }
        settle(upTo: sent.number)
        decide(pending[head], came: true)
        head += 1
        lastNumber = sent.number
    }

    private mutating func place(of unit: AccessUnit) -> Int? {
        guard let number = source.number(in: unit.payload) else {
            // Discontinuous transmission has no number: the one nearest in time.
            let candidates = pending.indices[head...].prefix(1_024).filter { pending[$0].unit.isDiscontinuous }
            let nearest = candidates.min { distance($0, unit) < distance($1, unit) }
            if nearest == nil { broke("a unit of \(unit.payload.count) bytes came out that was not sent") }
            return nearest
        }
        guard number > lastNumber else {
            broke("unit \(number) came out after unit \(lastNumber)")
            return nil
        }
        guard head < pending.count, number >= pending[head].unit.number, number <= pending[pending.count - 1].unit.number else {
            broke("unit \(number) came out that was not sent, or long ago")
            return nil
        }
        return head + number - pending[head].unit.number
    }

    private func distance(_ place: Int, _ unit: AccessUnit) -> Int64 { abs((unit.time - pending[place].unit.captured - constant).count) }

    /// H.264's start codes have three bytes or four, as one likes.
    private func isEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        guard case .h264 = source.content else { return a == b }
        return a.split(separator: 0) == b.split(separator: 0)
    }

    // MARK: At the end

    mutating func finish(_ verdict: TrackVerdict, mostInFlight: Int) -> EmulatedTrack.Outcome {
        settle(upTo: .max)
        outcome.verdict = verdict
        outcome.mostInFlight = mostInFlight
        if verdict.accessUnits != outcome.unitsOut { broke("the verdict counts \(verdict.accessUnits) units, \(outcome.unitsOut) came out") }
        guard network.corruption == 0 else { return outcome }
        if verdict.packets != delivered { broke("the verdict counts \(verdict.packets) packets, \(delivered) arrived") }
        if verdict.duplicates != duplicates { broke("the verdict counts \(verdict.duplicates) duplicates, \(duplicates) arrived") }
        if verdict.malformed != 0 { broke("the verdict calls \(verdict.malformed) packets malformed") }
        let isPlain = source.redundancy == 0 && network.retransmission == nil
        if isPlain, verdict.lost != lost { broke("the verdict counts \(verdict.lost) lost packets, \(lost) never arrived between those that did (\(verdict.late) late)") }
        if !source.isPicture, isPlain {
            let sum = verdict.accessUnits + verdict.duplicates + verdict.late + verdict.outliers + verdict.droppedUnits
            if sum != verdict.packets { broke("of \(verdict.packets) packets \(sum) are accounted for") }
        }
        // One in a hundred, but not one in forty: short runs have few.
        if network.longestDetour < Self.patience, outcome.unitsDecodable - outcome.unitsOut > max(2, outcome.unitsDecodable / 100) { broke("of \(outcome.unitsDecodable) units that could be decoded \(outcome.unitsOut) came out") }
        if outcome.error.absolute(0.5) > 25 { broke("the median time error is \(outcome.error.absolute(0.5)) ms") }
        return outcome
    }
}

extension Network {
    /// Everything that is sent arrives.
    var isLossless: Bool { loss == .none && outages.isEmpty && corruption == 0 && longestDetour < UnitLedger.patience }

    /// By how much a packet can come after the one sent behind it.
    var longestDetour: Nanoseconds {
        var most = Nanoseconds.zero
        if reordering > 0 { most = most + reorderDelay }
        if duplication > 0 { most = max(most, .milliseconds(50)) }
        if let retransmission { most = max(most, retransmission.after) }
        switch jitter {
        case _ where keepsOrder && retransmission == nil: return most
        case .none: return most
        case .uniform(let max): return most + max
        case .gamma(let mean): return most + Nanoseconds(count: mean.count * 10)
        }
    }
}
