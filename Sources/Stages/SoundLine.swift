import FFmpeg
import Media
import Renditions

/// One stream of a sound track: decodes its packets and lays their sound at its place.
///
/// What is missing: of Opus the packet in front of the gap's end comes out of the next one's redundancy, and up to 100 ms behind the gap's
/// beginning are concealed by libopus; of all else up to 60 ms are concealed. Beyond that there is silence of the exact length.
final class SoundLine {
    static let concealSamplesMax = 4_800
    /// Times may be off by less than this, or by half a packet, and still follow each other; beyond it something is missing.
    private static let jitterSamples = 96.0
    /// More than this is always a gap or an overlap.
    private static let jumpSamples = 2_880.0

    private enum Kind {
        case opus(OpusDecoder)
        case other(SoundDecoder)
    }

    private let stream: Demuxer.Stream
    private let kind: Kind
    private let channels: Int
    private let isDrifting: Bool
    private var placer: SoundPlacer
    private var concealment: Concealment
    /// Samples between what a time stamp says and where the sound belongs: the container's rounding of Opus' delay.
    private let lead: Double
    private var scratch: [Float] = []
    /// The packet that was skipped last, to be decoded before the next one that is not.
    private var skipped: [UInt8] = []
    private let give: (Int, [Float]) -> Void

    init(_ stream: Demuxer.Stream, channels: Int, isDrifting: Bool, give: @escaping (Int, [Float]) -> Void) throws {
        (self.stream, self.channels, self.isDrifting, self.give) = (stream, channels, isDrifting, give)
        if stream.isOpus {
            kind = .opus(try OpusDecoder(channels: channels))
            scratch = [Float](repeating: 0, count: OpusDecoder.packetSamplesMax * channels)
            placer = try SoundPlacer(rate: 48_000, channels: channels, isDrifting: isDrifting)
            concealment = Concealment(rate: 48_000, channels: channels)
            lead = stream.paddingRoundedSeconds * 48_000
        } else {
            let decoder = try SoundDecoder(stream, channels: channels)
            kind = .other(decoder)
            placer = try SoundPlacer(rate: decoder.rate, channels: channels, isDrifting: isDrifting)
            concealment = Concealment(rate: decoder.rate, channels: channels)
            lead = 0
        }
    }

    /// Takes a packet whose time stamp 0 lies at `origin`. `isSilent`: nothing is heard in it. `isConverging`: nothing is heard, but what
    /// follows is, so that the decoder must know it.
    func take(_ packet: borrowing Packet, origin: Double, isSilent: Bool, isConverging: Bool) throws {
        switch kind {
        case .opus(let decoder):
            let bytes = packet.bytes
            // Discontinuous transmission: a header alone, or with one byte.
            if bytes.count <= 2 || isSilent || isConverging {
                try rest()
                skipped = isConverging && bytes.count > 2 && decoder.decode(bytes, into: &scratch) != nil ? [] : Array(bytes)
                return
            }
            try take(bytes, decoder, at: origin + seconds(packet.pts) * 48_000 + lead)
        case .other(let decoder):
            // Nothing that these decoders keep in mind would be missed.
            if isSilent { return try rest() }
            do {
                try decoder.decode(packet) { pts, samples in try place(samples, at: origin + seconds(pts) * 48_000, muted: isConverging) }
            } catch is FFmpegError {
                return  // a packet that is none: its time stays silent
            }
        }
    }

    /// Nothing comes for a while.
    func rest() throws {
        try placer.rest(give)
        concealment.rest()
    }

    /// The stream is over.
    func finish(origin: Double) throws {
        if case .other(let decoder) = kind {
            do {
                try decoder.drain { pts, samples in try place(samples, at: origin + seconds(pts) * 48_000, muted: false) }
            } catch is FFmpegError {
                return try rest()  // what it held back is none
            }
        }
        try rest()
    }

    /// Where the next sound goes that follows without a gap; nil while nothing does.
    var front: Double? { placer.front }
    var secondsPerTick: Double { stream.timeBase.value }
    private func seconds(_ pts: Int64) -> Double { Double(pts) * secondsPerTick }

