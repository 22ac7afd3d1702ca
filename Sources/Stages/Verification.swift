import FFmpeg
import Foundation
import Media
import Renditions
import SealedFile

/// What an output must turn out to be when it is read again.
enum OutputExpectation {
    /// So many packets, the last of which begins at `last`, in the order of time unless a finished file had them otherwise; an index that leads to
    /// key packets. Their payload is a stranger's, and not decoded.
    case track(packets: Int, last: Nanoseconds, isInOrder: Bool = true)
    /// Sound of so many samples at 48 kHz, up to a frame of its codec, all of it decoded.
    case sound(packets: Int, samples: Int)
    /// One picture for each tick from 0 on, and so many packets of sound beside them, or none.
    case movie(pictures: Int, frameRate: Int, soundPackets: Int?, depth: Depth)
    /// A list of peaks, each a lowest and a highest.
    case peaks(points: Int)
    case still(width: Int, height: Int)

    /// How much of the picture is decoded; times and number of all packets are compared either way.
    enum Depth {
        case all
        /// Pictures that need no other: for a file whose parts were decoded when they were made.
        case keyPictures
    }
}

/// Reads a sealed file and remembers which chunks were authenticated.
final class CheckedSource: MediaSource {
    private let reader: SealedReader
    private var seen: [Bool]

    init(_ reader: SealedReader) {
        self.reader = reader
        seen = [Bool](repeating: false, count: reader.length / SealedReader.chunkBytes + 1)
    }

    var length: Int { reader.length }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let count = try reader.read(at: offset, into: buffer)
        if count > 0 { for chunk in offset / SealedReader.chunkBytes...(offset + count - 1) / SealedReader.chunkBytes { seen[chunk] = true } }
        return count
    }

    /// Reads what a demuxer went past, such as the room that an index did not need.
    func readRest() throws {
        for chunk in seen.indices where !seen[chunk] && chunk * SealedReader.chunkBytes < length { _ = try reader.read(at: chunk * SealedReader.chunkBytes, count: 1) }
    }

    func all() throws -> [UInt8] { try reader.read(at: 0, count: length) }
}

/// Reads a written file back from its descriptor, by a reader, demuxer and decoders of its own, and compares it with what was planned.
///
/// It runs in the stage's process: nothing of a stranger's is decoded anywhere else. Throws ``StageFailure`` of the code `notVerified`.
struct Verification {
    let output: StageOutput
    let descriptor: Int32
    let bytes: Int64
    /// Threads that decode pictures: no more than the stage was given for encoding them.
    var threads = 1
    let progress: (Double) -> Void

    func check(_ expectation: OutputExpectation) throws -> OutputVerification {
        do {
            let source = CheckedSource(try SealedReader(descriptor: descriptor, key: output.key, context: output.context))
            guard source.length == bytes else { throw Self.failure("it has \(source.length) bytes of \(bytes)") }
            let found = try compare(source, expectation)
            try source.readRest()
            return found
        } catch let failure as StageFailure {
            throw failure
        } catch {
            throw Self.failure("\(error)")
        }
    }

    static func failure(_ what: String) -> StageFailure {
        StageFailure(code: .notVerified, what: "the file that was written does not read back as it should: \(what)", hint: "what was there before is kept; retry the job, and look at the disk")
    }

    private func compare(_ source: CheckedSource, _ expectation: OutputExpectation) throws -> OutputVerification {
        switch expectation {
        case .track(let packets, let last, let isInOrder): try track(source, packets, last, isInOrder)
        case .sound(let packets, let samples): try sound(source, packets, samples)
        case .movie(let pictures, let rate, let soundPackets, let depth): try movie(source, pictures, rate, soundPackets, depth)
        case .peaks(let points): try peaks(source, points)
        case .still(let width, let height): try still(source, width, height)
        }
    }

    var container: Demuxer.Container { output.container == .ogg ? .ogg : output.container == .matroska ? .matroska : .mp4 }

    /// Goes through all packets; `body` gets those of known streams.
    private func read(_ demuxer: Demuxer, _ of: Int, _ body: (borrowing Packet, Demuxer.Stream) throws -> Void) throws -> Int {
        let packet = Packet(), streams = demuxer.streams
        var count = 0
        var times: [Int: Int64] = [:]
        while try demuxer.read(into: packet) {
            guard streams.indices.contains(packet.streamIndex), packet.hasTime else { throw Self.failure("packet \(count) has no time or no stream") }
            if packet.hasDecodingTime {
                guard times[packet.streamIndex].map({ packet.dts >= $0 }) ?? true else { throw Self.failure("packet \(count) comes after a later one") }
                times[packet.streamIndex] = packet.dts
            }
            try body(packet, streams[packet.streamIndex])
            count += 1
            progress(Double(count) / Double(max(of, 1)))
        }
        return count
    }

