import Histories
import Testing

@Suite("Histories")
struct HistoryTests {
    @Test("random histories: never a byte without consent, never one past its date or erased, never a consented second lost")
    func random() async throws {
        let ground = try await Ground()
        defer { ground.remove() }
        var counts: [String: Int] = [:]
        for seed in 0..<120 as Range<UInt64> {
            let outcome = await Histories.run(seed: seed, on: ground)
            counts.merge(outcome.counts, uniquingKeysWith: +)
            if let failure = outcome.failure { Issue.record("\(failure)") }
        }
        // What was never tried shows nothing.
        for what in ["packets that must be kept", "packets that must not", "erased track looked for", "restored", "killed in a stage", "segment torn", "download ok", "download restricted",
                     "download not-consented", "look gone"] { #expect(counts[what, default: 0] > 0, "\(what)") }
    }
}
