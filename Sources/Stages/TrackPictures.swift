import FFmpeg
import Media
import Renditions

/// One picture track, decoded on demand: the picture that is to be seen at a moment. Nothing damaged is ever given out.
///
/// Pictures have their own times, not those of the packets that brought them: one picture is decoded ahead, whatever a decoder holds back.
/// Memory: two pictures, and what the decoders refer to.
final class TrackPictures {
    private let packets: any PacketReading
    private let startWall: WallTime
    /// Made when their codec occurs.
    private var decoders: [Int: Decoder] = [:]
    private let streams: [Int: Demuxer.Stream]
    private let packet = Packet()
    private let decoded = Frame()
    /// The newest picture whose time has come.
    let shown = Frame()
    private(set) var shownTime: WallTime?
    private let upcoming = Frame()
    private var upcomingTime: WallTime?
    private var current: Int?
    /// A picture could not be decoded: what refers to it is not shown either, until a key picture.
    private var isBroken = false
    private var isOver = false
    /// Packets and pictures that could not be used.
    private(set) var errors = 0

    /// `from`: the first moment that will be asked for; decoding begins with the last key frame before it.
    convenience init(_ source: any MediaSource, startWall: WallTime, from: WallTime? = nil) throws {
        let packets = try FilePackets(source, as: .matroska)
        // Where the codec changes, one stream's key frame may lie before another's pictures: these are decoded from their start.
        if let from, from > startWall, packets.streams.count(where: \.isVideo) == 1 { try packets.seek(to: (from - startWall).seconds) }
        try self.init(packets, startWall: startWall)
    }

    init(_ packets: any PacketReading, startWall: WallTime) throws {
        self.packets = packets
        self.startWall = startWall
        streams = Dictionary(uniqueKeysWithValues: packets.streams.filter(\.isVideo).map { ($0.index, $0) })
        guard !streams.isEmpty else { throw StageFailure(code: .damagedInput, what: "a picture track without pictures") }
    }

    /// Goes to the last picture at or before `limit`.
    func advance(to limit: WallTime) throws {
        while true {
            if let time = upcomingTime {
                guard time <= limit else { return }
                shown.swap(upcoming)
                (shownTime, upcomingTime) = (time, nil)
            }
            guard !isOver || current != nil else { return }
            guard try decodeNext() else { return }
        }
    }

    /// Decodes until a picture has come or everything is over; false where nothing more is known.
    private func decodeNext() throws -> Bool {
        while true {
            if let current, let decoder = decoders[current], try receive(from: decoder, current) { return true }
            guard !isOver else {
                current = nil
                return true
            }
            guard try sendNext() else { return false }
        }
    }

    /// Gives the next packet to its decoder. Another codec, or the end, lets the one before give out what it holds back first.
    private func sendNext() throws -> Bool {
        if isWaiting {
            isWaiting = false
        } else {
            repeat {
                switch try packets.read(into: packet) {
                case .packet: continue
                case .pending: return false
                case .over:
                    isOver = true
                    if let current { drain(current) }
                    return true
                }
            } while streams[packet.streamIndex] == nil || !packet.hasTime
        }
        let index = packet.streamIndex
        if let current, current != index, !isDrained {
            drain(current)
            isWaiting = true
            return true
        }
        if current != index {
            if let current { decoders[current] = nil }
            (current, isDrained, isBroken) = (index, false, true)
        }
        guard let stream = streams[index] else { return true }
        if packet.isKey { isBroken = false }
        guard !isBroken else { return true }
        do {
            let decoder = try decoders[index] ?? Decoder(stream)
            decoders[index] = decoder
            try decoder.send(packet)
        } catch {
            damaged(index)
        }
        return true
    }

    /// The packet that was read waits for the codec before it to give out its last pictures.
    private var isWaiting = false
    private var isDrained = false

    private func drain(_ index: Int) {
        isDrained = true
        do { try decoders[index]?.drain() } catch { errors += 1 }
    }

    private func receive(from decoder: Decoder, _ index: Int) throws -> Bool {
        do {
            while try decoder.receive(into: decoded) {
                guard decoded.hasTime, let stream = streams[index] else { continue }
                if decoded.isDamaged {
                    damaged(index)
                    return false
                }
                upcoming.swap(decoded)
                upcomingTime = startWall + Nanoseconds(seconds: Double(upcoming.pts) * stream.timeBase.value)
                return true
            }
        } catch {
            damaged(index)
        }
        return false
    }

    private func damaged(_ index: Int) {
        errors += 1
        isBroken = true
        // A new one goes on: flushed in the middle of a picture, some keep traces of it.
        decoders[index] = nil
    }
}
