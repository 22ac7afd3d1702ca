import FFmpeg
import Foundation
import Media
import Renditions
import SealedFile

/// The mix of a recording that still runs: one continuous encode, fed a second at a time, each second once.
///
/// The loudness of the whole is not known before its end, so the gain is what the sound so far asks for: measured over ``heldSeconds`` before
/// the first sample is written, then moved by at most ``decibelsASecond``. The peaks are limited as in an ordinary mix.
final class LiveMixer {
    static let heldBlocks = 10
    static let decibelsASecond = 0.3
    /// While less than this was heard, the measure is a guess that may be far off.
    static let decibelsASecondAtFirst = 3.0
    static let gainMaxDB = 30.0
    static let blockSamples = 48_000

    let origin: WallTime
    private let parameters: StageParameters
    private let writers: [SoundWriter]
    private var tracks: [TrackSound] = []
    private let meter: LoudnessMeter
    private let after: LoudnessMeter
    private var limiter: PeakLimiter
    private var held: [[Float]] = []
    private var hasBegun = false
    private var heardBlocks = 0
    private var gainDB = 0.0
    /// Samples that were mixed, and those that still have to be left out for the limiter's delay.
    private var at = 0
    private var skip = PeakLimiter.delay
    private var written = 0
    private var peaks: Peaks?

    /// `peaksPerSecond`: of the mix, where they are asked for.
    init(_ rendition: LiveOrder.Rendition, origin: WallTime, sinks: [SealedSink], peaksPerSecond: Int? = nil) throws {
        self.origin = origin
        peaks = peaksPerSecond.map { Peaks(samplesPerPoint: 48_000 / $0) }
        parameters = rendition.parameters
        let channels = parameters.channels
        writers = try zip(rendition.outputs, sinks).map { output, sink in
            try SoundWriter(sink, as: output.container, channels: channels, bitrate: rendition.parameters.audioBitrate,
                            head: MovieHead.live(seconds: LiveRendering.secondsMax, picturesPerSecond: 0))
        }
        (meter, after) = (LoudnessMeter(channels: channels), LoudnessMeter(channels: channels))
        limiter = PeakLimiter(ceiling: Float(pow(10, (parameters.truePeakDB - 0.5) / 20)), channels: channels)
    }

    /// What the files must turn out to be; known after ``finish(end:)``.
    private(set) var expectations: [OutputExpectation] = []

    func writer(_ place: Int) -> SoundWriter { writers[place] }

    /// Sound up to this moment is mixed.
    var mixedUpTo: WallTime { origin + Nanoseconds(seconds: Double(at) / 48_000) }

    func add(_ packets: any PacketReading, from start: WallTime) throws {
        tracks.append(try TrackSound(packets, origin: Int(((start - origin).seconds * 48_000).rounded()), channels: parameters.channels))
    }

    /// Mixes what lies wholly before `limit`.
    func mix(upTo limit: WallTime) throws {
        while mixedUpTo + .seconds(1) <= limit { try mix(Self.blockSamples) }
    }

    /// Mixes the rest up to `end` and finishes the files.
    func finish(end: WallTime) throws -> StageResult {
        let total = Int(((end - origin).seconds * 48_000).rounded(.up))
        while at < total { try mix(min(Self.blockSamples, total - at)) }
        try writeHeld()
        try give([Float](repeating: 0, count: PeakLimiter.delay * parameters.channels), most: total)
        let duration = Nanoseconds(seconds: Double(total) / 48_000)
        let loudness = after.integrated
        let reports = try writers.map { StageRun.report(try $0.finish(), start: origin, duration: duration, loudness: loudness) }
        expectations = writers.map { .sound(packets: $0.packets, samples: total) }
        return StageResult(outputs: reports)
    }

    /// Writes the peaks of the whole; after ``finish(end:)``.
    func finish(peaks sink: SealedSink) throws -> (result: StageResult, expectation: OutputExpectation)? {
        guard var made = peaks else { return nil }
        try sink.writer.append(made.json())
        let digest = try sink.writer.finish()
        return (StageResult(outputs: [StageRun.report(digest, start: origin, duration: Nanoseconds(seconds: made.seconds))]), .peaks(points: made.points))
    }

    private func mix(_ count: Int) throws {
        var block = [Float](repeating: 0, count: count * parameters.channels)
        try block.withUnsafeMutableBufferPointer { for track in tracks { try track.add(to: $0, start: at) } }
        at += count
        block.withUnsafeBufferPointer { meter.add($0) }
        if PeakLimiter.peak(block) > 1e-3 { heardBlocks += 1 }
        guard hasBegun else {
            held.append(block)
            if held.count >= Self.heldBlocks { try writeHeld() }
            return
        }
        try write(block)
    }

    private func writeHeld() throws {
        guard !hasBegun else { return }
        hasBegun = true
        gainDB = wantedDB ?? 0
        for block in held { try write(block) }
        held = []
    }

    /// Silence stays silence.
    private var wantedDB: Double? { meter.integrated.map { min(Self.gainMaxDB, parameters.loudnessLUFS - $0) } }

    /// Writes a block at the gain that moves, from its first sample to its last, towards what is wanted.
    private func write(_ samples: [Float]) throws {
        let step = heardBlocks < Self.heldBlocks ? Self.decibelsASecondAtFirst : Self.decibelsASecond
        let next = wantedDB.map { min(max($0, gainDB - step), gainDB + step) } ?? gainDB
        var block = samples
        let (from, to) = (Float(pow(10, gainDB / 20)), Float(pow(10, next / 20)))
        let (channels, count) = (parameters.channels, samples.count / parameters.channels)
        block.withUnsafeMutableBufferPointer { samples in
            for i in 0..<count {
                let gain = from + (to - from) * Float(i) / Float(count)
                for channel in i * channels..<(i + 1) * channels { samples[channel] *= gain }
            }
        }
        gainDB = next
        try give(block, most: .max)
    }

    private func give(_ block: [Float], most: Int) throws {
        var block = block
        let channels = parameters.channels
        limiter.process(&block)
        let part = Array(block.dropFirst(skip * channels).prefix(most == .max ? .max : max(0, most - written) * channels))
        skip = max(0, skip - block.count / channels)
        written += part.count / channels
        part.withUnsafeBufferPointer { after.add($0) }
        peaks?.add(stride(from: 0, to: part.count, by: channels).lazy.map { part[$0] })
        for writer in writers { try writer.write(part) }
    }
}
