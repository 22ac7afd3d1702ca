import Depacketize
import FFmpeg
import Media
import PacketLog
import Renditions
import SealedFile

extension StageRun {
    /// Packet log to Matroska, nothing transcoded: one pass for the clock, one for the access units; between them one more for the streams
    /// of a track whose codec changes.
    func depacketize() throws -> StageResult {
        guard let input = order.inputs.first, case .packetLog(let identity, let format, let numbers) = input.content, numbers.count == input.descriptors.count else {
            throw StageFailure(code: .protocolViolation, what: "depacketize reads one packet log")
        }
        let segments = zip(numbers, try descriptors(of: input)).map { TrackLogReader.Segment(number: $0, descriptor: $1) }
        var survey = TrackSurvey(format: format)
        var occurs = [Bool](repeating: false, count: 128)
        let first = TrackLogReader(segments: segments, identity: identity, key: input.key)
        while try first.nextBlock({ record in
            survey.observe(lent: record)
            if case .rtp(_, let bytes) = record, bytes.count > 1 { occurs[Int(bytes[1] & 0x7F)] = true }
        }) {}
        let payloadTypes = Set(occurs.indices.filter { occurs[$0] }.map { UInt8($0) })
        progress(0.4)
        let timeline = survey.finish()

        var depacketizer = Depacketizer(format: format, timeline: timeline)
        if let unsupported = depacketizer.verdict.unsupported {
            throw StageFailure(code: .unsupportedCodec, what: "the codec \(unsupported) is not supported",
                               hint: "send Opus, G.711, G.722 or L16, and VP8, VP9, H.264, H.265 or AV1")
        }
        var declared = StreamCollector()
        if StreamCollector.isNeeded(format, occurring: payloadTypes) {
            let reader = TrackLogReader(segments: segments, identity: identity, key: input.key)
            var dry = Depacketizer(format: format, timeline: timeline)
            while try reader.nextBlock({ record in dry.push(lent: record) { declared.take($0) } }) {}
            dry.finish { declared.take($0) }
        }
        let second = TrackLogReader(segments: segments, identity: identity, key: input.key)
        // Matroska patches its sizes and its seek head within the first chunk.
        let sink = try sink(output(), windowBytes: 1 << 16)
        let writer = TrackFileWriter(sink, declared: declared.streams)
        let total = max(1, first.bytesRead)
        while try second.nextBlock({ record in try depacketizer.push(lent: record) { try writer.take($0) } }) {
            progress(0.4 + 0.6 * Double(second.bytesRead) / Double(total))
        }
        try depacketizer.finish { try writer.take($0) }
        var verdict = depacketizer.verdict
        verdict.droppedUnits += writer.refused
        guard let (start, end) = try writer.finish() else {
            throw StageFailure(code: .nothingToDo, what: "not one access unit could be decoded out of \(verdict.packets) packets")
        }
        let report = try Self.report(track: sink, start: start, duration: end - start)
        expect(try output(), .track(packets: writer.written, last: .milliseconds(writer.lastMs)))
        let summary = TrackSummary(kind: format.kind, codec: writer.codec, startWall: start, endWall: end, blanks: writer.blanks, verdict: verdict)
        return StageResult(outputs: [report], track: summary)
    }
}

/// Finds the streams that a track's file has, each by its codec's first key unit. Keeps their descriptions, not the units.
struct StreamCollector {
    private(set) var streams: [(Codec, CodedStream)] = []

    mutating func take(_ event: TrackEvent) {
        guard case .accessUnit(let unit) = event, unit.isKey, streams.count < TrackFileWriter.codecsMax,
              !streams.contains(where: { $0.0 == unit.codec }), let stream = CodedStream(unit) else { return }
        streams.append((unit.codec, stream))
    }

    /// Whether several codecs may be in the track, judged by the payload types that occur in it. A list that repeats itself (RFC 2198) hides
    /// what it carries, so that any codec of the format may be in it.
    static func isNeeded(_ format: TrackFormat, occurring: Set<UInt8>) -> Bool {
        let hides = format.codecs.contains { $1.name == "red" && occurring.contains($0) }
        return Set(format.codecs.filter { (hides || occurring.contains($0.key)) && CodedStream.Format.byName[$0.value.name] != nil }.values).count > 1
    }
}
