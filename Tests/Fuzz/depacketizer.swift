import Depacketize
import Media
import RTP

/// A whole track: records of every kind through both passes, with the rules that hold whatever was sent.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var input = Input(start, count)
    let format = formats[Int(input.byte()) % formats.count]
    let types = format.codecs.keys.sorted()
    var records: [TrackRecord] = []
    var (time, sequence, timestamp): (Int64, UInt16, UInt32) = (1_700_000_000_000_000_000, 65_000, .max - 90_000)
    while !input.isEmpty, records.count < 4_096 {
        // Low bits: what it is. 4: far in time; 8: back in time.
        let kind = input.byte()
        let step = Int64(input.byte()) * (kind & 4 != 0 ? 10_000_000_000 : 4_000_000)
        time += kind & 8 != 0 ? -step / 2 : step
        let arrival = WallTime(nanoseconds: time)
        switch kind & 3 {
        case 0:
            // A packet in its place: by how much its numbers go on, its type, its marker.
            let flags = input.byte()
            sequence &+= UInt16(flags & 7)
            timestamp &+= flags & 8 != 0 ? UInt32(input.word()) << 12 : UInt32(flags >> 4 & 3) * 960
            let type = types[Int(input.byte()) % types.count]
            var bytes: [UInt8] = [0x80, type | (flags & 0x80)]
            for shift in [8, 0] { bytes.append(UInt8(truncatingIfNeeded: sequence >> shift)) }
            for shift in [24, 16, 8, 0] { bytes.append(UInt8(truncatingIfNeeded: timestamp >> shift)) }
            bytes += [0, 0, 0, flags & 0x40 != 0 ? input.byte() : 7]
            records.append(.rtp(arrival: arrival, bytes: bytes + input.block()))
        case 1: records.append(.rtp(arrival: arrival, bytes: input.block()))
        case 2: records.append(.rtcp(arrival: arrival, bytes: input.block()))
        default: records.append(.mark(at: arrival, TrackRecord.Mark(rawValue: input.byte() % 5 + 1) ?? .paused))
        }
    }
    var survey = TrackSurvey(format: format)
    for record in records { survey.observe(record) }
    var depacketizer = Depacketizer(format: format, timeline: survey.finish())
    var last: WallTime?
    var units = 0
    func check(_ event: TrackEvent) {
        guard case .accessUnit(let unit) = event else { return }
        if let last { precondition(last < unit.time, "time goes forward") }
        precondition(!unit.payload.isEmpty, "a unit has bytes")
        precondition((unit.duration ?? .zero) >= .zero, "a unit takes time")
        (last, units) = (unit.time, units + 1)
    }
    for record in records { depacketizer.push(record, emit: check) }
    depacketizer.finish(emit: check)
    let verdict = depacketizer.verdict
    precondition(verdict.accessUnits == units, "the verdict counts what came out")
    precondition(verdict.packets == records.count { if case .rtp = $0 { true } else { false } }, "the verdict counts what arrived")
    precondition(verdict.lost >= 0 && verdict.concealedMs >= 0 && verdict.silencedMs >= 0, "no count is negative")
    return 0
}

private let formats: [TrackFormat] = [
    TrackFormat(kind: .audio, codecs: [111: .opus, 63: Codec(name: "red", clockRate: 48_000, channels: 2), 101: Codec(name: "telephone-event", clockRate: 8_000)],
                extensions: [1: HeaderExtensionURI.audioLevel, 6: HeaderExtensionURI.absoluteCaptureTime], parameters: [63: "111/111", 101: "0-15"]),
    TrackFormat(kind: .audio, codecs: [0: Codec(name: "PCMU", clockRate: 8_000), 8: Codec(name: "PCMA", clockRate: 8_000), 9: Codec(name: "G722", clockRate: 8_000),
                                       10: Codec(name: "L16", clockRate: 44_100, channels: 2), 13: Codec(name: "CN", clockRate: 8_000), 101: Codec(name: "telephone-event", clockRate: 8_000)]),
    picture("VP8"), picture("VP9"), picture("H264"), picture("H265"), picture("AV1"),
    // The codec changes in mid-stream.
    TrackFormat(kind: .video, codecs: [96: Codec(name: "VP8", clockRate: 90_000), 98: Codec(name: "VP9", clockRate: 90_000), 102: Codec(name: "H264", clockRate: 90_000)]),
]

private func picture(_ name: String) -> TrackFormat {
    TrackFormat(kind: .video, codecs: [96: Codec(name: name, clockRate: 90_000), 97: Codec(name: "rtx", clockRate: 90_000)],
                extensions: [5: HeaderExtensionURI.videoOrientation], parameters: [97: "apt=96"], repairs: [8: 7])
}
