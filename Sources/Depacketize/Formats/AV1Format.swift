/// Puts AV1 packets together to temporal units of low-overhead OBUs (RTP payload format for AV1, version 1.0).
///
/// After a loss nothing is given until a key frame with its sequence header, for AV1 does not tell in its payload what depends on what was
/// lost. Where packets have the dependency descriptor, temporal units are given whose frames need only frames that were given.
struct AV1Assembler: VideoAssembler {
    private struct TemporalUnit {
        var timestamp: Int64
        var units = 0
        var hasFrame = false
        var isKey = false
        var size: PictureSize?
        var isTorn = false
        /// Its frames, by their descriptors; nil where a packet had none.
        var frames: [DependencyDescriptor]? = []
    }

    /// As far back as a reference is looked for.
    static let givenMax = 256
    /// Most frames of one temporal unit (spatial layers) whose descriptors are kept.
    static let framesMax = 16

    private var bytes: [UInt8] = []
    private var open: TemporalUnit?
    /// The OBU that goes on in the next packet.
    private var partial: [UInt8]?
    private var sequence: AV1SequenceHeader?
    private var isGapPending = false
    private var structure: DependencyStructure?
    private var noted: DependencyDescriptor?
    /// Numbers of the frames that were given out last, since the last key frame.
    private var given: [Int] = []
    /// Something was lost or left out since the last key frame.
    private var isDamaged = false
    private(set) var needsKey = true
    private var ledger = LossLedger()

    var dropped: Int { ledger.dropped }
    var malformed: Int { ledger.malformed }

    mutating func push(_ payload: UnsafeRawBufferPointer, timestamp: Int64, marker: Bool, isContiguous: Bool) -> [VideoFrame] {
        let isGap = isGapPending || !isContiguous
        isGapPending = isGap
        let descriptor = noted
        noted = nil
        guard !payload.isEmpty else { return [] }
        isGapPending = false
        var done: [VideoFrame] = []
        if open?.timestamp == timestamp {
            if isGap { tear() }
        } else {
            if isGap || partial != nil { tear() }
            if let frame = close() { done.append(frame) }
            if isGap {
                ledger.miss()
                isDamaged = true
                if descriptor == nil || given.isEmpty { needsKey = true }
            }
            bytes.removeAll(keepingCapacity: true)
            open = TemporalUnit(timestamp: timestamp, isTorn: isGap && descriptor?.beginsFrame == false)
        }
        if let descriptor {
            if open?.frames?.last?.frameNumber != descriptor.frameNumber { open?.frames?.append(descriptor) }
        }
        if descriptor == nil || (open?.frames?.count ?? 0) > Self.framesMax { open?.frames = nil }
        take(payload, isGap: isGap)
        if marker {
            if partial != nil { tear() }
            if let frame = close() { done.append(frame) }
        }
        return done
    }

    mutating func note(dependencies: UnsafeRawBufferPointer) { noted = DependencyDescriptor(dependencies, structure: &structure) }

    /// A temporal unit does not tell its end: without its marker the last one is not given.
    mutating func finish() -> [VideoFrame] {
        lose()
        return []
    }

    mutating func lose() {
        if open != nil { ledger.drop() }
        (open, partial, needsKey, isGapPending) = (nil, nil, true, false)
        (noted, given) = (nil, [])
    }

    private mutating func tear() {
        guard open != nil else { return }
        open?.isTorn = true
        (partial, isDamaged) = (nil, true)
    }

    private mutating func take(_ payload: UnsafeRawBufferPointer, isGap: Bool) {
        guard open?.isTorn == false else { return }
        var goesOn = payload[0] & 0x80 != 0
        let isPartial = payload[0] & 0x40 != 0
        // An OBU goes on that did not begin, or the other way round.
        guard goesOn == (partial != nil) else {
            if !isGap { ledger.malformed += 1 }
            return tear()
        }
        let isWhole = AV1Syntax.forEachElement(in: payload) { (element: UnsafeRawBufferPointer, isLast: Bool) -> Bool in
            let goesOnNext = isLast && isPartial
            guard goesOn || goesOnNext else { return add(element) }
            goesOn = false
            var obu = partial ?? []
            partial = nil
            guard obu.count + element.count <= VideoFormats.frameBytesMax else { return false }
            obu.append(contentsOf: element)
            if goesOnNext {
                partial = obu
                return true
            }
            return obu.withUnsafeBytes { add($0) }
        }
        if !isWhole {
            ledger.malformed += 1
            tear()
        }
    }

    /// Takes a whole OBU; false where it is none, or there is too much.
    private mutating func add(_ element: UnsafeRawBufferPointer) -> Bool {
        guard var unit = open, let obu = AV1Syntax.unit(element) else { return false }
        guard bytes.count + element.count + 8 <= VideoFormats.frameBytesMax, unit.units < VideoFormats.unitsMax else { return false }
        defer { open = unit }
        unit.units += 1
        let payload = UnsafeRawBufferPointer(rebasing: element[obu.payload])
        switch obu.type {
        case .temporalDelimiter, .tileList, .padding: return true
        case .sequenceHeader:
            guard let header = AV1SequenceHeader(payload) else { return false }
            sequence = header
            unit.size = header.size
        case .frameHeader, .frame:
            if !unit.hasFrame { unit.isKey = unit.size != nil && (sequence?.isReduced == true || AV1Syntax.isShownKey(payload)) }
            unit.hasFrame = true
        case .other: break
        }
        bytes.append(element[0] | 0x02)  // obu_has_size_field
        if element[0] & 0x04 != 0 { bytes.append(element[1]) }
        AV1Syntax.append(length: payload.count, to: &bytes)
        bytes.append(contentsOf: payload)
        return true
    }

    private mutating func close() -> VideoFrame? {
        guard let unit = open else { return nil }
        (open, partial) = (nil, nil)
        guard unit.hasFrame || unit.isTorn else { return nil }
        guard !unit.isTorn, unit.isKey || canDecode(unit) else {
            ledger.drop()
            isDamaged = true
            // A base layer goes on with the frame that is missing now; without descriptors everything does.
            if unit.frames?.first.map({ $0.temporalLayer == 0 }) ?? true { needsKey = true }
            return nil
        }
        if unit.isKey { (needsKey, isDamaged, given) = (false, false, []) }
        given = (given + (unit.frames ?? []).map(\.frameNumber)).suffix(Self.givenMax)
        let size = unit.isKey ? unit.size : nil
        return VideoFrame(
            bytes: bytes, timestamp: unit.timestamp, isKey: unit.isKey, width: size?.width, height: size?.height, followsLoss: ledger.give())
    }

    private func canDecode(_ unit: TemporalUnit) -> Bool {
        guard !needsKey else { return false }
        guard isDamaged else { return true }
        guard let frames = unit.frames, !frames.isEmpty else { return false }
        let own = frames.map(\.frameNumber)
        return frames.allSatisfy { frame in
            // A frame that needs none and is no key frame came without its sequence header.
            !frame.references.isEmpty && frame.references.allSatisfy { reference in
                let number = (frame.frameNumber - reference) & 0xFFFF
                return given.contains(number) || own.contains(number)
            }
        }
    }
}
