import Foundation

/// A rendition judged against what was really sent: who is seen and heard when, and how far apart sound and picture are.
public struct Judgement: Sendable {
    public struct Person: Sendable {
        /// Share of the pictures in which the person is seen while their packets arrive, 0...1.
        public var seen: Double
        /// Share of their tone's windows in which it is heard, 0...1.
        public var heard: Double
        /// Sound minus picture, less the source's own offset, in ms (+ = sound late), one a second.
        public var lipSyncMs: [Double]
        /// Presentation times of the pictures in which they are seen, in seconds.
        public var seenAt: [Double] = []
        /// Presentation times at which their tone is due and not near its edges, and whether it is heard then.
        public var toneAt: [(time: Double, isHeard: Bool)] = []

        public var lipSyncMedian: Double? { lipSyncMs.isEmpty ? nil : lipSyncMs.sorted()[lipSyncMs.count / 2] }
        public var lipSyncP95: Double? {
            guard !lipSyncMs.isEmpty else { return nil }
            return lipSyncMs.map(abs).sorted()[min(lipSyncMs.count - 1, Int(Double(lipSyncMs.count) * 0.95))]
        }
    }

    public var people: [String: Person] = [:]
    /// Pictures in which somebody was seen who should not be.
    public var strangersSeen: [String: Int] = [:]
    /// Loudest tone of those who should not be heard, against the median tone of the others, in dB.
    public var strangersHeardDB: [String: Double] = [:]
    public var pictures = 0
    public var seconds: Double = 0

    /// Judges `file`, whose presentation time 0 is `startWall` (seconds since 1970, on the capture's clock plus `shift`).
    ///
    /// `shift` is what was added to the capture's wall times by replaying it later, in seconds.
    public init(file: URL, width: Int, height: Int, frameRate: Int, startWall: Double, shift: Double, truth: CaptureTruth,
                expected: [String], absent: [String]) throws {
        let names = Dictionary(uniqueKeysWithValues: truth.people.map { ($0.value.index, $0.key) })
        let boxes = CodedPicture.candidates(width: width, height: height)
        var places: [CodedPicture.Box: Int] = [:]
        var shown: [String: [(time: Double, number: Int)]] = [:]
        var count = 0
        try Decoded.pictures(of: file, width: width, height: height) { luma in
            let time = Double(count) / Double(frameRate)
            // Everywhere every tenth picture; at known places always.
            for box in count % 10 == 0 ? boxes : Array(places.keys) {
                guard let (index, number) = CodedPicture.read(luma, width: width, height: height, in: box), let name = names[index] else { continue }
                places[box, default: 0] += 1
                if shown[name]?.last?.time != time { shown[name, default: []].append((time, number)) }
            }
            count += 1
        }
        pictures = count
        let samples = try Decoded.sound(of: file)
        seconds = max(Double(count) / Double(frameRate), Double(samples.count) / Listener.rate)
        let listener = Listener(samples: samples)
        let onsets = listener.beepOnsets()
        let toPresentation = { (wall: Double) in wall + shift - startWall }

        var normal: [Double] = []
        for name in expected {
            guard let person = truth.people[name] else { continue }
            let tone = listener.amplitudes(of: person.toneHz, window: 0.1, hop: 0.05)
            let due = tone.filter { person.toneDue(at: $0.time + startWall - shift, guardSeconds: 0.15) && $0.time < seconds - 0.3 }
            let usual = due.map(\.amplitude).sorted()
            let median = usual.isEmpty ? 0 : usual[usual.count / 2]
            normal.append(median)
            let seen = shown[name] ?? []
            let window = (max(0, toPresentation(person.frames.first?.wall ?? 0)) + 1)...(min(seconds, toPresentation(person.frames.last?.wall ?? 0)) - 0.5)
            let dueFrames = Int((window.upperBound - window.lowerBound) * Double(frameRate))
            people[name] = Person(
                seen: min(1, Double(seen.filter { window.contains($0.time) }.count) / Double(max(1, dueFrames))),
                heard: due.isEmpty || median < 1e-4 ? 0 : Double(due.filter { $0.amplitude > median / 2 }.count) / Double(due.count),
                lipSyncMs: Self.lipSync(person, among: expected.compactMap { truth.people[$0] }, seen, onsets, toPresentation),
                seenAt: seen.map(\.time), toneAt: due.map { ($0.time, median >= 1e-4 && $0.amplitude > median / 2) })
        }
        let reference = normal.sorted().dropFirst(normal.count / 2).first ?? 0
        for name in absent {
            guard let person = truth.people[name] else { continue }
            strangersSeen[name] = shown[name]?.count ?? 0
            let loudest = Self.leak(listener, person.toneHz)
            strangersHeardDB[name] = 20 * log10(max(loudest, 1e-7) / max(reference, 1e-7))
        }
    }

    /// The loudest that a tone is for at least half a second, less what lies beside it (edges of other tones are broad).
    private static func leak(_ listener: Listener, _ hertz: Double) -> Double {
        let at = listener.amplitudes(of: hertz, window: 0.2, hop: 0.1).map(\.amplitude)
        let low = listener.amplitudes(of: hertz - 30, window: 0.2, hop: 0.1).map(\.amplitude)
        let high = listener.amplitudes(of: hertz + 30, window: 0.2, hop: 0.1).map(\.amplitude)
        guard at.count >= 5 else { return 0 }
        let clean = zip(at, zip(low, high)).map { max(0, $0 - max($1.0, $1.1)) }
        return (0...clean.count - 5).map { clean[$0..<$0 + 5].min() ?? 0 }.max() ?? 0
    }

    private static func lipSync(_ person: CaptureTruth.Person, among all: [CaptureTruth.Person], _ seen: [(time: Double, number: Int)],
                                _ onsets: [Double], _ toPresentation: (Double) -> Double) -> [Double] {
        let others = all.filter { $0.index != person.index }.flatMap(\.beepOnsets).map(toPresentation)
        return person.beepSeconds().compactMap { second, wall in
            let due = toPresentation(wall)
            guard !others.contains(where: { abs($0 - due) < 0.12 }),
                  let onset = onsets.min(by: { abs($0 - due) < abs($1 - due) }), abs(onset - due) < 0.25,
                  let flash = seen.first(where: { $0.number == second * CaptureTruth.framesPerSecond }),
                  let captured = person.frames.first(where: { $0.number == second * CaptureTruth.framesPerSecond })
            else { return nil }
            return ((onset - flash.time) - (wall - captured.wall)) * 1000
        }
    }
}

extension CaptureTruth.Person {
    /// Whether the tone sounds at this wall time, at least `guardSeconds` away from its edges.
    func toneDue(at wall: Double, guardSeconds: Double) -> Bool {
        guard let first = beepSeconds().first, let last = beepSeconds().last, wall > first.wall, wall < last.wall else { return false }
        let own = Double(first.second) + (wall - first.wall)
        let phase = own.truncatingRemainder(dividingBy: CaptureTruth.cycleSeconds)
        return toneOn.contains { phase > $0.lowerBound + guardSeconds && phase < $0.upperBound - guardSeconds }
    }
}
