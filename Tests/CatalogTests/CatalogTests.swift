import Catalog
import Foundation
import GRDB
import Media
import SealedFile
import TestSupport
import Testing

@Suite("Catalog and key store")
struct CatalogTests {
    let folder: TemporaryFolder
    let catalog: Catalog
    let now = WallTime(seconds: 1_000)

    init() throws {
        folder = try TemporaryFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
    }

    @Test("the catalog promises what it is asked to: WAL, FULL, secure_delete, foreign keys")
    func durability() throws { #expect(try catalog.durability() == ["journal_mode": "wal", "synchronous": "2", "secure_delete": "1", "foreign_keys": "1"]) }

    @Test("a recording cannot be without a date, or with one before its start")
    func dated() async throws {
        try await catalog.write { try MeetingRecord(id: "m", title: nil, createdAt: 0).insert($0) }
        let record = RecordingRecord(id: "r", meeting: "m", pipeline: "meeting", state: "recording", retentionDays: 1, startedAt: 10, expiresAt: 10)
        await #expect(throws: DatabaseError.self) { try await catalog.write { try record.insert($0) } }
    }

    @Test("the audit log only grows, and any change of an entry is found")
    func audit() async throws {
        for i in 0..<5 { try await catalog.write { [now] in _ = try AuditLog.append(actor: "a", action: "x", object: "o\(i)", now: now, $0) } }
        #expect(try await catalog.read { try AuditLog.firstBroken($0) } == nil)
        for change in ["UPDATE audit_event SET actor = 'b'", "DELETE FROM audit_event WHERE sequence = 2"] {
            await #expect(throws: DatabaseError.self) { try await catalog.write { try $0.execute(sql: change) } }
        }
        // Somebody with the file and without respect for triggers.
        try await catalog.write { try $0.execute(sql: "DROP TRIGGER audit_event_update; UPDATE audit_event SET actor = 'b' WHERE sequence = 3") }
        #expect(try await catalog.read { try AuditLog.firstBroken($0) } == 3)
    }

    @Test("consent events cannot be changed or removed")
    func appendOnly() async throws {
        try await catalog.write { db in
            try MeetingRecord(id: "m", title: nil, createdAt: 0).insert(db)
            try ParticipantRecord(id: "p", meeting: "m", isMinor: false, createdAt: 0).insert(db)
            try RecordingRecord(id: "r", meeting: "m", pipeline: "meeting", state: "recording", retentionDays: 1, startedAt: 0, expiresAt: 10).insert(db)
            try db.execute(sql: "INSERT INTO consent_event VALUES ('r', 1, 'p', '{}', ?)", arguments: [String(repeating: "0", count: 64)])
        }
        for change in ["UPDATE consent_event SET event = 'x'", "DELETE FROM consent_event"] {
            await #expect(throws: DatabaseError.self) { try await catalog.write { try $0.execute(sql: change) } }
        }
    }

    @Test("Art. 17: a destroyed key is nowhere in the key store's file, and the others still open")
    func destroyed() async throws {
        let root = DataKey.random()
        let store = try KeyStore(path: folder.path + "/keys.sqlite", root: root)
        let (recording, other) = (RecordingID.random(), RecordingID.random())
        let tracks = (0..<20).map { _ in TrackID.random() }
        try await store.create(recording: recording, tracks: tracks, now: now)
        try await store.create(recording: other, tracks: [], now: now)
        let rendition = RenditionID.random()
        _ = try await store.create(rendition: rendition, of: recording, now: now)
        let file = folder.path + "/keys.sqlite"
        let wrapped = try await DatabaseQueue(path: file).read { try Data.fetchAll($0, sql: "SELECT wrapped FROM wrapped_key WHERE id <> ?", arguments: [KeyStore.recording(other)]) }
        #expect(wrapped.count == 22)
        #expect(try wrapped.allSatisfy { try folder.contains(Array($0)) })
        let one = try await store.key(KeyStore.track(tracks[0])).fingerprint(under: root)
        #expect(try await store.destroy([KeyStore.track(tracks[0])]) == [KeyStore.track(tracks[0]): one])
        #expect(try await store.destroy([KeyStore.recording(recording)]).count == 21)
        for bytes in wrapped { #expect(try !folder.contains(Array(bytes))) }
        await #expect(throws: KeyStore.Missing.self) { try await store.key(KeyStore.rendition(rendition)) }
        _ = try await store.key(KeyStore.recording(other))
        #expect(try await store.count() == 1)
    }

    @Test("another root key opens nothing")
    func otherRoot() async throws {
        let path = folder.path + "/keys.sqlite"
        let recording = RecordingID.random()
        try await KeyStore(path: path, root: .random()).create(recording: recording, tracks: [], now: now)
        await #expect(throws: SealedFileError.wrongKeyOrContext) { try await KeyStore(path: path, root: .random()).key(KeyStore.recording(recording)) }
    }
}
