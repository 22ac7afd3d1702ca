import Depacketize
import FFmpeg
import Media

/// Writes access units into one Matroska file, nothing transcoded; begins with the first of them. One stream a codec.
final class TrackFileWriter {
    /// Codecs of one track that are kept; a demuxer takes as many streams.
    static let codecsMax = Demuxer.streamsMax
    /// Bytes after which a cluster is closed.
    private static let clusterBytes = 1 << 19

    /// The first unit's.
    private(set) var codec: Codec?
    private(set) var blanks: [WallTime] = []
    /// Units that no stream could take: they came before their codec's first key unit, are no units of their codec, or it has no place in
    /// a track.
    private(set) var refused = 0
    private let sink: any MediaSink
    private let declared: [(Codec, CodedStream)]
    private var muxer: Muxer?
    private var streams: [Codec: (place: Int, isPicture: Bool, isOpaque: Bool)] = [:]
    /// These begin, or go on, with a key unit: what came before was refused, or there was nothing.
    private var broken: Set<Codec> = []
    private var start: WallTime?
    private var end: WallTime?
    /// Where the last unit begins, in the file's milliseconds.
    private(set) var lastMs: Int64 = 0
    /// Units that are in the file.
    private(set) var written = 0
    private let packet = Packet()

    /// `declared`: the streams of a track whose codec changes, which a header must name before they begin; empty for all others.
    init(_ sink: any MediaSink, declared: [(Codec, CodedStream)] = []) { (self.sink, self.declared) = (sink, declared) }

    func take(_ event: TrackEvent) throws {
        switch event {
        case .blank(let time): if blanks.count < TrackVerdict.listMax { blanks.append(time) }
        case .accessUnit(let unit): try write(unit)
        }
    }

    private func write(_ unit: AccessUnit) throws {
        if muxer == nil {
            guard let first = CodedStream(unit) else {
                refused += 1
                return
            }
            try open(unit, first)
        }
        guard let muxer, let start, let stream = streams[unit.codec] else {
            refused += 1
            return
        }
        if unit.isKey { broken.remove(unit.codec) }
        guard !broken.contains(unit.codec) else {
            refused += 1
            return
        }
        if !stream.isOpaque { try unit.payload.withUnsafeBytes { try packet.fill($0) } }
        do {
            try unit.payload.withUnsafeBytes { bytes in
                if stream.isOpaque { packet.refer(to: bytes) }
                defer { packet.unref() }
                // Matroska counts milliseconds. Each time is rounded by itself, so that no error adds up.
                let ms = max(lastMs, Self.milliseconds(unit.time - start))
                lastMs = ms
                packet.pts = ms
                packet.dts = packet.pts
                packet.duration = unit.duration.map(Self.milliseconds) ?? 0
                packet.isKey = unit.isKey
                try muxer.append(packet, stream: stream.place, timeBase: Rational(1, 1000))
            }
        } catch is FFmpegError {
            // The muxer looks into units whose form it changes (H.264, H.265, AV1); what cannot be written to the disk is another error.
            refused += 1
            if stream.isPicture { broken.insert(unit.codec) }
            return
        }
        written += 1
        end = max(end ?? start, unit.time + (unit.duration ?? .milliseconds(1)))
    }

    private func open(_ unit: AccessUnit, _ first: CodedStream) throws {
        // The sealed file authenticates every byte; a checksum beside it takes a fifth of the time. A cluster is put together in memory before it
        // is sealed: one of this size stays in a core's own cache meanwhile.
        let muxer = try Muxer(sink, as: .matroska, options: ["write_crc32": "0", "cluster_size_limit": "\(Self.clusterBytes)"], isDirect: true)
        let all = declared.contains { $0.0 == unit.codec } ? declared : [(unit.codec, first)] + declared
        for (codec, stream) in all.prefix(Self.codecsMax) {
            streams[codec] = (try muxer.addStream(stream), !stream.format.isAudio, stream.format == .vp8)
            broken.insert(codec)
        }
        try muxer.writeHeader()
        (self.muxer, start, codec) = (muxer, unit.time, unit.codec)
    }

    private static func milliseconds(_ time: Nanoseconds) -> Int64 { Int64(time.milliseconds.rounded()) }

    /// When the file begins and ends; nil if nothing was written.
    func finish() throws -> (start: WallTime, end: WallTime)? {
        guard let muxer, let start, let end else { return nil }
        try muxer.finish()
        return (start, end)
    }
}