    private func take(_ bytes: UnsafeRawBufferPointer, _ decoder: OpusDecoder, at place: Double) throws {
        if !skipped.isEmpty {
            // After silence the decoder is brought to where the sender's encoder was.
            skipped.withUnsafeBytes { _ = decoder.decode($0, into: &scratch) }
            skipped = []
        }
        let length = OpusDecoder.samples(bytes)
        guard length > 0 else { return try rest() }  // a packet that is none: its time stays silent
        switch relation(of: place, length: Double(length)) {
        case .follows: try placer.steer(to: place, seconds: Double(length) / 48_000)
        case .anew:
            try placer.rest(give)
            placer.begin(at: place)
        case .misses(let missing): try bridge(missing, to: place, decoder, bytes, length)
        }
        guard let count = decoder.decode(bytes, into: &scratch) else { return try rest() }
        try push(count)
    }

    private func bridge(_ missing: Int, to place: Double, _ decoder: OpusDecoder, _ bytes: UnsafeRawBufferPointer, _ length: Int) throws {
        // libopus makes up whole frames of 2.5 ms.
        let isCarried = OpusDecoder.carriesPredecessor(bytes)
        let carried = isCarried ? min(missing, length) / 120 * 120 : 0
        let concealed = min(missing - carried, Self.concealSamplesMax) / 120 * 120
        if concealed > 0, let count = decoder.conceal(missing: concealed, into: &scratch) { try push(count) }
        let rest = missing - carried - concealed
        if rest > Self.concealSamplesMax {
            try placer.rest(give)
            placer.begin(at: place - Double(carried))
        } else if rest > 0 {
            try [Float](repeating: 0, count: rest * channels).withUnsafeBufferPointer { try placer.push($0, give) }
        }
        if carried > 0, let count = decoder.recover(missing: carried, from: bytes, into: &scratch) { try push(count) }
    }

    private func push(_ count: Int) throws {
        try scratch.withUnsafeBufferPointer { try placer.push(UnsafeBufferPointer(rebasing: $0[..<(count * channels)]), give) }
    }

    private func place(_ samples: UnsafeBufferPointer<Float>, at place: Double, muted: Bool) throws {
        if case .other(let decoder) = kind, decoder.rate != placer.rate {
            try rest()
            placer = try SoundPlacer(rate: decoder.rate, channels: channels, isDrifting: isDrifting)
            concealment = Concealment(rate: decoder.rate, channels: channels)
        }
        if muted { return try rest() }
        let scale = 48_000 / Double(placer.rate)
        let length = Double(samples.count / channels) * scale
        switch relation(of: place, length: length) {
        case .follows: try placer.steer(to: place, seconds: length / 48_000)
        case .anew:
            try rest()
            placer.begin(at: place)
        case .misses(let missing):
            let wanted = Int((Double(missing) / scale).rounded())
            let made = concealment.conceal(missing: wanted)
            try made.withUnsafeBufferPointer { try placer.push($0, give) }
            let left = wanted - made.count / channels
            if Double(left) * scale > Double(Self.concealSamplesMax) {
                try rest()
                placer.begin(at: place)
            } else if left > 0 {
                concealment.rest()
                try [Float](repeating: 0, count: left * channels).withUnsafeBufferPointer { try placer.push($0, give) }
            }
        }
        scratch.removeAll(keepingCapacity: true)
        scratch.append(contentsOf: samples)
        concealment.follow(&scratch)
        try scratch.withUnsafeBufferPointer { try placer.push($0, give) }
    }

    private enum Relation {
        case follows, anew
        /// So many samples at 48 kHz are missing before it.
        case misses(Int)
    }

    private func relation(of place: Double, length: Double) -> Relation {
        guard let front = placer.front else { return .anew }
        let error = place - front
        if error < -Self.jumpSamples { return .anew }
        return error < min(Self.jumpSamples, max(Self.jitterSamples, length / 2)) ? .follows : .misses(Int(error.rounded()))
    }
}
