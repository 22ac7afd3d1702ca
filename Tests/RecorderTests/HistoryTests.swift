import Consent
import Histories
import Media
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

    private static let all: Set<Modality> = [.audio, .video, .screen]
    private static let both: Set<Purpose> = [.minutes, .shareWithParticipants]
    private static func give(_ person: Int, _ modalities: Set<Modality> = all) -> Step { .give(recording: 0, person: person, by: .own, modalities: modalities, purposes: both, isStale: false) }
    private static let two: [Step] = [.invite(isMinor: false), .invite(isMinor: false), .record(days: 3, isSoundOnly: false, kinds: [[.audio, .video], [.audio]], mixes: []), give(0), give(1)]

    @Test("what random histories found", arguments: [
        // A result that a kill left between its renaming and the catalog, of which no withdrawal knew.
        two + [.speak(recording: 0, lateMs: 0), .stop(0), .crashInStage(skipped: 3, .renamed)],
        // A withdrawal with erasure from a recording that ran, undone by the restore of a backup taken before.
        two + [.speak(recording: 0, lateMs: 0), .write(isSynced: true), .backup, .withdraw(recording: 0, person: 1, by: .own, isErasing: true), .restore],
        // Restricted: the same.
        two + [.speak(recording: 0, lateMs: 0), .stop(0), .restrict(recording: 0, by: .moderator, person: 0, days: 1), .backup, .withdraw(recording: 0, person: 1, by: .own, isErasing: true),
               .restore, .lift(recording: 0, by: .moderator, person: 0)],
        // Somebody withdraws while the stage of their track runs: its file came back behind the erasure.
        two + [.speak(recording: 0, lateMs: 0), .stop(0)] + [.workWhileWithdrawing(skipped: 0, recording: 0, person: 0, isErasing: true)],
        two + [.speak(recording: 0, lateMs: 0), .stop(0)] + [.workWhileWithdrawing(skipped: 1, recording: 0, person: 0, isErasing: true)],
        // Who shares their voice only from now on: the picture that is there is not read any more.
        two + [.speak(recording: 0, lateMs: 0), .stop(0), .work, .release(0), give(0, [.audio])] + (0..<5).map { .read(recording: 0, rendition: $0) },
    ])
    func found(steps: [Step]) async throws {
        let ground = try await Ground()
        defer { ground.remove() }
        #expect(await Histories.faults(of: steps, on: ground) == [])
    }
}
