/// Puts VP9 packets together to pictures (RFC 9628): all spatial layers that are whole, as one superframe.
///
/// A layer frame is given out when what it needs was: the lower layer of the same picture (D); earlier pictures (P) as long as its layer
/// misses nothing (TL0PICIDX, TID, U, picture ids) or, in flexible mode, those that it names. An upper layer that broke comes back with a
/// frame that needs no earlier picture. Everything comes back with a key picture. Layers and references speak of pixels only: once anything
/// is missing, frames whose probabilities build on those before (not error resilient) wait for a key picture too.
struct VP9Assembler: VideoAssembler {
    private struct LayerFrame {
        var descriptor: VP9Descriptor
        var start: Int
        var end: Int
        var isWhole = false
    }

    private struct Picture {
        var timestamp: Int64
        /// Of its first packet.
        var descriptor: VP9Descriptor
        var layers: [LayerFrame] = []
        /// The last layer frame goes on.
        var isOpen = false
        /// Layers may be missing that nothing was seen of.
        var isTorn: Bool
    }

    /// A picture that was given out, by its id, with its spatial layers as bits.
    private struct Given {
        var pictureID: Int
        var timestamp: Int64
        var layers: UInt8
    }

    /// As far back as a reference reaches.
    static let givenMax = 127

    private var bytes: [UInt8] = []
    private var picture: Picture?
    private var last: Picture?
    private var baseIndex: UInt8?
    private var given: [Given] = []
    /// By spatial layer: the highest temporal layer that misses nothing; -1: none.
    private var intact = [Int](repeating: -1, count: 8)
    /// Something was lost or left out since the last key picture.
    private var isDamaged = false
    private var sizes = [PictureSize?](repeating: nil, count: 8)
    private var lastSize: PictureSize?
    private var isGapPending = false
    private(set) var needsKey = true
    private var ledger = LossLedger()

    var dropped: Int { ledger.dropped }
    var malformed: Int { ledger.malformed }

    mutating func push(_ payload: UnsafeRawBufferPointer, timestamp: Int64, marker: Bool, isContiguous: Bool) -> [VideoFrame] {
        let isGap = isGapPending || !isContiguous
        isGapPending = isGap
        guard !payload.isEmpty else { return [] }
        guard let descriptor = VP9Descriptor(payload) else {
            ledger.malformed += 1
            isGapPending = true  // as good as lost
            return []
        }
        isGapPending = false
        var done: [VideoFrame] = []
        if let picture, picture.timestamp == timestamp, picture.descriptor.pictureID == descriptor.pictureID {
            if isGap { tear() }
        } else {
            if isGap { tear() }
            if let frame = close() { done.append(frame) }
            if isGap { reckon(descriptor, timestamp) }
            if let index = descriptor.baseIndex { baseIndex = index }
            bytes.removeAll(keepingCapacity: true)
            picture = Picture(timestamp: timestamp, descriptor: descriptor, isTorn: isGap && !(descriptor.beginsFrame && descriptor.spatialLayer == 0))
        }
        take(descriptor, payload)
        if marker, let frame = close() { done.append(frame) }
        return done
    }

    /// Gives the layers whose end was seen.
    mutating func finish() -> [VideoFrame] {
        tear()
        let frame = close()
        lose()
        return frame.map { [$0] } ?? []
    }

    mutating func lose() {
        if picture != nil { ledger.drop() }
        (picture, last, needsKey, isGapPending) = (nil, nil, true, false)
        given = []
    }

    /// What is open lacks its end, and there may be more of which nothing was seen.
    private mutating func tear() {
        if picture?.isOpen == true { picture?.layers.removeLast() }
        picture?.isOpen = false
        picture?.isTorn = true
    }

    private mutating func take(_ descriptor: VP9Descriptor, _ payload: UnsafeRawBufferPointer) {
        guard var picture else { return }
        self.picture = nil  // so that its layers are not copied
        defer { self.picture = picture }
        for (layer, size) in descriptor.sizes.enumerated() { sizes[layer] = size }
        let fits = bytes.count + payload.count <= VideoFormats.frameBytesMax
        if descriptor.beginsFrame {
            if picture.isOpen { picture.layers[picture.layers.count - 1].isWhole = true }  // its end was not marked, but nothing is missing
            picture.isOpen = false
            let isAbove = descriptor.spatialLayer > picture.layers.last?.descriptor.spatialLayer ?? -1
            guard fits, isAbove, descriptor.temporalLayer == picture.descriptor.temporalLayer else {
                ledger.malformed += 1
                picture.isTorn = true
                return
            }
            picture.layers.append(LayerFrame(descriptor: descriptor, start: bytes.count, end: bytes.count))
            picture.isOpen = true
        } else if !picture.isOpen || picture.layers.last?.descriptor.spatialLayer != descriptor.spatialLayer || !fits {
            if picture.isOpen { picture.layers.removeLast() }
            picture.isOpen = false
            picture.isTorn = true
            return
        }
        bytes.append(contentsOf: payload[descriptor.start...])
        let place = picture.layers.count - 1
        picture.layers[place].end = bytes.count
        if descriptor.endsFrame {
            picture.layers[place].isWhole = true
            picture.isOpen = false
        }
    }

