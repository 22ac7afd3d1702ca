import Media
import RTP

/// Sound: one unit, one packet.
extension PacketSource {
    mutating func opus(_ frameMs: Int, _ isDiscontinuous: Bool, _ now: Double) {
        let length = Int64(frameMs * 48)
        if isDiscontinuous, now >= turnEnds {
            speaks.toggle()
            turnEnds = now + (speaks ? .random(in: 0.5...8, using: &random) : .random(in: 0.5...20, using: &random))
            silentFrames = 0
        }
        if isDiscontinuous, !speaks {
            silentFrames += 1
            // Every 400 ms comfort noise and one byte; nothing between.
            switch (silentFrames - 1) * frameMs % 400 {
            case 0: sound(unit(filling: 4), length: length, marker: false)
            case 1...frameMs: sound(unit(isDiscontinuous: true, filling: 0), length: length, marker: false)
            default: ticks += length
            }
            return
        }
        // Two, three or six frames of the same length.
        sound(unit(filling: 6 * Int.random(in: 6...24, using: &random) + 4), length: length, marker: isDiscontinuous && silentFrames > 0)
        silentFrames = 0
    }

    mutating func sound(_ unit: SentUnit, length: Int64, marker: Bool) {
        let payload = payload(of: unit)
        let sentAt = Swift.max(lastSent, trueTime(ticks + length))
        if redundancy > 0 {
            var red: [UInt8] = []
            red.reserveCapacity(payload.count * (redundancy + 1) + 16)
            let carried = earlier.filter { ticks - $0.ticks < 1 << 14 && $0.payload.count < 1 << 10 }
            for block in carried {
                let place = UInt32(truncatingIfNeeded: ticks - block.ticks) << 10 | UInt32(block.payload.count)
                red += [0x80 | payloadType, UInt8(truncatingIfNeeded: place >> 16), UInt8(truncatingIfNeeded: place >> 8), UInt8(truncatingIfNeeded: place)]
            }
            red.append(payloadType)
            for block in carried { red += block.payload }
            red += payload
            earlier = (earlier + [(ticks, payload)]).suffix(redundancy)
            send(red, unit, at: sentAt, type: Self.redundancyType, marker: marker)
        } else {
            send(payload, unit, at: sentAt, type: payloadType, marker: marker)
        }
        ticks += length
    }

    mutating func send(_ payload: [UInt8], _ unit: SentUnit, at time: WallTime, type: UInt8, marker: Bool) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(payload.count + 20)
        var level: UInt8?
        if case .opus(_, let isDiscontinuous, true) = content { level = isDiscontinuous && !speaks ? 127 : 0x80 | UInt8.random(in: 20...40, using: &random) }
        bytes.append(level == nil ? 0x80 : 0x90)
        bytes.append(type | (marker ? 0x80 : 0))
        bytes.append(be: sequence)
        bytes.append(be: firstTimestamp &+ UInt32(truncatingIfNeeded: ticks))
        bytes.append(be: ssrc(life: life).rawValue)
        if let level { bytes += [0xBE, 0xDE, 0, 1, 0x10, level, 0, 0] }
        bytes += payload
        sequence &+= 1
        packetsOfLife &+= 1
        octetsOfLife &+= UInt32(payload.count)
        lastSent = time
        queue.append(SentPacket(sentAt: time, bytes: bytes, unit: unit))
    }
}
