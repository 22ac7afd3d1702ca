/// The payload descriptor in front of each VP8 packet (RFC 7741 section 4.2) and what a frame's first bytes say (RFC 6386 section 9.1).
struct VP8Descriptor: Hashable {
    /// Where the frame's bytes begin in the payload.
    var start: Int
    /// First packet of partition 0: the frame begins here.
    var beginsFrame: Bool
    var pictureID: Int?
    var isNonReference: Bool

    /// Nil where the payload is too short for what it announces.
    init?(_ payload: UnsafeRawBufferPointer) {
        guard let first = payload.first else { return nil }
        isNonReference = first & 0x20 != 0
        beginsFrame = first & 0x10 != 0 && first & 0x07 == 0
        var at = 1
        pictureID = nil
        if first & 0x80 != 0 {
            guard payload.count > at else { return nil }
            let flags = payload[at]
            at += 1
            if flags & 0x80 != 0 {
                guard payload.count > at else { return nil }
                if payload[at] & 0x80 != 0 {
                    guard payload.count > at + 1 else { return nil }
                    pictureID = Int(payload[at] & 0x7F) << 8 | Int(payload[at + 1])
                    at += 2
                } else {
                    pictureID = Int(payload[at])
                    at += 1
                }
            }
            if flags & 0x40 != 0 { at += 1 }  // TL0PICIDX
            if flags & 0x30 != 0 { at += 1 }  // TID, Y, KEYIDX
        }
        guard payload.count > at else { return nil }
        start = at
    }
}

/// Puts VP8 packets together to frames, in sequence order.
///
/// After a loss nothing is given out until the next key frame: a broken picture is worse than a held one.
struct VP8Assembler {
    /// Longest frame that is put together.
    static let frameBytesMax = 4 << 20

    struct Frame {
        var bytes: [UInt8]
        var timestamp: Int64
        var isKey: Bool
        var width: Int?
        var height: Int?
    }

    private var bytes: [UInt8] = []
    private var timestamp: Int64?
    private var isOpen = false
    private var needsKey = true
    /// Before the first key frame of all there is nothing to lose.
    private var hasBegun = false
    /// Frames and parts of frames that were not given out because of a loss.
    private(set) var dropped = 0

    /// Takes the next packet; `isContiguous` is false when packets before it are missing. Gives the frames that it completes.
    ///
    /// A frame ends with its marker. Some senders leave the marker out: then the next frame's first packet, in direct succession, ends it.
    mutating func push(_ payload: UnsafeRawBufferPointer, timestamp: Int64, marker: Bool, isContiguous: Bool) -> [Frame] {
        if !isContiguous { lose() }
        guard let descriptor = VP8Descriptor(payload) else {
            lose()
            return []
        }
        var done: [Frame] = []
        if descriptor.beginsFrame, self.timestamp != timestamp {
            if isOpen, let frame = close() { done.append(frame) }
            bytes.removeAll(keepingCapacity: true)
            (self.timestamp, isOpen) = (timestamp, true)
        } else if !isOpen || self.timestamp != timestamp {
            if marker, hasBegun { dropped += 1 }
            needsKey = true
            return done
        }
        guard bytes.count + payload.count <= Self.frameBytesMax else {
            lose()
            return done
        }
        bytes.append(contentsOf: payload[descriptor.start...])
        if marker, let frame = close() { done.append(frame) }
        return done
    }

    /// Forgets the open frame and waits for a key frame.
    mutating func lose() {
        if isOpen, hasBegun { dropped += 1 }
        isOpen = false
        needsKey = true
    }

    private mutating func close() -> Frame? {
        isOpen = false
        guard let timestamp, let first = bytes.first else { return nil }
        let isKey = first & 1 == 0
        // A key frame's start code and size (RFC 6386 section 9.1).
        let hasStartCode = bytes.count >= 10 && bytes[3] == 0x9D && bytes[4] == 0x01 && bytes[5] == 0x2A
        guard isKey ? hasStartCode : !needsKey else {
            if hasBegun { dropped += 1 }
            needsKey = true
            return nil
        }
        (needsKey, hasBegun) = (false, true)
        let width = isKey ? (Int(bytes[6]) | Int(bytes[7]) << 8) & 0x3FFF : nil
        let height = isKey ? (Int(bytes[8]) | Int(bytes[9]) << 8) & 0x3FFF : nil
        return Frame(bytes: bytes, timestamp: timestamp, isKey: isKey, width: width, height: height)
    }
}