    /// Packets are missing before a picture that begins now: what do they break?
    private mutating func reckon(_ next: VP9Descriptor, _ timestamp: Int64) {
        let isNear = last.map { VideoFormats.isNear($0.timestamp, timestamp) } ?? false
        // No picture between: padding, or parts of the one before, which is accounted for.
        if isNear, let last, next.follows(last.descriptor) { return }
        ledger.miss()
        isDamaged = true
        if isNear, !next.isFlexible, let index = next.baseIndex, let baseIndex, index == (next.temporalLayer == 0 ? baseIndex &+ 1 : baseIndex) {
            intact = intact.map { min($0, 0) }
        } else {
            intact = intact.map { _ in -1 }
            if !next.isFlexible || given.isEmpty { needsKey = true }
        }
    }

    private mutating func close() -> VideoFrame? {
        guard var picture else { return nil }
        if picture.isOpen { picture.layers[picture.layers.count - 1].isWhole = true }
        picture.isOpen = false
        (self.picture, last) = (nil, picture)
        let temporal = picture.descriptor.temporalLayer
        var isKey = false
        var chosen: [LayerFrame] = []
        for layer in picture.layers where layer.isWhole {
            let descriptor = layer.descriptor
            let header = bytes.withUnsafeBytes { VP9Header(UnsafeRawBufferPointer(rebasing: $0[layer.start..<layer.end])) }
            guard let header else {
                ledger.malformed += 1
                picture.isTorn = true
                break
            }
            if descriptor.beginsKeyPicture, header.isKey {
                isKey = true
                restart()
            }
            let isAlone = header.isErrorResilient || !(isDamaged || picture.isTorn) || layer.start == 0 && isKey
            guard isAlone, canDecode(descriptor, picture.timestamp, below: chosen.last?.descriptor.spatialLayer, isKey: isKey) else {
                picture.isTorn = true
                continue
            }
            if let size = header.size { sizes[descriptor.spatialLayer] = size }
            chosen.append(layer)
        }
        settle(picture, chosen)
        guard !chosen.isEmpty, let unit = join(chosen), let top = chosen.last?.descriptor.spatialLayer else {
            ledger.drop()
            if temporal == 0 { needsKey = true }
            return nil
        }
        if isKey { needsKey = false }
        let size = sizes[top]
        defer { lastSize = size }
        let saysSize = isKey || size != lastSize
        return VideoFrame(
            bytes: unit, timestamp: picture.timestamp, isKey: isKey, width: saysSize ? size?.width : nil, height: saysSize ? size?.height : nil,
            followsLoss: ledger.give())
    }

    /// A key picture: nothing from before it is needed any more.
    private mutating func restart() {
        intact = [Int](repeating: 7, count: 8)
        given = []
        isDamaged = false
    }

    private func canDecode(_ descriptor: VP9Descriptor, _ timestamp: Int64, below: Int?, isKey: Bool) -> Bool {
        guard isKey || !needsKey else { return false }
        if descriptor.isInterLayer, below != descriptor.spatialLayer - 1 { return false }
        guard descriptor.isInterPicture, intact[descriptor.spatialLayer] < descriptor.temporalLayer else { return true }
        guard descriptor.isFlexible, let pictureID = descriptor.pictureID else { return false }
        let layer = UInt8(1) << UInt8(descriptor.spatialLayer)
        return descriptor.references.allSatisfy { reference in
            let id = (pictureID - reference) & (1 << descriptor.pictureIDBits - 1)
            return given.last { $0.pictureID == id }.map { $0.layers & layer != 0 && VideoFormats.isNear($0.timestamp, timestamp) } ?? false
        }
    }

    /// Keeps what was given of a picture, and what is broken by what was not.
    private mutating func settle(_ picture: Picture, _ chosen: [LayerFrame]) {
        let temporal = picture.descriptor.temporalLayer
        var layers: UInt8 = 0
        for layer in chosen {
            let spatial = layer.descriptor.spatialLayer
            layers |= 1 << UInt8(spatial)
            // An upper layer begins anew: what follows needs nothing of it from before.
            if layer.descriptor.isInterLayer, !layer.descriptor.isInterPicture, temporal == 0 { intact[spatial] = max(intact[spatial], 0) }
            if layer.descriptor.isSwitchingPoint, intact[spatial] >= temporal { intact[spatial] = 7 }
        }
        if picture.isTorn {
            isDamaged = true
            for spatial in 0..<8 where layers & 1 << UInt8(spatial) == 0 { intact[spatial] = min(intact[spatial], temporal - 1) }
        }
        guard layers != 0, let pictureID = picture.descriptor.pictureID else { return }
        if given.count >= Self.givenMax { given.removeFirst() }
        given.append(Given(pictureID: pictureID, timestamp: picture.timestamp, layers: layers))
    }

    private func join(_ layers: [LayerFrame]) -> [UInt8]? {
        layers.count == 1 ? Array(bytes[layers[0].start..<layers[0].end]) : VP9Superframe.join(layers.map { bytes[$0.start..<$0.end] })
    }
}
