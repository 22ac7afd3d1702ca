import Catalog
import Crypto
import Foundation
import GRDB
import Media
import SealedFile

extension Recorder {
    /// Signs the audit log as it is now.
    func checkpointAudit() async throws {
        let now = clock.now
        try await catalog.write { [signer] in _ = try AuditLog.checkpoint(signer, now: now, $0) }
    }

    /// Signs it where something was written and the last checkpoint is old enough.
    func checkpointAuditIfDue() async throws {
        let now = clock.now
        if try await catalog.read({ try AuditLog.isCheckpointDue(now: now, $0) }) { try await checkpointAudit() }
    }

    /// Writes a receipt's place into the audit log, and the proof of it into the receipt; once.
    func attest(_ receipt: inout ReceiptView, actor: String, at now: WallTime, _ db: Database) throws {
        guard receipt.auditEntry == 0 else { return }
        let proof = try AuditLog.attest(actor: actor, action: receipt.action, object: receipt.recording.rawValue, detail: receipt.auditDetail, now: now, by: signer, db)
        (receipt.auditEntry, receipt.auditProof) = (proof.sequence, proof)
    }
}

extension ReceiptView {
    var action: String { participant == nil ? "recording.erased" : "participant.erased" }

    /// What the audit log says of this receipt: whose it is and what set it off, and SHA-256 of what it says, each field as UTF-8 behind its
    /// length in four bytes.
    var auditDetail: String {
        var fields = [recording.rawValue, policy, trigger, supervisoryAuthority]
            + objects.flatMap { [$0.id, $0.keyFingerprint, $0.ciphertextSha256, String($0.keyDestroyedAt), String($0.unlinkedAt)] }
        // Pairs behind groups of five: what an earlier version did not say changes nothing.
        if let participant { fields += ["participant", participant.rawValue] }
        if let backupsGoneAt { fields += ["backups-gone-at", String(backupsGoneAt)] }
        var hash = SHA256()
        for field in fields {
            withUnsafeBytes(of: UInt32(truncatingIfNeeded: field.utf8.count).bigEndian) { hash.update(bufferPointer: $0) }
            hash.update(data: Data(field.utf8))
        }
        return "\(participant.map { "\($0) " } ?? "")\(trigger) receipt:\(Hexadecimal.text(hash.finalize()))"
    }

    /// What is wrong with the receipt, in words; nil where it is what the audit log says. Without `keys` the key that came with it is believed.
    public func fault(trusting keys: [VerifierKey] = []) -> String? {
        guard let proof = auditProof else { return "it has no proof: it was made before receipts had one" }
        if let fault = proof.fault(trusting: keys) { return fault }
        guard proof.action == action, proof.object == recording.rawValue, proof.sequence == auditEntry, proof.detail == auditDetail else {
            return "what it says is not what the audit log says"
        }
        return nil
    }
}
