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

    mutating func givePicture(_ packet: TrackPacket, _ codec: Codec, _ timestamp: Int64, _ ssrc: SSRC, _ epoch: Int, _ emit: (TrackEvent) throws -> Void) rethrows {
        guard !packet.payload.isEmpty else { return }  // padding, which takes a number and holds nothing
        if substreams[ssrc]?.assembler?.codec != codec {
            try giveOpenFrames(ssrc, emit)
            guard let formats = VideoFormats.assembler(for: codec, parameters: format.parameters[packet.payloadType]) else { return }
            substreams[ssrc]?.change(to: codec, formats)
        }
        if let degrees = packet.extensions.rotationDegrees { rotations[ssrc] = degrees }
        noteDependencies(packet, ssrc)
        let frames = packet.bytes.withUnsafeBytes {
            substreams[ssrc]?.assembler?.formats.push(UnsafeRawBufferPointer(rebasing: $0[packet.payload]), timestamp: Self.joined(epoch, timestamp), marker: packet.marker,
                                                      isContiguous: !packet.followsLoss) ?? []
        }
        for frame in frames { try give(frame, codec, ssrc, emit) }
    }

    /// Tells the format what the packet's dependency descriptor says, where there is one. Not of a retransmission: its header is its own.
    private mutating func noteDependencies(_ packet: TrackPacket, _ ssrc: SSRC) {
        guard let descriptorID, packet.origin == .itself else { return }
        packet.bytes.withUnsafeBytes { bytes in
            guard let header = try? RTPHeader(bytes) else { return }  // it parsed when it came
            var place: Range<Int>?
            header.forEachExtension(in: bytes) { if $0 == descriptorID { place = $1 } }
            if let place { substreams[ssrc]?.assembler?.formats.note(dependencies: UnsafeRawBufferPointer(rebasing: bytes[place])) }
        }
    }

    /// One number for a time stamp and its epoch, since a frame may be finished by a packet of the next epoch. A day at 90 kHz has 33 bits.
    private static func joined(_ epoch: Int, _ timestamp: Int64) -> Int64 { Int64(epoch) << 44 | timestamp & 0xFFF_FFFF_FFFF }
    private static func parted(_ joined: Int64) -> (epoch: Int, timestamp: Int64) { (Int(joined >> 44), joined & 0xFFF_FFFF_FFFF) }

    /// What can be given of an open frame: nothing more comes for it.
    mutating func giveOpenFrames(_ ssrc: SSRC, _ emit: (TrackEvent) throws -> Void) rethrows {
        guard let codec = substreams[ssrc]?.assembler?.codec else { return }
        for frame in substreams[ssrc]?.finishFrame() ?? [] { try give(frame, codec, ssrc, emit) }
    }

    private mutating func give(_ frame: VideoFrame, _ codec: Codec, _ ssrc: SSRC, _ emit: (TrackEvent) throws -> Void) rethrows {
        let (epoch, timestamp) = Self.parted(frame.timestamp)
        let time = timeline.epochs[epoch].clock.wall(timestamp)
        let picture = HeldFrame(frame: frame, codec: codec, ssrc: ssrc, time: time, rotation: rotations[ssrc], since: now)
        guard isLayered else { return try show(picture, emit) }
        var place = held.count
        while place > 0, held[place - 1].time > time { place -= 1 }
        held.insert(picture, at: place)
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
        let (frame, ssrc) = (held.frame, held.ssrc)
        if let width = frame.width, let height = frame.height, frame.isKey { substreams[ssrc]?.area = width * height }
        let isShown = shows(frame, ssrc, held.time)
        substreams[ssrc]?.lastFrame = held.time
        guard isShown else { return }
        var time = held.time
        if let last = notes.lastTime, time <= last {
            guard let switchedAt, time - switchedAt <= Self.switchNudgeMax, last - time <= Self.switchNudgeMax else {
                notes.verdict.droppedUnits += 1
                substreams[ssrc]?.assembler?.formats.lose()
                return
            }
            time = last + .milliseconds(1)
        }
        notes.take(frame, held.codec, time, rotation: held.rotation, isLayered: isLayered)
        try emit(.accessUnit(AccessUnit(payload: frame.bytes, codec: held.codec, time: time, isKey: frame.isKey, width: frame.width, height: frame.height)))
    }

    /// Whether this SSRC's pictures are those to show: the largest layer that is whole, changed at key frames only.
    private mutating func shows(_ frame: VideoFrame, _ ssrc: SSRC, _ time: WallTime) -> Bool {
        guard let current, current != ssrc, let shown = substreams[current] else {
            current = ssrc
            return true
        }
        guard frame.isKey else { return false }
        let isStale = shown.lastFrame.map { time - $0 > Self.layerStaleAfter } ?? true
        let isBroken = shown.assembler?.formats.needsKey ?? true
        guard isStale || isBroken || (substreams[ssrc]?.area ?? 0) > shown.area else { return false }
        self.current = ssrc
        switchedAt = time
        return true
    }
}
