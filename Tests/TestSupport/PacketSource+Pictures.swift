import Media

/// Pictures: one unit, one packet or many, a fifth of a millisecond apart.
extension PacketSource {
    private mutating func pictureBytes(isKey: Bool) -> Int { Int.random(in: pictureBytes, using: &random) * (isKey ? 10 : 1) }

    mutating func vp8(_ rate: Int, _ keySeconds: Double, _ hasLayers: Bool, _ now: Double) {
        let isKey = now >= nextKey
        if isKey { (nextKey, placeInGroup) = (now + keySeconds, 0) }
        // Layers 0 2 1 2: nothing needs layer 2; layer 1 and the first of layer 2 need only layer 0.
        let (layer, needs): (UInt8, [Int]) = switch placeInGroup {
        case _ where isKey: (0, [])
        case _ where !hasLayers: (0, [number - 1])
        case 0: (0, [layers.0])
        case 2: (1, [layers.0])
        case 3: (2, [layers.0, layers.1])
        default: (2, [layers.0])
        }
        // Without the sync bit it may build on the layer's picture before it (RFC 7741 section 4.2): what was lost cannot say that nothing does.
        let unit = unit(isKey: isKey, filling: pictureBytes(isKey: isKey), needs: needs, mayNeed: hasLayers && placeInGroup == 3 && !isKey ? [number - 2] : [])
        if layer == 0 {
            layers = (unit.number, unit.number)
            layerIndex &+= 1
        }
        if layer == 1 { layers.1 = unit.number }
        let isSync = layer > 0 && placeInGroup < 3
        placeInGroup = (placeInGroup + 1) % 4
        pictureID = (pictureID + 1) & 0x7FFF
        var descriptor: [UInt8] = [layer == 2 ? 0xA0 : 0x80, hasLayers ? 0xE0 : 0x80, 0x80 | UInt8(pictureID >> 8), UInt8(pictureID & 255)]
        if hasLayers { descriptor += [layerIndex, layer << 6 | (isSync ? 0x20 : 0)] }
        let payload = payload(of: unit)
        var time = sendTime()
        for from in stride(from: 0, to: payload.count, by: Self.payloadBytesMax) {
            let to = Swift.min(payload.count, from + Self.payloadBytesMax)
            descriptor[0] = descriptor[0] & 0xEF | (from == 0 ? 0x10 : 0)
            send(descriptor + payload[from..<to], unit, at: time, type: payloadType, marker: to == payload.count)
            time = time + Nanoseconds(count: 200_000)
        }
        ticks += Int64(90_000 / rate)
    }

    mutating func h264(_ rate: Int, _ keySeconds: Double, _ now: Double) {
        let isKey = now >= nextKey
        if isKey { nextKey = now + keySeconds }
        let unit = unit(isKey: isKey, filling: pictureBytes(isKey: isKey), needs: isKey ? [] : [number - 1])
        var time = sendTime()
        if isKey {
            // Both parameter sets in one packet (RFC 6184 section 5.7.1).
            var sets: [UInt8] = [0x78]
            for set in [Self.sequenceParameters, Self.pictureParameters] { sets += [0, UInt8(set.count)] + set }
            send(sets, unit, at: time, type: payloadType, marker: false)
        }
        let slice = slice(of: unit)
        if slice.count <= Self.payloadBytesMax {
            send(slice, unit, at: time, type: payloadType, marker: true)
        } else {
            for from in stride(from: 1, to: slice.count, by: Self.payloadBytesMax) {
                time = time + Nanoseconds(count: 200_000)
                let to = Swift.min(slice.count, from + Self.payloadBytesMax)
                let head = [slice[0] & 0xE0 | 28, slice[0] & 0x1F | (from == 1 ? 0x80 : 0) | (to == slice.count ? 0x40 : 0)]
                send(head + slice[from..<to], unit, at: time, type: payloadType, marker: to == slice.count)
            }
        }
        ticks += Int64(90_000 / rate)
    }

    private mutating func sendTime() -> WallTime {
        Swift.max(lastSent, trueTime(ticks) + Self.encodeLag + Nanoseconds(count: Int64.random(in: 0...3_000_000, using: &random)))
    }
}
