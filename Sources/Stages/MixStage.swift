import FFmpeg
import Foundation
import Media
import Renditions

extension StageRun {
    /// 128 MiB: about eleven minutes of one channel.
    static let rememberedSamplesMax = 32 << 20

    /// All sound tracks to one mix: one pass measures the loudness, one writes it at the wanted level.
    func mix() throws -> StageResult {
        let span = try span()
        let tracks = order.inputs.filter { if case .track = $0.content { true } else { false } }
        guard !tracks.isEmpty else { throw StageFailure(code: .nothingToDo, what: "no sound was recorded") }
        let channels = order.parameters.channels
        let total = Int((span.duration.seconds * 48_000).rounded(.up))

        let meter = LoudnessMeter(channels: channels)
        // A short mix is remembered, a long one decoded again: memory stays the same however long the meeting was.
        let isShort = total * channels <= Self.rememberedSamplesMax
        var remembered: [[Float]] = []
        var peak: Float = 0
        try MixReader(self, tracks, span, channels).forEachBlock(total) { block, at in
            peak = max(peak, PeakLimiter.peak(block))
            block.withUnsafeBufferPointer { meter.add($0) }
            if isShort { remembered.append(block) }
            progress(0.4 * Double(at) / Double(total))
        }
        let measured = meter.integrated
        // Silence stays silence; nothing is raised by more than 30 dB.
        let gainDB = min(30, measured.map { order.parameters.loudnessLUFS - $0 } ?? 0)
        let gain = Float(pow(10, gainDB / 20))
        // Peaks between samples are up to half a decibel higher.
        let ceiling = Float(pow(10, (order.parameters.truePeakDB - 0.5) / 20))
        var limiter = PeakLimiter(ceiling: ceiling, channels: channels)

        let writers = try order.outputs.map { try SoundWriter(self, $0, channels: channels, bitrate: order.parameters.audioBitrate, seconds: span.duration.seconds) }
        // Where nothing is limited, the gain says what the loudness becomes (but for what it lifts over the meter's absolute gate).
        let after = peak * gain > ceiling ? LoudnessMeter(channels: channels) : nil
        var skip = PeakLimiter.delay
        var left = total
        func give(_ block: [Float]) throws {
            let part = Array(block.dropFirst(skip * channels).prefix(left * channels))
            skip = max(0, skip - block.count / channels)
            left -= part.count / channels
            part.withUnsafeBufferPointer { after?.add($0) }
            for writer in writers { try writer.write(part) }
        }
        func write(_ block: [Float], _ at: Int) throws {
            var block = block
            block.withUnsafeMutableBufferPointer { samples in
                guard let sample = samples.baseAddress else { return }
                for i in 0..<samples.count { sample[i] *= gain }
            }
            limiter.process(&block)
            try give(block)
            progress(0.4 + 0.6 * Double(at) / Double(total))
        }
        if isShort {
            for (second, block) in remembered.enumerated() { try write(block, second * MixReader.blockSamples) }
        } else {
            try MixReader(self, tracks, span, channels).forEachBlock(total, write)
        }
        var rest = [Float](repeating: 0, count: PeakLimiter.delay * channels)
        limiter.process(&rest)
        try give(rest)
        let digests = try writers.map { try $0.finish() }
        for (output, writer) in zip(order.outputs, writers) { expect(output, .sound(packets: writer.packets, samples: total)) }
        let duration = Nanoseconds(seconds: Double(total) / 48_000)
        let loudness = after.map(\.integrated) ?? measured.map { $0 + gainDB }
        return StageResult(outputs: digests.map { Self.report($0, start: span.start, duration: duration, loudness: loudness) })
    }
}

/// All tracks of a mix, decoded once from start to end in blocks of a second.
struct MixReader {
    static let blockSamples = 48_000
    private let tracks: [TrackSound]
    private let channels: Int

    init(_ run: StageRun, _ inputs: [StageInput], _ span: WallSpan, _ channels: Int) throws {
        self.channels = channels
        tracks = try inputs.compactMap { input in
            guard case .track(let context, let summary) = input.content else { return nil }
            let origin = Int(((summary.startWall - span.start).seconds * 48_000).rounded())
            return try TrackSound(run.source(input, context), origin: origin, channels: channels, summary: summary)
        }
    }

    /// Calls `body` with interleaved blocks and their place, for `total` samples.
    func forEachBlock(_ total: Int, _ body: ([Float], Int) throws -> Void) throws {
        var at = 0
        while at < total {
            var block = [Float](repeating: 0, count: min(Self.blockSamples, total - at) * channels)
            try block.withUnsafeMutableBufferPointer { for track in tracks { try track.add(to: $0, start: at) } }
            try body(block, at)
            at += block.count / channels
        }
    }
}
