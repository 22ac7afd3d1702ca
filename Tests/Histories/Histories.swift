import Foundation

/// Random histories of recordings, each played on the real recorder and on the rules of CONSENT.md.
public enum Histories {
    public struct Failure: Sendable, CustomStringConvertible {
        public var seed: UInt64
        public var steps: [Step]
        public var faults: [String]

        public var description: String {
            "history \(seed) breaks a rule; shortened to \(steps.count) steps:\n" + steps.map { "    \($0)\n" }.joined() + faults.prefix(5).map { "  BROKEN: \($0)\n" }.joined()
        }
    }

    public struct Outcome: Sendable {
        public var counts: [String: Int] = [:]
        public var failure: Failure?
    }

    /// Plays the history of `seed`; one that breaks a rule is shortened as far as it still does.
    public static func run(seed: UInt64, on ground: Ground) async -> Outcome {
        let steps = Step.history(seed: seed)
        let (faults, counts) = await play(steps, ground)
        guard !faults.isEmpty else { return Outcome(counts: counts) }
        let short = await shortened(steps, ground)
        let again = await play(short, ground).faults
        // Where it was a matter of chance: what was seen first.
        return Outcome(counts: counts, failure: again.isEmpty ? Failure(seed: seed, steps: steps, faults: faults) : Failure(seed: seed, steps: short, faults: again))
    }

    /// The rules that these steps break, in words.
    public static func faults(of steps: [Step], on ground: Ground) async -> [String] { await play(steps, ground).faults }

    private static func play(_ steps: [Step], _ ground: Ground) async -> (faults: [String], counts: [String: Int]) {
        do {
            let history = try await History(ground: ground)
            var number = 0
            do {
                for step in steps + [.check] {
                    number += 1
                    await history.count("step \(step.name)")
                    try await history.play(step)
                    if await !history.faults.isEmpty { break }
                    // Not only at the end, where much is gone.
                    if number % 10 == 0 { try await history.check(isWhole: false) }
                    if await !history.faults.isEmpty { break }
                }
            } catch {
                await history.fault("step \(number) threw: \(error)")
            }
            let (faults, counts) = await (history.faults, history.counts)
            await history.end()
            return (faults, counts)
        } catch {
            return (["no recorder: \(error)"], [:])
        }
    }

    /// Drops ever smaller runs of steps while a rule still breaks; at most 300 tries.
    private static func shortened(_ steps: [Step], _ ground: Ground) async -> [Step] {
        var (best, tries, length) = (steps, 0, steps.count / 2)
        while length > 0, tries < 300 {
            var at = 0
            var isShorter = false
            while at < best.count, tries < 300 {
                let candidate = Array(best[..<at] + best[min(at + length, best.count)...])
                tries += 1
                if await !play(candidate, ground).faults.isEmpty {
                    (best, isShorter) = (candidate, true)
                } else {
                    at += length
                }
            }
            if !isShorter || length > 1 { length /= 2 }
        }
        return best
    }
}
