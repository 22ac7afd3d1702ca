import Media
import RTP

/// A picture that waits for what becomes of the other layers.
struct HeldFrame: Sendable {
    var frame: VideoFrame
    var codec: Codec
    var ssrc: SSRC
    var time: WallTime
    /// As its sender had said last when it was put together.
    var rotation: Int?
    /// When it was put together, in arrival time.
    var since: WallTime
}

extension Depacketizer {
    /// Pictures of a track with several layers are held for as long as a missing packet of another layer is waited for, and a little more.
    static let holdTime = ReorderBuffer.wait + .milliseconds(250)
    static let heldMax = 1_024
    /// Sources that send at the same time for longer than this are layers; less is the overlap of somebody who joined again.
    static let layerOverlapMin = Nanoseconds.seconds(1)

    /// Whether several SSRCs of a track send pictures at the same time.
    static func isLayered(_ timeline: TrackTimeline) -> Bool {
        var latest: (last: WallTime, ssrc: SSRC)?
        for epoch in timeline.epochs.sorted(by: { ($0.first, $0.ssrc.rawValue) < ($1.first, $1.ssrc.rawValue) }) {
            if let latest, latest.ssrc != epoch.ssrc, min(latest.last, epoch.last) - epoch.first > layerOverlapMin { return true }
            if latest.map({ $0.last < epoch.last }) ?? true { latest = (epoch.last, epoch.ssrc) }
        }
        return false
    }

    /// A layer that gave nothing for so long is gone, or stuck: another one may take its place.
    static let layerStaleAfter = Nanoseconds.milliseconds(500)
    /// Right after a switch, a picture up to this much older than the last one is shown right after it: the layers' clocks agree to some
    /// milliseconds, not exactly.
    static let switchNudgeMax = Nanoseconds.milliseconds(250)

    mutating func givePicture(_ packet: TrackPacket, _ bytes: UnsafeRawBufferPointer, _ codec: Codec, _ timestamp: Int64, _ place: Int, _ epoch: Int,
                              _ emit: (TrackEvent) throws -> Void) rethrows {
        guard !packet.payload.isEmpty else { return }  // padding, which takes a number and holds nothing
        if substreams[place].payloadType != packet.payloadType || substreams[place].assembler == nil {
            guard try change(to: codec, packet.payloadType, place, emit) else { return }
        }
        if let degrees = packet.extensions.rotationDegrees { rotations[substreams.ssrcs[place]] = degrees }
        if descriptorID != nil { noteDependencies(packet, bytes, place) }
        let frames = substreams[place].assembler?.formats.push(UnsafeRawBufferPointer(rebasing: bytes[packet.payload]), timestamp: Self.joined(epoch, timestamp),
                                                               marker: packet.marker, isContiguous: !packet.followsLoss) ?? []
        for frame in frames { try give(frame, codec, place, emit) }
    }

    /// What comes now has another payload type; mostly that is another codec. False for one whose pictures cannot be put together.
    private mutating func change(to codec: Codec, _ payloadType: UInt8, _ place: Int, _ emit: (TrackEvent) throws -> Void) rethrows -> Bool {
        if substreams[place].assembler?.codec != codec {
            try giveOpenFrames(place, emit)
            guard let formats = VideoFormats.assembler(for: codec, parameters: format.parameters[payloadType]) else { return false }
            substreams[place].change(to: codec, formats)
        }
        substreams[place].payloadType = payloadType
        return true
    }

    /// Tells the format what the packet's dependency descriptor says, where there is one. Not of a retransmission: its header is its own.
    private mutating func noteDependencies(_ packet: TrackPacket, _ bytes: UnsafeRawBufferPointer, _ place: Int) {
        guard let descriptorID, packet.origin == .itself else { return }
        guard let header = try? RTPHeader(bytes) else { return }  // it parsed when it came
        var found: Range<Int>?
        header.forEachExtension(in: bytes) { if $0 == descriptorID { found = $1 } }
        if let found { substreams[place].assembler?.formats.note(dependencies: UnsafeRawBufferPointer(rebasing: bytes[found])) }
    }

