import FFmpeg
import Media
import Renditions
import SealedFile

extension StageRun {
    /// Most tiles of one picture.
    static let tilesMax = 49

    /// All picture tracks in a grid, H.264, with the mix beside it, in an MP4 that plays while it loads; or one part of it, without sound; or the
    /// whole put together from its parts.
    func compose() throws -> StageResult {
        if order.inputs.contains(where: \.isPicture) { return try join() }
        let rate = order.parameters.frameRate
        let all = Int((try span().duration.seconds * Double(rate)).rounded(.up))
        let ticks = order.part?.ticks(of: all) ?? 0..<all
        guard !ticks.isEmpty else { throw StageFailure(code: .nothingToDo, what: "there is no time to fill") }
        let composer = try Composer(self, from: ticks.lowerBound)
        let movie = try Movie(self, ticks: ticks.count)
        let stream = try movie.muxer.addStream(composer.encoder)
        let sound = try order.part == nil ? mixedSound(movie.muxer) : nil
        try movie.muxer.writeHeader()
        try composer.encode(ticks) { packet in
            try movie.muxer.write(packet, stream: stream, timeBase: composer.encoder.timeBase)
        } each: { tick in
            try sound?.copy(upTo: Double(tick - ticks.lowerBound) / Double(rate))
            progress(Double(tick - ticks.lowerBound) / Double(ticks.count))
        }
        try sound?.copy(upTo: .infinity)
        return try movie.finish(self, ticks, soundPackets: sound?.copied, depth: .all)
    }

    /// Puts parts one behind the other, each packet as it was encoded, with the mix beside them. Throws where a part is not as long as planned.
    private func join() throws -> StageResult {
        let rate = order.parameters.frameRate
        let all = Int((try span().duration.seconds * Double(rate)).rounded(.up))
        let parts = order.inputs.filter(\.isPicture)
        let movie = try Movie(self, ticks: all)
        var copy: PictureCopy?
        var sound: SoundCopy?
        for (index, input) in parts.enumerated() {
            guard case .rendition(let context, _) = input.content else { continue }
            let ticks = StagePart(index: index, count: parts.count).ticks(of: all)
            let next = try PictureCopy(source(input, context), into: movie.muxer, stream: copy?.target, rate: rate, at: ticks)
            if copy == nil {
                sound = try mixedSound(movie.muxer)
                try movie.muxer.writeHeader()
            }
            copy = next
            try next.copy { tick in
                try sound?.copy(upTo: Double(tick) / Double(rate))
                progress(Double(tick) / Double(max(1, all)))
            }
        }
        try sound?.copy(upTo: .infinity)
        // The parts' pictures were all decoded when they were made.
        return try movie.finish(self, 0..<all, soundPackets: sound?.copied, depth: .keyPictures)
    }

    private func mixedSound(_ muxer: Muxer) throws -> SoundCopy? {
        for input in order.inputs where !input.isPicture {
            guard case .rendition(let context, let start) = input.content else { continue }
            return try SoundCopy(source(input, context), into: muxer, after: try start - span().start)
        }
        return nil
    }
}

/// The MP4 that a composite, or a part of one, is written into.
private struct Movie {
    let sink: SealedSink
    let muxer: Muxer

    init(_ run: StageRun, ticks: Int) throws {
        let rate = run.order.parameters.frameRate
        let head = MovieHead.bytes(seconds: Double(ticks) / Double(rate), picturesPerSecond: rate)
        sink = try run.sink(run.output(), windowBytes: head + 4_096)
        muxer = try Muxer(sink, as: .mp4, options: ["moov_size": String(head)])
    }

    func finish(_ run: StageRun, _ ticks: Range<Int>, soundPackets: Int?, depth: OutputExpectation.Depth) throws -> StageResult {
        try muxer.finish()
        let digest = try sink.writer.finish()
        let parameters = run.order.parameters
        let (start, rate) = (try run.span().start, Int64(parameters.frameRate))
        run.expect(try run.output(), .movie(pictures: ticks.count, frameRate: parameters.frameRate, soundPackets: soundPackets, depth: depth))
        let place = { (tick: Int) in Nanoseconds(count: Int64(tick) * 1_000_000_000 / rate) }
        return StageResult(outputs: [StageRun.report(digest, start: start + place(ticks.lowerBound), duration: place(ticks.upperBound) - place(ticks.lowerBound), frames: ticks.count,
                                                     width: parameters.width, height: parameters.height)])
    }
}

/// Copies the mix's packets beside the picture, without encoding them again.
final class SoundCopy {
    private let demuxer: Demuxer
    private let muxer: Muxer
    private let stream: Demuxer.Stream
    private let target: Int
    private let packet = Packet()
    private var isWaiting = false
    /// Packets that were copied.
    private(set) var copied = 0
    /// How much later than the picture the mix begins, in its time base; 0 unless the two were planned apart.
    private let offset: Int64

    init(_ source: any MediaSource, into muxer: Muxer, after delay: Nanoseconds) throws {
        demuxer = try Demuxer(source, as: .mp4)
        guard let audio = demuxer.streams.first(where: \.isAudio) else { throw StageFailure(code: .damagedInput, what: "a mix without sound") }
        stream = audio
        self.muxer = muxer
        target = try muxer.addStream(copying: audio)
        offset = Int64((delay.seconds / audio.timeBase.value).rounded())
    }

    func copy(upTo seconds: Double) throws {
        while true {
            if !isWaiting {
                guard try demuxer.read(into: packet) else { return }
                isWaiting = packet.streamIndex == stream.index
                packet.pts += offset
                packet.dts += offset
                continue
            }
            guard Double(packet.dts) * stream.timeBase.value <= seconds else { return }
            try muxer.write(packet, stream: target, timeBase: stream.timeBase)
            copied += 1
            isWaiting = false
        }
    }
}
