import Catalog
import Consent
import Foundation
import GRDB
import Mail
import Media
@testable import Recorder
import SealedFile
import TestSupport
import Testing

/// A recorder with a mail server beside it, and a recording of three people that was released and read.
struct EvidenceCase {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    let server: MailServer?
    static let policyWarnings = [7, 1]

    init(hasMail: Bool = false, _ change: (inout RecorderConfiguration) -> Void = { _ in }) throws {
        let server = hasMail ? try MailServer() : nil
        self.server = server
        rights = try Rights { configuration in
            configuration.retention.supervisoryAuthority = "LfDI Musterland"
            if let server { configuration.mail = (SMTPRelay(url: server.url)!, MailAddress(rawValue: "aufzeichnung@example.org")!) }
            change(&configuration)
        }
    }

    func released(_ modalities: [String: [Modality]] = ["A": [.audio], "B": [.audio], "C": [.audio]]) async throws -> Rights.Imported {
        let made = try await rights.imported(modalities)
        _ = try await recorder.control(made.id, .release, as: rights.moderator)
        return made
    }

    func mix(_ made: Rights.Imported, as key: String) async throws -> RenditionID {
        try #require(try await recorder.renditions(of: made.id, as: made.principal(key)).first { $0.kind == "mix" }).id
    }

    /// Reads the sound as one of them, in `parts` ranges.
    func read(_ made: Rights.Imported, as key: String, parts: Int = 1) async throws {
        let download = try await recorder.download(try await mix(made, as: key), as: made.principal(key))
        let size = (download.length + parts - 1) / parts
        for part in 0..<parts where part * size < download.length { for try await _ in download.body(part * size..<min(download.length, (part + 1) * size)) {} }
    }

    func later(_ seconds: Double) async throws { _ = try await recorder.advanceClock(bySeconds: seconds, as: rights.operatorPrincipal) }

    struct Entry: Hashable { var actor, action, object, detail: String }

    func log(_ actions: String...) async throws -> [Entry] {
        try await recorder.catalog.read { db in
            try Row.fetchAll(db, sql: "SELECT * FROM audit_event WHERE action IS NOT NULL ORDER BY sequence").map { Entry(actor: $0["actor"], action: $0["action"], object: $0["object"], detail: $0["detail"]) }
        }.filter { actions.contains($0.action) }
    }

    func told(_ who: Principal, _ language: Language = .de) async throws -> [NotificationView] { try await recorder.notifications(in: language, as: who) }

    func number(_ sql: String) async throws -> Int { try await recorder.catalog.read { try Int.fetchOne($0, sql: sql) ?? 0 } }

    func verified() throws -> AuditSummary {
        try AuditReader(path: rights.data.appending(path: "catalog.sqlite").path).verify(keys: [recorder.signer.verifier])
    }

    func report() throws -> RetentionReport { try RetentionReport.read(data: rights.data, policy: recorder.configuration.retention, at: recorder.clock.now) }
}
