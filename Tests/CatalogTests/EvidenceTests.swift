@testable import Catalog
import Crypto
import Foundation
import GRDB
import Media
import SealedFile
import TestSupport
import Testing

@Suite("Evidence and invariants in the schema")
struct EvidenceTests {
    let folder: TemporaryFolder
    let catalog: Catalog
    let now = WallTime(seconds: 1_000)
    let recording = RecordingID(rawValue: "r")!

    init() async throws {
        folder = try TemporaryFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
        try await catalog.write { db in
            try MeetingRecord(id: "m", title: nil, createdAt: 0).insert(db)
            try ParticipantRecord(id: "p", meeting: "m", isMinor: false, createdAt: 0).insert(db)
            try RecordingRecord(id: "r", meeting: "m", pipeline: "meeting", state: "recording", retentionDays: 1, startedAt: 0, expiresAt: 100).insert(db)
        }
    }

    private func execute(_ sql: String) async throws { try await catalog.write { try $0.execute(sql: sql) } }
    private func refused(_ sql: String) async { await #expect(throws: DatabaseError.self, "\(sql)") { try await execute(sql) } }
    private func fold() async throws { try await catalog.read { [recording] in _ = try $0.consentState(of: recording) } }
    private func firstBroken() async throws -> Int? { try await catalog.read { try AuditLog.firstBroken($0) } }

    /// A refusal as it is stored.
    private static let event = #"{"asksErasure":false,"expiresAt":100,"isGuardian":false,"isOwnAct":true,"kind":"refused","language":"de","method":"click","modalities":[],"#
        + #""noticeHash":"","noticeVersion":"","occurredAt":1,"participant":"p","previousHash":"","purposes":[],"receivedAt":1,"recording":"r","#
        + #""retentionClass":"recording","schema":1,"sequence":1}"#

    private func insertEvent() async throws {
        let hash = Hexadecimal.text(SHA256.hash(data: Data(Self.event.utf8)))
        try await catalog.write { try $0.execute(sql: "INSERT INTO consent_event VALUES ('r', 1, 'p', ?, ?)", arguments: [Self.event, hash]) }
    }

    @Test("no entry of the audit log or of a consent history is replaced, inserted between others or left out")
    func noReplacement() async throws {
        for i in 0..<3 { try await catalog.write { [now] in _ = try AuditLog.append(actor: "a", action: "x", object: "o\(i)", now: now, $0) } }
        try await insertEvent()
        let zeros = String(repeating: "0", count: 64)
        for sequence in [2, 9] { await refused("INSERT OR REPLACE INTO audit_event VALUES (\(sequence), 0, 'forged', 'x', 'o', '', '\(zeros.prefix(32))', '\(zeros)', '\(zeros)', '\(zeros)')") }
        for sequence in [1, 3] { await refused("INSERT OR REPLACE INTO consent_event VALUES ('r', \(sequence), 'p', '{}', '\(zeros)')") }
        #expect(try await firstBroken() == nil)
        try await fold()
    }

    @Test("Art. 5(2): one flipped bit in the last consent event is found, too")
    func flippedEvent() async throws {
        try await insertEvent()
        try await fold()
        // Somebody with the file and without respect for triggers.
        for (from, to) in [("refused", "given"), ("\"schema\":1", "\"schema\": 1")] {
            try await catalog.write { try $0.execute(sql: "DROP TRIGGER IF EXISTS consent_event_update; UPDATE consent_event SET event = replace(event, '\(from)', '\(to)')") }
            await #expect(throws: (any Error).self, "\(from) to \(to)") { try await fold() }
            try await catalog.write { try $0.execute(sql: "UPDATE consent_event SET event = ?", arguments: [Self.event]) }
        }
    }

    @Test("the wording that somebody agreed to stays as it was")
    func notice() async throws {
        let zeros = String(repeating: "0", count: 64)
        try await catalog.write { try $0.execute(sql: "INSERT INTO notice VALUES ('\(zeros)', '1', 'de', 'text')") }
        await refused("UPDATE notice SET text = 'another'")
        await refused("DELETE FROM notice")
        await refused("INSERT OR REPLACE INTO notice VALUES ('\(zeros)', '1', 'de', 'another')")
    }

    private func rendition(_ id: String, expires: Int64) -> RenditionRecord {
        RenditionRecord(id: id, recording: "r", stage: "mix", kind: "mix", output: id, container: "mp4", purpose: "share-with-participants", bytes: 1,
                        sha256: String(repeating: "0", count: 64), startWall: 0, duration: 1, width: nil, height: nil, loudness: nil, state: "ready", createdAt: 1, expiresAt: expires)
    }

    @Test("Art. 5(1)(e): a rendition never outlives its recording; a date set earlier holds for it as well")
    func outlives() async throws {
        let (fitting, late) = (rendition("a", expires: 100), rendition("b", expires: 101))
        await #expect(throws: DatabaseError.self) { try await catalog.write { try late.insert($0) } }
        try await catalog.write { try fitting.insert($0) }
        await refused("UPDATE rendition SET expires_at = 101")
        try await catalog.write { try $0.execute(sql: "UPDATE recording SET expires_at = 50") }
        let expires = try await catalog.read { try RenditionRecord.fetchOne($0, key: "a")?.expiresAt }
        #expect(expires == 50)
    }

    @Test("a database of the first version is brought up to date with what it holds")
    func older() async throws {
        let path = folder.path + "/older.sqlite"
        let hash = String(repeating: "0", count: 64)
        let first = try DatabaseQueue(path: path)
        try CatalogSchema.migrator.migrate(first, upTo: "001 meetings, recordings, consent, renditions, jobs, audit")
        try await first.write { [now] db in
            try db.execute(sql: "INSERT INTO notice VALUES ('\(hash)', '2026-11-1', 'de', 'text')")
            let salt = String(repeating: "5", count: 32)
            let entry = AuditEntry(sequence: 1, at: now, actor: "a", action: "x", object: "o", detail: "")
            try db.execute(sql: "INSERT INTO audit_event VALUES (1, ?, 'a', 'x', 'o', '', ?, ?)", arguments: [now.nanoseconds, salt, AuditLog.hashBefore006("", entry, salt)])
        }
        try first.close()
        let now = now
        let broken = try await Catalog(path: path).write { db in
            // The same text under a version that is counted another way is the same notice.
            try db.execute(sql: "INSERT INTO notice VALUES ('\(hash)', '2026-11-1.5d1c0a77', 'de', 'text') ON CONFLICT (hash) DO NOTHING")
            try AuditLog.append(actor: "a", action: "x", object: "o", now: now, db)
            return try AuditLog.firstBroken(db)
        }
        #expect(broken == nil)
    }

    @Test("a database that a newer version wrote is refused, not misread")
    func newer() async throws {
        try await catalog.write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('999 of tomorrow')") }
        try catalog.close()
        #expect(throws: (any Error).self) { try Catalog(path: folder.path + "/catalog.sqlite") }
    }

    @Test("only their owner reads the catalog and the key store", arguments: ["catalog.sqlite", "keys.sqlite"])
    func mode(file: String) async throws {
        let store = try KeyStore(path: folder.path + "/keys.sqlite", root: .random())
        try await store.create(recording: recording, tracks: [], now: now)
        let mode = try FileManager.default.attributesOfItem(atPath: folder.path + "/" + file)[.posixPermissions] as? Int
        #expect(mode == 0o600)
    }

    @Test("a key that cannot be opened any more is destroyed all the same")
    func damagedKey() async throws {
        let path = folder.path + "/keys.sqlite"
        let root = DataKey.random()
        let track = TrackID.random()
        try await KeyStore(path: path, root: root).create(recording: recording, tracks: [track], now: now)
        try await DatabaseQueue(path: path).write { try $0.execute(sql: "UPDATE wrapped_key SET wrapped = zeroblob(60) WHERE parent IS NULL") }
        let store = try KeyStore(path: path, root: root)
        #expect(try await store.destroy([KeyStore.recording(recording)]).count == 2)
        #expect(try await store.count() == 0)
    }
}
