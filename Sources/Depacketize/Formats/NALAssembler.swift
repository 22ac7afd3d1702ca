/// Puts the NAL units of H.264 (RFC 6184) or H.265 (RFC 7798) together to access units with start codes.
///
/// A random access point counts as key when its parameter sets are known, in band or from the session description; those that its access
/// unit lacks are put in front. After a loss nothing is given until one: neither format tells what was lost. Only a torn picture that
/// says of itself that no other needs it breaks nothing else.
struct NALAssembler<Syntax: NALSyntax>: VideoAssembler {
    /// What is known of the access unit that is being put together.
    private struct AccessUnitFacts {
        var timestamp: Int64
        var followsGap: Bool
        var units = 0
        var slices = 0
        var first: NALSlice?
        var isRandomAccess = true
        var isLeading = false
        var isIntra = true
        var isDisposable = true
        var hasRecoveryPoint = false
        var pictureSets: Set<Int> = []
        var present: Set<NALParameterSet.Name> = []
        var isTorn = false

        var beginsWithFirstSlice: Bool { first?.isFirst == true }
    }

    private var sets: ParameterSets
    private var bytes: [UInt8] = []
    private var open: AccessUnitFacts?
    /// Where the NAL unit that is being put together from fragments begins in `bytes`, at its start code.
    private var fragment: Int?
    private var isGapPending = false
    private(set) var needsKey = true
    /// Decoding began at a random access point whose leading pictures need what came before it.
    private var skipsLeading = false
    /// The last key access unit brought its parameter sets along.
    private var bringsSets = false
    /// Some senders set the marker on each packet: then only the next time stamp ends an access unit.
    private var ignoresMarker = false
    private var lastGiven: Int64?
    private var ledger = LossLedger()

    var dropped: Int { ledger.dropped }
    var malformed: Int { ledger.malformed }

    init(sprop: [String?] = []) { sets = ParameterSets(sprop: sprop, unit: Syntax.unit) }

    mutating func push(_ payload: UnsafeRawBufferPointer, timestamp: Int64, marker: Bool, isContiguous: Bool) -> [VideoFrame] {
        let isGap = isGapPending || !isContiguous
        isGapPending = isGap
        guard !payload.isEmpty else { return [] }
        guard let packet = Syntax.packet(payload) else {
            ledger.malformed += 1
            isGapPending = true  // as good as lost
            return []
        }
        isGapPending = false
        var done: [VideoFrame] = []
        if open?.timestamp == timestamp {
            if isGap { tear() }
        } else {
            if isGap || fragment != nil { tear() }
            if let frame = close() { done.append(frame) }
            if isGap {
                needsKey = true
                ledger.miss()
            }
            bytes.removeAll(keepingCapacity: true)
            open = AccessUnitFacts(timestamp: timestamp, followsGap: isGap)
        }
        take(packet, payload)
        if marker, !ignoresMarker, open.map({ $0.slices > 0 || $0.isTorn }) == true {
            if fragment != nil { tear() }
            if let frame = close() { done.append(frame) }
        }
        return done
    }

    /// An access unit does not tell its end: without its marker the last one is not given.
    mutating func finish() -> [VideoFrame] {
        var done: [VideoFrame] = []
        // Where markers mean nothing, all that came in succession is as whole as it can be known to be.
        if ignoresMarker, fragment == nil, !isGapPending, let frame = close() { done.append(frame) }
        lose()
        return done
    }

    mutating func lose() {
        if let open, open.slices > 0 || open.isTorn || fragment != nil { ledger.drop() }
        (open, fragment, needsKey, isGapPending) = (nil, nil, true, false)
    }

    /// The access unit that is being put together lacks something.
    private mutating func tear() {
        defer { fragment = nil }
        guard let facts = open, !facts.isTorn else { return }
        open?.isTorn = true
        var isDisposable = facts.isDisposable
        if let fragment {
            guard case .slice(let slice) = unit(from: fragment) else { return needsKey = true }
            isDisposable = isDisposable && slice.isDisposable
        } else if facts.slices == 0 {
            isDisposable = false
        }
        if !isDisposable { needsKey = true }
    }

    /// What begins at this start code.
    private func unit(from start: Int) -> NALUnit? {
        bytes.withUnsafeBytes { Syntax.unit(UnsafeRawBufferPointer(rebasing: $0[(start + 4)...])) }
    }

