import Foundation

/// Finds the test microphones' tones and beeps in mono sound at 48 kHz.
public struct Listener {
    public static let rate = 48_000.0
    let samples: [Float]

    public init(samples: [Float]) { self.samples = samples }

    /// Amplitude of `hertz` in Hann windows of `window` seconds, one every `hop` seconds.
    public func amplitudes(of hertz: Double, window: Double, hop: Double) -> [(time: Double, amplitude: Double)] {
        let size = Int(window * Self.rate), step = Int(hop * Self.rate)
        guard samples.count >= size else { return [] }
        let hann = (0..<size).map { 0.5 - 0.5 * cos(2 * .pi * Double($0) / Double(size)) }
        let scale = 2 / hann.reduce(0, +)
        let turn = (0..<size).map { 2 * .pi * hertz * Double($0) / Self.rate }
        let (re, im) = (zip(hann, turn).map { $0 * cos($1) * scale }, zip(hann, turn).map { $0 * sin($1) * scale })
        return stride(from: 0, through: samples.count - size, by: step).map { start in
            var (a, b) = (0.0, 0.0)
            samples.withUnsafeBufferPointer { all in
                for i in 0..<size {
                    let x = Double(all[start + i])
                    a += x * re[i]
                    b += x * im[i]
                }
            }
            return ((Double(start) + Double(size) / 2) / Self.rate, (a * a + b * b).squareRoot())
        }
    }

    /// Moments at which a 1 kHz beep of 50 ms begins, to about a millisecond.
    public func beepOnsets() -> [Double] {
        // 2 ms windows hold two whole periods of 1 kHz; onset is where the level crosses half of the beep's plateau.
        let level = amplitudes(of: 1000, window: 0.004, hop: 0.0005)
        guard let loudest = level.map(\.amplitude).max(), loudest > 0.01 else { return [] }
        var onsets: [Double] = []
        var i = 0
        while i < level.count {
            guard level[i].amplitude > loudest * 0.25 else {
                i += 1
                continue
            }
            let plateau = level[min(i + 20, level.count - 1)..<min(i + 60, level.count)].map(\.amplitude).sorted()
            guard !plateau.isEmpty else { break }
            let half = plateau[plateau.count / 2] / 2
            var at = i
            while at > 0, level[at].amplitude > half { at -= 1 }
            while at < level.count - 1, level[at].amplitude < half { at += 1 }
            // A beep lasts: a click of another tone's edge does not.
            let lasting = level[at..<min(at + 80, level.count)].filter { $0.amplitude > half }.count
            if lasting >= 60 { onsets.append(level[at].time) }
            i = at + (lasting >= 60 ? 200 : 20)
        }
        return onsets
    }
}