    /// Its packets are counted and its index is followed in the file's own bytes; then a demuxer opens it and gets at both of its ends. What the
    /// packets carry is as it was written where every chunk authenticates.
    private func track(_ source: CheckedSource, _ packets: Int, _ last: Nanoseconds, _ isInOrder: Bool) throws -> OutputVerification {
        guard container == .matroska else { throw Self.failure("a track is no \(container.rawValue)") }
        let outline = try MatroskaOutline(source, progress: progress)
        guard outline.packets == packets else { throw Self.failure("\(outline.packets) packets of \(packets)") }
        guard outline.isInOrder || !isInOrder else { throw Self.failure("a packet comes after a later one") }
        // Matroska counts milliseconds, and takes a decoder's delay off the times of sound.
        let end = Double(outline.lastMs) / 1_000
        guard abs(end - last.seconds) <= 0.1 else { throw Self.failure("its last packet is at \(end) s, not at \(last.seconds)") }
        try readEnds(Demuxer(source, as: container), last: last.seconds, within: 0.1, decodes: false)
        return OutputVerification(packets: outline.packets)
    }

    private func sound(_ source: CheckedSource, _ packets: Int, _ samples: Int) throws -> OutputVerification {
        let demuxer = try Demuxer(source, as: container)
        guard let stream = demuxer.streams.first, demuxer.streams.count == 1, stream.isAudio else { throw Self.failure("it is not one stream of sound") }
        let decoding = try Decoding(stream)
        let count = try read(demuxer, packets) { packet, _ in try decoding.take(packet) }
        try decoding.finish()
        guard count == packets else { throw Self.failure("\(count) packets of \(packets)") }
        guard abs(decoding.samples - samples) <= Self.frameSamples else { throw Self.failure("\(decoding.samples) samples of \(samples)") }
        return OutputVerification(packets: count, samples: decoding.samples)
    }

    /// One frame of AAC; of Opus it is 960.
    private static let frameSamples = 1_024

    private func movie(_ source: CheckedSource, _ pictures: Int, _ rate: Int, _ soundPackets: Int?, _ depth: OutputExpectation.Depth) throws -> OutputVerification {
        let demuxer = try Demuxer(source, as: .mp4)
        guard let stream = demuxer.streams.first(where: \.isVideo), demuxer.streams.count == (soundPackets == nil ? 1 : 2) else { throw Self.failure("it has \(demuxer.streams.count) streams") }
        let seeing = try Decoding(stream, threads: threads)
        let hearing = try demuxer.streams.first(where: \.isAudio).map { try Decoding($0) }
        var (seen, sounds) = ([Bool](repeating: false, count: pictures), 0)
        var keys = 0
        let count = try read(demuxer, pictures + (soundPackets ?? 0)) { packet, from in
            guard from.index == stream.index else {
                sounds += 1
                try hearing?.take(packet)
                return
            }
            let tick = Int((Double(packet.pts) * from.timeBase.value * Double(rate)).rounded())
            guard seen.indices.contains(tick), !seen[tick] else { throw Self.failure("there is a picture at tick \(tick) of \(pictures), or two") }
            seen[tick] = true
            if packet.isKey { keys += 1 }
            if depth == .all || packet.isKey { try seeing.take(packet) }
        }
        try seeing.finish()
        try hearing?.finish()
        guard let first = seen.firstIndex(of: false) else {
            guard sounds == soundPackets ?? 0 else { throw Self.failure("\(sounds) packets of sound, not \(soundPackets ?? 0)") }
            let wanted = depth == .all ? pictures : keys
            guard seeing.pictures == wanted else { throw Self.failure("\(seeing.pictures) of \(wanted) pictures could be decoded") }
            return OutputVerification(packets: count, pictures: seeing.pictures, samples: hearing?.samples)
        }
        throw Self.failure("there is no picture at tick \(first) of \(pictures)")
    }

    private struct PeakFile: Decodable {
        var length: Int
        var data: [Int8]
    }

    private func peaks(_ source: CheckedSource, _ points: Int) throws -> OutputVerification {
        let file = try JSONDecoder().decode(PeakFile.self, from: Data(try source.all()))
        guard file.length == points, file.data.count == 2 * points else { throw Self.failure("\(file.data.count / 2) peaks of \(points)") }
        return OutputVerification(packets: points)
    }

    private func still(_ source: CheckedSource, _ width: Int, _ height: Int) throws -> OutputVerification {
        let packet = Packet(), frame = Frame()
        try source.all().withUnsafeBytes { try packet.fill($0) }
        let decoder = try Decoder.jpeg()
        try decoder.send(packet)
        try decoder.drain()
        guard try decoder.receive(into: frame), !frame.isDamaged else { throw Self.failure("the picture cannot be decoded") }
        guard (frame.width, frame.height) == (width, height) else { throw Self.failure("a picture of \(frame.width) x \(frame.height)") }
        return OutputVerification(packets: 1, pictures: 1)
    }
}

/// Decodes one stream of our own making, of which nothing may be damaged, and counts what comes out.
final class Decoding {
    private let decoder: Decoder
    private let frame = Frame()
    private(set) var pictures = 0
    private(set) var samples = 0

    init(_ stream: Demuxer.Stream, threads: Int = 1) throws { decoder = try Decoder(stream, threads: threads) }

    func take(_ packet: borrowing Packet) throws {
        try decoder.send(packet)
        try count()
    }

    func finish() throws {
        try decoder.drain()
        try count()
    }

    private func count() throws {
        while try decoder.receive(into: frame) {
            guard !frame.isDamaged else { throw Verification.failure("a frame is damaged") }
            if frame.samples > 0 { samples += frame.samples } else { pictures += 1 }
        }
    }
}
