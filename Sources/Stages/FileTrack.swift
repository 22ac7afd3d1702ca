import Depacketize
import FFmpeg
import Glibc
import Media
import Renditions
import SealedFile

/// A finished file as it lies on disk, by descriptor.
final class PlainSource: MediaSource {
    private let descriptor: Int32
    let length: Int

    init(descriptor: Int32) throws(StageFailure) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw StageFailure(code: .protocolViolation, what: "the file is not open") }
        (self.descriptor, length) = (descriptor, Int(status.st_size))
    }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        guard offset >= 0 else { return 0 }
        let count = pread(descriptor, buffer.baseAddress, buffer.count, off_t(offset))
        guard count >= 0 else { throw SealedFileError.system(call: "pread", errno: errno) }
        return count
    }
}

extension StageRun {
    /// One modality of a finished file as a track, nothing transcoded: the sealed Matroska holds that stream and nothing else of the file.
    func remux(_ container: FileContainer, _ kind: MediaKind, _ start: WallTime) throws -> StageResult {
        guard let place = order.inputs.first?.descriptors.first else { throw StageFailure(code: .protocolViolation, what: "a file without a descriptor") }
        let source = try PlainSource(descriptor: descriptor(place))
        let file: ForeignFile
        do { file = try ForeignFile(source, as: ForeignFile.Container(container)) } catch where error.code == -ENOMEM {
            // What libav answers to one stream more than it may make.
            throw StageFailure(code: .limitExceeded, what: "the file has more than \(ForeignFile.streamsMax) streams, or tables that do not fit in memory", hint: "leave one sound and one picture in it")
        } catch {
            throw StageFailure(code: .unsupportedCodec, what: "the file cannot be read as \(container.rawValue): \(error)", hint: "a recording that was not ended properly has no index: repair it first")
        }
        guard file.duration * 1e9 <= Double(FileTrack.longest) else { throw FileTrack.tooLong }
        let stream = try chosen(file, kind)
        file.choose(stream.index)
        let track = try FileTrack(file, stream, kind, start, output(), self)
        let packet = Packet()
        while try file.read(into: packet) {
            try track.write(packet)
            progress(track.share)
        }
        guard let result = try track.finish(self) else { throw StageFailure(code: .nothingToDo, what: "the file's \(stream.codec) stream is empty") }
        return result
    }

    /// The file's own choice of the wanted kind, or the first of it.
    private func chosen(_ file: ForeignFile, _ kind: MediaKind) throws(StageFailure) -> ForeignFile.Stream {
        let all = file.streams.filter { (kind == .audio ? $0.isAudio : $0.isVideo) && !$0.isPicture }
        guard let stream = all.first(where: \.isDefault) ?? all.first else { throw StageFailure(code: .nothingToDo, what: "there is no \(kind == .audio ? "sound" : "picture") in the file") }
        guard ForeignFile.codecs.contains(stream.codec) else {
            throw StageFailure(code: .unsupportedCodec, what: "the codec \(stream.codec) is not supported", hint: "convert the file to MP4 with H.264 and AAC, or to Opus and VP8")
        }
        guard kind == .audio ? (1...8).contains(stream.channels) && stream.sampleRate > 0 : stream.width > 0 && stream.height > 0 && stream.width * stream.height <= Decoder.pixelsMax else {
            throw StageFailure(code: .unsupportedCodec, what: kind == .audio ? "\(stream.channels) channels at \(stream.sampleRate) Hz" : stream.width > 0 ? "pictures of \(stream.width) x \(stream.height)"
                               : "pictures of no known size, or of more than \(Decoder.pixelsMax) pixels", hint: kind == .audio ? nil : "make them smaller")
        }
        return stream
    }
}

extension ForeignFile.Container {
    init(_ container: FileContainer) {
        switch container {
        case .mp4: self = .mp4
        case .matroska: self = .matroska
        case .wav: self = .wav
        case .ogg: self = .ogg
        }
    }
}

