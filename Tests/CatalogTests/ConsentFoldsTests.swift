@testable import Catalog
import Consent
import Foundation
import GRDB
import Media
import TestSupport
import Testing

/// What is remembered of a history is what folding it anew gives, whoever changed it, and whenever.
@Suite("Consents that are asked for again and again")
struct ConsentFoldsTests {
    private let folder: TemporaryFolder
    private let catalog: Catalog
    private let recording = RecordingID(rawValue: "r")!

    init() async throws {
        folder = try TemporaryFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
        try await catalog.write { db in
            try MeetingRecord(id: "m", title: nil, createdAt: 0).insert(db)
            for person in 0..<5 { try ParticipantRecord(id: "p\(person)", meeting: "m", isMinor: false, createdAt: 0).insert(db) }
            for id in ["r", "other"] { try RecordingRecord(id: id, meeting: "m", pipeline: "meeting", state: "recording", retentionDays: 1, startedAt: 0, expiresAt: 100).insert(db) }
        }
    }

    /// Adds a decision to the history as it is stored, in any process.
    private func add(_ place: Int, to recording: RecordingID, _ db: Database) throws {
        let state = try db.consentState(of: recording)
        let allows = place % 3 != 2
        let event = ConsentEvent(
            sequence: state.count + 1, recording: recording, participant: ParticipantID(rawValue: "p\(place % 5)")!, kind: allows ? .given : .refused, occurredAt: WallTime(nanoseconds: Int64(place)),
            receivedAt: WallTime(nanoseconds: Int64(place)), modalities: allows ? [.audio] : [], purposes: allows ? [.minutes] : [], noticeHash: allows ? "n" : "", noticeVersion: "", language: "de",
            method: .click, isOwnAct: true, isGuardian: false, retentionClass: "recording", expiresAt: WallTime(nanoseconds: 100), asksErasure: false, previousHash: state.lastHash)
        _ = try db.append(event, to: state)
    }

    private func add(_ places: Range<Int>) async throws { try await catalog.write { db in for place in places { try add(place, to: recording, db) } } }

    /// Another process: a connection of its own.
    private func elsewhere(_ body: @escaping @Sendable (Database) throws -> Void) async throws {
        let queue = try DatabaseQueue(path: folder.path + "/catalog.sqlite")
        try await queue.write { db in
            for name in try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'consent_event'") { try db.execute(sql: "DROP TRIGGER \(name)") }
            try body(db)
        }
        try queue.close()
    }

    private func states() async throws -> (known: ConsentState, anew: ConsentState) {
        try await catalog.read { [catalog] in (try catalog.consents.state(of: recording, $0), try $0.consentState(of: recording)) }
    }

    @Test("each event is decoded once, and after each the state is what folding anew gives")
    func incremental() async throws {
        for place in 0..<30 {
            try await add(place..<place + 1)
            let (known, anew) = try await states()
            #expect(known == anew && known.count == place + 1)
            #expect(try await states().known == anew)
        }
        #expect(catalog.consents.figures == (1, 30))
    }

    @Test("what another process appends is in the next answer")
    func another() async throws {
        try await add(0..<3)
        _ = try await states()
        try await elsewhere { try add(3, to: recording, $0) }
        let (known, anew) = try await states()
        #expect(known == anew && known.count == 4)
        #expect(catalog.consents.figures.decoded == 4)
    }

    @Test("a row that was changed or removed behind it breaks the history, wherever it stands; put back, it is believed again", arguments: 1...5)
    func tampered(sequence: Int) async throws {
        try await add(0..<5)
        let before = try await states().known
        let rows = try await catalog.read { try Row.fetchAll($0, sql: "SELECT * FROM consent_event").map { Array($0.databaseValues) } }
        let zeros = String(repeating: "0", count: 64)
        for change in ["SET event = replace(event, 'click', 'digit')", "SET event = replace(event, 'rec', 'reg'), sequence = sequence", "SET hash = '\(zeros)'", "SET event = event || ' '"] {
            try await elsewhere { try $0.execute(sql: "UPDATE consent_event \(change) WHERE sequence = \(sequence)") }
            await #expect(throws: (any Error).self, "\(change)") { try await catalog.read { [catalog] in _ = try catalog.consents.state(of: recording, $0) } }
            try await put(rows)
            #expect(try await states().known == before)
        }
        try await elsewhere { try $0.execute(sql: "DELETE FROM consent_event WHERE sequence = \(sequence)") }
        if sequence < 5 {
            await #expect(throws: ConsentError.brokenChain(sequence: sequence + 1)) { try await catalog.read { [catalog] in _ = try catalog.consents.state(of: recording, $0) } }
        } else {
            // A history without its end is one; that it was longer the audit log tells.
            #expect(try await states().known.count == 4)
        }
        try await put(rows)
        #expect(try await states().known == before)
    }

    private func put(_ rows: [[DatabaseValue]]) async throws {
        try await elsewhere { db in
            try db.execute(sql: "DELETE FROM consent_event")
            for row in rows { try db.execute(sql: "INSERT INTO consent_event VALUES (?, ?, ?, ?, ?)", arguments: StatementArguments(row)) }
        }
    }

    @Test("a restore to an earlier state is seen: what was said since is not remembered, and what is said instead counts")
    func restored() async throws {
        try await add(0..<4)
        let earlier = try await states().known
        try await add(4..<7)
        #expect(try await states().known.count == 7)
        try await elsewhere { try $0.execute(sql: "DELETE FROM consent_event WHERE sequence > 4") }
        #expect(try await states().known == earlier)
        try await elsewhere { try add(9, to: recording, $0) }
        let (known, anew) = try await states()
        #expect(known == anew && known.count == 5 && known.lastHash != earlier.lastHash)
    }

    @Test("what a transaction wrote that was rolled back is not remembered")
    func rolledBack() async throws {
        struct Undone: Error {}
        try await add(0..<2)
        await #expect(throws: Undone.self) {
            try await catalog.write { [catalog] db in
                try add(2, to: recording, db)
                #expect(try catalog.consents.state(of: recording, db).count == 3)
                throw Undone()
            }
        }
        #expect(try await states().known.count == 2)
        try await add(5..<6)
        let (known, anew) = try await states()
        #expect(known == anew && known.count == 3)
    }

    @Test("who is declared a minor afterwards is judged as one")
    func minors() async throws {
        try await add(0..<2)
        _ = try await states()
        try await catalog.write { try $0.execute(sql: "UPDATE participant SET is_minor = 1 WHERE id = 'p0'") }
        await #expect(throws: ConsentError.guardianNeeded) { try await states() }
    }

    @Test("it remembers so many decisions and no more, each recording for itself")
    func bounded() async throws {
        try await add(0..<3)
        let other = RecordingID(rawValue: "other")!
        try await catalog.write { try add(0, to: other, $0) }
        let folds = ConsentFolds(decisionsMax: 5)
        let asked = try await catalog.read { db in [try folds.state(of: recording, db).count, try folds.state(of: other, db).count, try folds.state(of: other, db).count] }
        #expect(asked == [3, 1, 1])
        // Four for the first, two for the second: one of them had to go.
        #expect(folds.figures == (1, 4))
        folds.forget(other)
        #expect(folds.figures.recordings == 0)
    }
}
