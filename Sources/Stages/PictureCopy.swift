import FFmpeg
import Renditions

/// Copies the pictures of one part behind those of the part before, without encoding them again. Each part begins with a key frame and refers to
/// nothing outside itself, and all were encoded with the same parameters: what is decoded of the whole is what is decoded of the parts.
final class PictureCopy {
    private let demuxer: Demuxer
    private let muxer: Muxer
    private let stream: Demuxer.Stream
    private let ticks: Range<Int>
    private let rate: Int
    private let packet = Packet()
    /// The stream of the whole that the pictures go into.
    let target: Int

    /// `stream`: the whole's, if an earlier part made it. `ticks`: the part's place in the whole.
    init(_ source: any MediaSource, into muxer: Muxer, stream target: Int?, rate: Int, at ticks: Range<Int>) throws {
        demuxer = try Demuxer(source, as: .mp4)
        guard let pictures = demuxer.streams.first(where: \.isVideo) else { throw StageFailure(code: .damagedInput, what: "a part without pictures") }
        // A tick is a whole number of the file's own: nothing is rounded.
        guard Int(pictures.timeBase.denominator) % (rate * Int(pictures.timeBase.numerator)) == 0 else {
            throw StageFailure(code: .protocolViolation, what: "a part's times are not counted in pictures")
        }
        (self.muxer, stream, self.rate, self.ticks) = (muxer, pictures, rate, ticks)
        self.target = try target ?? muxer.addStream(copying: pictures)
    }

    /// `each` gets the tick that the last packet is at, in the order of decoding. `amongEncoded`: into a stream that an encoder's packets go into as
    /// well, and beside others that come in their order.
    func copy(amongEncoded: Bool = false, _ each: (Int) throws -> Void) throws {
        let perTick = Int64(stream.timeBase.denominator) / Int64(rate) / Int64(stream.timeBase.numerator)
        let offset = Int64(ticks.lowerBound) * perTick
        var count = 0
        while try demuxer.read(into: packet) {
            guard packet.streamIndex == stream.index else { continue }
            let place = packet.pts / perTick
            guard packet.pts % perTick == 0, (0..<Int64(ticks.count)).contains(place), count > 0 || packet.isKey else {
                throw StageFailure(code: .damagedInput, what: "a part has a picture where none was planned")
            }
            packet.pts += offset
            packet.dts += offset
            packet.duration = perTick
            if amongEncoded {
                guard try packet.replaceLengthsByStartCodes() else { throw StageFailure(code: .damagedInput, what: "a part's picture is not made of NAL units") }
                try muxer.append(packet, stream: target, timeBase: stream.timeBase)
            } else {
                try muxer.write(packet, stream: target, timeBase: stream.timeBase)
            }
            count += 1
            try each(ticks.lowerBound + Int(place))
        }
        guard count == ticks.count else { throw StageFailure(code: .damagedInput, what: "a part has \(count) pictures instead of \(ticks.count)") }
    }
}
