import FFmpeg
import Foundation
import Media
import Renditions
import SealedFile

extension StageRun {
    /// The mix's peaks, in the layout of audiowaveform's JSON, version 2.
    func waveform() throws -> StageResult {
        let (input, context, start) = try rendition()
        let demuxer = try Demuxer(source(input, context), as: .mp4)
        guard let stream = demuxer.streams.first(where: \.isAudio) else { throw StageFailure(code: .damagedInput, what: "a mix without sound") }
        let decoder = try Decoder(stream)
        let perPoint = 48_000 / order.parameters.peaksPerSecond
        var peaks = Peaks(samplesPerPoint: perPoint)
        let packet = Packet(), frame = Frame()
        let length = max(demuxer.duration, 0.001)
        func collect() throws { while try decoder.receive(into: frame) { peaks.add(frame.channel(0)) } }
        while try demuxer.read(into: packet) {
            guard packet.streamIndex == stream.index else { continue }
            try decoder.send(packet)
            progress(Double(packet.pts) * stream.timeBase.value / length)
            try collect()
        }
        try decoder.drain()
        try collect()
        let json = peaks.json()
        let sink = try sink(output(), windowBytes: 0)
        try sink.writer.append(json)
        let digest = try sink.writer.finish()
        expect(try output(), .peaks(points: peaks.points))
        return StageResult(outputs: [Self.report(digest, start: start, duration: Nanoseconds(seconds: peaks.seconds))])
    }

    /// One still picture of the composite.
    func thumbnail() throws -> StageResult {
        let (input, context, start) = try rendition()
        let demuxer = try Demuxer(source(input, context), as: .mp4)
        guard let stream = demuxer.streams.first(where: \.isVideo) else { throw StageFailure(code: .damagedInput, what: "a composite without pictures") }
        let at = demuxer.duration * order.parameters.thumbnailAt
        try demuxer.seek(to: at)
        let decoder = try Decoder(stream)
        let packet = Packet(), frame = Frame()
        var found = false
        // The key frame before the wanted moment is near enough; at most ten seconds of packets are tried.
        for _ in 0..<600 where !found {
            guard try demuxer.read(into: packet) else {
                try decoder.drain()
                found = try decoder.receive(into: frame)
                break
            }
            guard packet.streamIndex == stream.index else { continue }
            try decoder.send(packet)
            found = try decoder.receive(into: frame)
        }
        guard found else { throw StageFailure(code: .nothingToDo, what: "no picture could be decoded") }
        let width = min(order.parameters.thumbnailWidth, frame.width) / 2 * 2
        let height = max(2, frame.height * width / max(1, frame.width) / 2 * 2)
        let small = try Frame.picture(width: width, height: height, format: .yuvj420p)
        try Scaler().scale(frame, into: small, x: 0, y: 0, width: width, height: height)
        let encoder = try Encoder.jpeg(width: width, height: height)
        try encoder.send(small)
        try encoder.drain()
        let sink = try sink(output(), windowBytes: 0)
        while try encoder.receive(into: packet) { try sink.append(packet.bytes) }
        let digest = try sink.writer.finish()
        expect(try output(), .still(width: width, height: height))
        return StageResult(outputs: [Self.report(digest, start: start, duration: .zero, width: width, height: height)])
    }

    private func rendition() throws(StageFailure) -> (StageInput, SealedContext, WallTime) {
        for input in order.inputs {
            if case .rendition(let context, let start) = input.content { return (input, context, start) }
        }
        throw StageFailure(code: .nothingToDo, what: "there is nothing to look at")
    }
}

/// The lowest and highest sample of each stretch, as signed bytes.
struct Peaks {
    let samplesPerPoint: Int
    private var values: [Int8] = []
    private var low: Float = 0
    private var high: Float = 0
    private var count = 0
    private var total = 0

    init(samplesPerPoint: Int) { self.samplesPerPoint = samplesPerPoint }

    var seconds: Double { Double(total) / 48_000 }
    /// Stretches that are closed.
    var points: Int { values.count / 2 }

    mutating func add(_ samples: some Collection<Float>) {
        total += samples.count
        for sample in samples {
            low = min(low, sample)
            high = max(high, sample)
            count += 1
            if count == samplesPerPoint { close() }
        }
    }

    private mutating func close() {
        values.append(Int8(max(-128, min(127, (low * 127).rounded()))))
        values.append(Int8(max(-128, min(127, (high * 127).rounded()))))
        (low, high, count) = (0, 0, 0)
    }

    mutating func json() -> [UInt8] {
        if count > 0 { close() }
        let data = values.map(String.init).joined(separator: ",")
        return Array("""
            {"version":2,"channels":1,"sample_rate":48000,"samples_per_pixel":\(samplesPerPoint),"bits":8,"length":\(values.count / 2),"data":[\(data)]}
            """.utf8)
    }
}