/// Writes a foreign stream's packets into one sealed Matroska file, with its times counted from the first of them.
final class FileTrack {
    static let longest: Int64 = 24 * 3_600 * 1_000_000_000
    static let tooLong = StageFailure(code: .limitExceeded, what: "the file is longer than a day", hint: "split it")

    private let (stream, kind, start): (ForeignFile.Stream, MediaKind, WallTime)
    private let sink: SealedSink
    private let muxer: Muxer
    private let place: Int
    private let file: ForeignFile
    /// What the decoder gives out later than it was written, in nanoseconds: Opus files say so, and the times are those of what is heard.
    private let lag: Int64
    /// The file's time that becomes 0.
    private var origin: Int64?
    private var end: Int64 = 0
    /// The latest time of a packet.
    private var last: Int64 = 0
    private var lastKey: Int64?
    private var verdict = TrackVerdict()

    init(_ file: ForeignFile, _ stream: ForeignFile.Stream, _ kind: MediaKind, _ start: WallTime, _ output: StageOutput, _ run: StageRun) throws {
        (self.file, self.stream, self.kind, self.start) = (file, stream, kind, start)
        lag = stream.codec == "opus" ? Int64(min(max(stream.initialPadding, 0), 48_000)) * 1_000_000_000 / 48_000 : 0
        sink = try run.sink(output, windowBytes: 1 << 16)
        muxer = try Muxer(sink, as: .matroska)
        place = try muxer.addStream(copying: file, stream.index)
        try muxer.writeHeader()
        verdict.clock = "file"
        if kind != .audio {
            verdict.resolutions = [.init(at: start, width: stream.width, height: stream.height)]
            let degrees = file.rotation(of: stream.index)
            if degrees != 0 { verdict.rotations = [.init(at: start, degrees: degrees)] }
        }
    }

    var share: Double { file.duration > 0 ? min(1, Double(end) / 1e9 / file.duration) : 0 }

    func write(_ packet: borrowing Packet) throws {
        // A picture begins with one that needs no other.
        guard origin != nil || kind == .audio || packet.isKey else { return verdict.droppedUnits += 1 }
        let zero = origin ?? packet.pts + lag
        origin = zero
        let time = packet.pts - zero
        // What is shown before the first key frame, though it comes after it, needs what is not there.
        guard time >= -lag else { return verdict.droppedUnits += 1 }
        guard time <= Self.longest else { throw Self.tooLong }
        let length = min(max(packet.duration, 0), 60_000_000_000)
        if packet.isKey {
            verdict.keyFrames += kind == .audio ? 0 : 1
            verdict.longestKeyFrameGapMs = max(verdict.longestKeyFrameGapMs, Double(time - (lastKey ?? time)) / 1e6)
            lastKey = time
        }
        if time - end > 1_000_000_000, verdict.gaps.count < TrackVerdict.listMax { verdict.gaps.append(.init(start: wall(end), end: wall(time))) }
        verdict.packets += 1
        verdict.accessUnits += 1
        end = max(end, time + max(length, 1_000_000))
        last = max(last, time)
        packet.pts = time
        packet.dts = min(time, packet.dts - zero)
        try muxer.write(packet, stream: place, timeBase: Rational(1, 1_000_000_000))
    }

    private func wall(_ time: Int64) -> WallTime { start + Nanoseconds(count: (origin ?? 0) + time) }

    /// Nil if nothing was written.
    func finish(_ run: StageRun) throws -> StageResult? {
        guard origin != nil else { return nil }
        try muxer.finish()
        run.expect(try run.output(), .track(packets: verdict.packets, last: Nanoseconds(count: last), isInOrder: false))
        let report = try StageRun.report(track: sink, start: wall(0), duration: Nanoseconds(count: end))
        verdict.malformed = file.isDamaged ? 1 : 0
        (verdict.first, verdict.last) = (wall(0), wall(end))
        let codec = Codec(name: stream.codec, clockRate: kind == .audio ? stream.sampleRate : 90_000, channels: kind == .audio ? stream.channels : 1)
        let summary = TrackSummary(kind: kind, codec: codec, startWall: wall(0), endWall: wall(end), blanks: [], verdict: verdict)
        return StageResult(outputs: [report], track: summary)
    }
}