    private mutating func take(_ packet: NALPacket, _ payload: UnsafeRawBufferPointer) {
        switch packet {
        case .single:
            if fragment != nil { refuse() }
            add(payload)
        case .aggregate(let from):
            if fragment != nil { refuse() }
            let isWhole = Syntax.forEachUnit(in: payload, from: from) { add($0) }
            if !isWhole { refuse() }
        case .fragment(let from, let isStart, let isEnd):
            if isStart {
                if fragment != nil { refuse() }
                guard fits(payload.count) else { return }
                fragment = bytes.count
                bytes += [0, 0, 0, 1]
                bytes += Syntax.header(ofFragment: payload)
            } else if fragment == nil {
                // Its begin was lost, or was never sent.
                if open?.isTorn == false, open?.followsGap == false || open?.units != 0 { refuse() } else { tear() }
                return
            }
            guard fits(payload.count) else { return }
            bytes.append(contentsOf: payload[from...])
            if isEnd, let start = fragment {
                fragment = nil
                complete(from: start)
            }
        }
    }

    private mutating func refuse() {
        ledger.malformed += 1
        tear()
    }

    private mutating func fits(_ count: Int) -> Bool {
        if bytes.count + count + 8 <= VideoFormats.frameBytesMax, open.map({ $0.units < VideoFormats.unitsMax }) == true { return true }
        tear()
        return false
    }

    private mutating func add(_ nal: UnsafeRawBufferPointer) {
        guard fits(nal.count) else { return }
        let start = bytes.count
        bytes += [0, 0, 0, 1]
        bytes.append(contentsOf: nal)
        complete(from: start)
    }

    /// A NAL unit is whole: from its start code to the end of `bytes`.
    private mutating func complete(from start: Int) {
        guard var facts = open else { return }
        open = nil  // so that its sets are not copied
        let unit = unit(from: start)
        facts.units += 1
        defer { open = facts }
        switch unit {
        case nil:
            ledger.malformed += 1
            needsKey = true
            facts.isTorn = true
        case .superfluous: bytes.removeSubrange(start...)
        case .other: break
        case .recoveryPoint: facts.hasRecoveryPoint = true
        case .parameterSet(let set):
            sets.keep(set, Array(bytes[(start + 4)...]))
            facts.present.insert(set.name)
        case .slice(let slice):
            if facts.slices == 0 { facts.first = slice }
            facts.slices += 1
            facts.isRandomAccess = facts.isRandomAccess && slice.isRandomAccess
            facts.isLeading = facts.isLeading || slice.isLeading
            facts.isIntra = facts.isIntra && slice.isIntra
            facts.isDisposable = facts.isDisposable && slice.isDisposable
            facts.pictureSets.insert(slice.pictureSet)
        }
    }

    private mutating func close() -> VideoFrame? {
        guard let facts = open else { return nil }
        (open, fragment) = (nil, nil)
        guard let first = facts.first, !facts.isTorn else {
            if facts.first != nil || facts.isTorn { ledger.drop() }
            return nil
        }
        if !facts.beginsWithFirstSlice, facts.timestamp == lastGiven { ignoresMarker = true }
        guard let needed = needed(facts) else {
            needsKey = true
            ledger.drop()
            return nil
        }
        let isKey = facts.isRandomAccess || needsKey && facts.hasRecoveryPoint && facts.isIntra
        guard isKey || !needsKey, !(skipsLeading && facts.isLeading) else {
            ledger.drop()
            return nil
        }
        if isKey {
            skipsLeading = needsKey ? first.hasLeading || !facts.isRandomAccess : first.isBrokenLink
            needsKey = false
        } else if !facts.isRandomAccess, Syntax.firstKind == .sequence {
            skipsLeading = false  // H.264: no picture after this one is shown before the recovery point
        }
        let prefix = isKey ? sets.prefix(needed, without: facts.present) : []
        if isKey { bringsSets = needed.allSatisfy { facts.present.contains($0.name) } }
        let size = isKey ? needed.first { $0.kind == .sequence }?.size : nil
        lastGiven = facts.timestamp
        return VideoFrame(
            bytes: prefix.isEmpty ? bytes : prefix + bytes, timestamp: facts.timestamp, isKey: isKey, width: size?.width, height: size?.height,
            followsLoss: ledger.give())
    }

    /// The parameter sets of the access unit; nil where one is not known or not to be trusted, or the first slice is missing.
    private func needed(_ facts: AccessUnitFacts) -> Set<NALParameterSet>? {
        var needed: Set<NALParameterSet> = []
        for set in facts.pictureSets {
            guard let chain = sets.chain(picture: set, from: Syntax.firstKind) else { return nil }
            needed.formUnion(chain)
        }
        guard facts.beginsWithFirstSlice || !facts.followsGap && facts.timestamp != lastGiven else { return nil }
        // Where each key picture brings its sets, one that has none after a gap has lost them, and they may have been new ones.
        if facts.followsGap, bringsSets, !needed.allSatisfy({ facts.present.contains($0.name) }) { return nil }
        return needed
    }
}