    /// One number for a time stamp and its epoch, since a frame may be finished by a packet of the next epoch. A day at 90 kHz has 33 bits.
    private static func joined(_ epoch: Int, _ timestamp: Int64) -> Int64 { Int64(epoch) << 44 | timestamp & 0xFFF_FFFF_FFFF }
    private static func parted(_ joined: Int64) -> (epoch: Int, timestamp: Int64) { (Int(joined >> 44), joined & 0xFFF_FFFF_FFFF) }

    /// What can be given of an open frame: nothing more comes for it.
    mutating func giveOpenFrames(_ place: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        guard let codec = substreams[place].assembler?.codec else { return }
        for frame in substreams[place].finishFrame() { try give(frame, codec, place, emit) }
    }

    private mutating func give(_ frame: VideoFrame, _ codec: Codec, _ place: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        let (epoch, timestamp) = Self.parted(frame.timestamp)
        let time = timeline.epochs[epoch].clock.wall(timestamp)
        let ssrc = substreams.ssrcs[place]
        let picture = HeldFrame(frame: frame, codec: codec, ssrc: ssrc, time: time, rotation: rotations[ssrc], since: now)
        guard isLayered else { return try show(picture, emit) }
        var order = held.count
        while order > 0, held[order - 1].time > time { order -= 1 }
        held.insert(picture, at: order)
    }

    /// Which layer is shown is decided in the order of capture, when it is known of each what became of it.
    mutating func showHeld(upTo limit: WallTime, _ emit: (TrackEvent) throws -> Void) rethrows {
        var count = 0
        while count < held.count, held[count].since <= limit || held.count - count > Self.heldMax { count += 1 }
        guard count > 0 else { return }
        let due = held[..<count]
        held.removeFirst(count)
        for frame in due { try show(frame, emit) }
    }

    private mutating func show(_ held: HeldFrame, _ emit: (TrackEvent) throws -> Void) rethrows {
        let frame = held.frame
        // Nil for an SSRC that was forgotten while its picture waited.
        let place = substreams.place(of: held.ssrc)
        if let place, let width = frame.width, let height = frame.height, frame.isKey { substreams[place].area = width * height }
        let isShown = shows(frame, held.ssrc, place, held.time)
        if let place { substreams[place].lastFrame = held.time }
        guard isShown else { return }
        var time = held.time
        if let last = notes.lastTime, time <= last {
            guard let switchedAt, time - switchedAt <= Self.switchNudgeMax, last - time <= Self.switchNudgeMax else {
                notes.verdict.droppedUnits += 1
                if let place { substreams[place].assembler?.formats.lose() }
                return
            }
            time = last + .milliseconds(1)
        }
        notes.take(frame, held.codec, time, rotation: held.rotation, isLayered: isLayered)
        try emit(.accessUnit(AccessUnit(payload: frame.bytes, codec: held.codec, time: time, isKey: frame.isKey, width: frame.width, height: frame.height)))
    }

    /// Whether this SSRC's pictures are those to show: the largest layer that is whole, changed at key frames only.
    private mutating func shows(_ frame: VideoFrame, _ ssrc: SSRC, _ place: Int?, _ time: WallTime) -> Bool {
        guard let current, current != ssrc, let shown = substreams.place(of: current) else {
            current = ssrc
            return true
        }
        guard frame.isKey else { return false }
        let isStale = substreams[shown].lastFrame.map { time - $0 > Self.layerStaleAfter } ?? true
        let isBroken = substreams[shown].assembler?.formats.needsKey ?? true
        guard isStale || isBroken || (place.map { substreams[$0].area } ?? 0) > substreams[shown].area else { return false }
        self.current = ssrc
        switchedAt = time
        return true
    }
}
