import Catalog
import Consent
import GRDB
import Media
import Synchronization

/// The end of what outlives a recording: the proof of its consents, and with the last of them the name and address of a person.
///
/// A history goes as a whole, for each event of it holds the hash of the one before. What the audit log says of it is blanked, and one entry
/// says which places: tree, chain and checkpoints verify as before, and nobody can tell from a salted leaf what it said.
extension Recorder {
    /// Recordings whose proofs end in one transaction.
    static let proofsAtOnceMax = 200
    /// How often names are looked through where nothing ended just now, in seconds.
    static let identitiesLookSeconds: Int64 = 3_600

    /// Ends the proofs of recordings that were erased `consentProofYears` ago. By the settled time: what is destroyed does not come back.
    func endProofs() async throws {
        let years = configuration.retention.consentProofYears
        let cutoff = clock.settled - configuration.retention.consentProof
        var hasEnded = false
        while true {
            let due = try await catalog.read { try $0.proofsPastDate(erasedBefore: cutoff, limit: Self.proofsAtOnceMax) }
            guard !due.isEmpty else { break }
            try await catalog.write { [now = clock.now] in try $0.endProofs(of: due, why: "consent proof, \(years) years", now: now) }
            hasEnded = true
        }
        guard hasEnded else { return }
        identitiesLookedAt.withLock { $0 = nil }
        await emptyLog()
    }

    /// Ends names and addresses that nothing needs any more.
    func endIdentities() async throws {
        let now = clock.settled
        let isDue = identitiesLookedAt.withLock { last in last.map { now - $0 >= .seconds(Self.identitiesLookSeconds) } ?? true }
        guard isDue else { return }
        let titles = now - .seconds(Int64(configuration.retention.recordingDaysMax) * 86_400)
        if try await catalog.read({ try $0.hasUnneededIdentities(titlesBefore: titles) }) {
            try await catalog.write { try $0.endIdentities(titlesBefore: titles) }
            await emptyLog()
        }
        // Last: a failure is tried again with the next sweep.
        identitiesLookedAt.withLock { $0 = now }
    }
}
