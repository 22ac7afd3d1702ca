import Media
import RTP

extension Depacketizer {
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
        var time = timeline.epochs[epoch].clock.wall(timestamp)
        if let width = frame.width, let height = frame.height, frame.isKey { substreams[ssrc]?.area = width * height }
        let isShown = shows(frame, ssrc, time)
        substreams[ssrc]?.lastFrame = time
        guard isShown else { return }
        if let last = notes.lastTime, time <= last {
            guard let switchedAt, time - switchedAt <= Self.switchNudgeMax, last - time <= Self.switchNudgeMax else {
                notes.verdict.droppedUnits += 1
                substreams[ssrc]?.assembler?.formats.lose()
                return
            }
            time = last + .milliseconds(1)
        }
        notes.take(frame, codec, time, rotation: rotations[ssrc], isLayered: substreams.count > 1)
        try emit(.accessUnit(AccessUnit(payload: frame.bytes, codec: codec, time: time, isKey: frame.isKey, width: frame.width, height: frame.height)))
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
