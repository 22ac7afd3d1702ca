import Depacketize
import FFmpeg
import Media
import PacketLog
import Renditions
import SealedFile

extension StageRun {
    /// Packet log to Matroska, nothing transcoded: one pass for the clock, one for the access units.
    func depacketize() throws -> StageResult {
        guard let input = order.inputs.first, case .packetLog(let identity, let format, let numbers) = input.content, numbers.count == input.descriptors.count else {
            throw StageFailure(code: .protocolViolation, what: "depacketize reads one packet log")
        }
        let segments = zip(numbers, try descriptors(of: input)).map { TrackLogReader.Segment(number: $0, descriptor: $1) }
        var survey = TrackSurvey(format: format)
        let first = TrackLogReader(segments: segments, identity: identity, key: input.key)
        while let record = try first.next() { survey.observe(record) }
        progress(0.4)

        var depacketizer = Depacketizer(format: format, timeline: survey.finish())
        if let unsupported = depacketizer.verdict.unsupported {
            throw StageFailure(code: .unsupportedCodec, what: "the codec \(unsupported) is not supported", hint: "send Opus or VP8")
        }
        let second = TrackLogReader(segments: segments, identity: identity, key: input.key)
        let writer = TrackFileWriter(output: try output(), run: self, kind: format.kind, codec: format.codecs.values.first { Depacketizer.isSupported($0) })
        let total = max(1, first.bytesRead)
        while let record = try second.next() {
            try depacketizer.push(record) { try writer.take($0) }
            progress(0.4 + 0.6 * Double(second.bytesRead) / Double(total))
        }
        try depacketizer.finish { try writer.take($0) }
        let verdict = depacketizer.verdict
        guard let (report, start, end) = try writer.finish() else {
            throw StageFailure(code: .nothingToDo, what: "not one access unit could be decoded out of \(verdict.packets) packets")
        }
        let summary = TrackSummary(kind: format.kind, codec: writer.codec, startWall: start, endWall: end, blanks: writer.blanks, verdict: verdict)
        return StageResult(outputs: [report], track: summary)
    }
}

/// Writes access units into one Matroska file; begins with the first of them.
final class TrackFileWriter {
    let codec: Codec?
    private(set) var blanks: [WallTime] = []
    private let output: StageOutput
    private let run: StageRun
    private let kind: MediaKind
    private var muxer: Muxer?
    private var sink: SealedSink?
    private var stream = 0
    private var start: WallTime?
    private var end: WallTime?
    private let packet = Packet()

    init(output: StageOutput, run: StageRun, kind: MediaKind, codec: Codec?) {
        (self.output, self.run, self.kind, self.codec) = (output, run, kind, codec)
    }

    func take(_ event: TrackEvent) throws {
        switch event {
        case .blank(let time): if blanks.count < TrackVerdict.listMax { blanks.append(time) }
        case .accessUnit(let unit): try write(unit)
        }
    }

    private func write(_ unit: AccessUnit) throws {
        if muxer == nil { try open(unit) }
        guard let muxer, let start else { return }
        try unit.payload.withUnsafeBytes { try packet.fill($0) }
        // A decoder gives Opus out later than it was captured; the file says so, and the times are those of what is heard.
        let lag = kind == .audio ? Int64(OpusDecoder.preskip) * 1_000_000_000 / 48_000 : 0
        packet.pts = (unit.time - start).count - lag
        packet.dts = packet.pts
        packet.duration = unit.duration?.count ?? 0
        packet.isKey = unit.isKey
        try muxer.write(packet, stream: stream, timeBase: Rational(1, 1_000_000_000))
        end = unit.time + (unit.duration ?? .milliseconds(1))
    }

    private func open(_ unit: AccessUnit) throws {
        // Matroska patches its sizes and its seek head within the first chunk.
        let sink = try run.sink(output, windowBytes: 1 << 16)
        let muxer = try Muxer(sink, as: .matroska)
        stream = kind == .audio ? try muxer.addOpus(channels: codec?.channels ?? 2) : try muxer.addVP8(width: unit.width ?? 640, height: unit.height ?? 480)
        try muxer.writeHeader()
        (self.sink, self.muxer, start) = (sink, muxer, unit.time)
    }

    /// Nil if nothing was written.
    func finish() throws -> (OutputReport, WallTime, WallTime)? {
        guard let muxer, let sink, let start, let end else { return nil }
        try muxer.finish()
        let digest = try sink.writer.finish()
        return (StageRun.report(digest, start: start, duration: end - start), start, end)
    }
}
