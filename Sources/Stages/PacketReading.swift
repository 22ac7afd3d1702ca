import Depacketize
import FFmpeg
import Media

/// What came of asking a track for its next packet.
enum PacketReadiness {
    case packet
    /// Nothing more is known at the moment.
    case pending
    case over
}

/// Where a track's packets come from: its file, or the track itself while it grows. Confined to one thread.
protocol PacketReading: AnyObject {
    var streams: [Demuxer.Stream] { get }
    func read(into packet: borrowing Packet) throws -> PacketReadiness
    /// Goes on at or before `seconds` of the track's time, perhaps behind where it is; false where it can only read on.
    func skip(to seconds: Double) throws -> Bool
}

extension PacketReading {
    func skip(to seconds: Double) throws -> Bool { false }
}

/// The packets of a file.
final class FilePackets: PacketReading {
    private let demuxer: Demuxer

    init(_ source: any MediaSource, as container: Demuxer.Container) throws { demuxer = try Demuxer(source, as: container) }

    var streams: [Demuxer.Stream] { demuxer.streams }
    /// Goes to the last key frame at or before `seconds`.
    func seek(to seconds: Double) throws { try demuxer.seek(to: seconds) }
    func skip(to seconds: Double) throws -> Bool {
        try demuxer.seek(to: seconds)
        return true
    }
    func read(into packet: borrowing Packet) throws -> PacketReadiness { try demuxer.read(into: packet) ? .packet : .over }
}

/// The access units of a track that grows, of one codec, in microseconds from its first one on.
final class GrowingPackets: PacketReading {
    /// Units that wait at most: those of a minute with 100 pictures, or 100 packets, a second.
    static let unitsMax = 6_000
    /// From here on they are taken out before more come in.
    static let unitsMany = 3_000

    private let described: DescribedStream
    private let codec: Codec
    private let start: WallTime
    /// By how much sound comes out of the decoder later than it went into the encoder, in microseconds.
    private let lag: Int64
    private var waiting: [AccessUnit] = []
    private var used = 0
    var isOver = false

    /// Nil where a track cannot begin with this unit.
    init?(_ first: AccessUnit) {
        guard let coded = CodedStream(first) else { return nil }
        described = DescribedStream(coded, timeBase: Rational(1, 1_000_000))
        (codec, start) = (first.codec, first.time)
        lag = described.stream.isOpus ? Int64(OpusDecoder.preskip) * 1_000_000 / 48_000 : 0
    }

    var streams: [Demuxer.Stream] { [described.stream] }
    var hasMany: Bool { waiting.count - used >= Self.unitsMany }

    /// False for a unit of another codec, or where too many wait.
    func append(_ unit: AccessUnit) -> Bool {
        guard unit.codec == codec, waiting.count - used < Self.unitsMax else { return false }
        waiting.append(unit)
        return true
    }

    func read(into packet: borrowing Packet) throws -> PacketReadiness {
        guard used < waiting.count else { return isOver ? .over : .pending }
        let unit = waiting[used]
        used += 1
        if used == waiting.count || used >= 512 {
            waiting.removeFirst(used)
            used = 0
        }
        try unit.payload.withUnsafeBytes { try packet.fill($0) }
        packet.pts = (unit.time - start).count / 1_000 - lag
        packet.dts = packet.pts
        packet.duration = (unit.duration ?? .zero).count / 1_000
        packet.isKey = unit.isKey
        return .packet
    }
}
