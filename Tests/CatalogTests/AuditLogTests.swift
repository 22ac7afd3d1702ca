@testable import Catalog
import Consent
import Crypto
import Foundation
import GRDB
import Media
import SealedFile
import TestSupport
import Testing

/// A small log with everything in it: consents, notices, receipts, an erased entry, several checkpoints.
struct AuditedLog {
    let folder: TemporaryFolder
    let catalog: Catalog
    let signer = NoteSigner(name: "test-log", seed: .random())
    let notice = Notice(language: "de", policy: RetentionPolicy(), days: 90)
    let proof: AuditProof
    let first: AuditCheckpoint
    static let now = WallTime(seconds: 1_700_000_000)

    static func event(_ state: ConsentState, _ kind: ConsentEvent.Kind, _ notice: Notice?) -> ConsentEvent {
        ConsentEvent(sequence: state.count + 1, recording: state.recording, participant: ParticipantID(rawValue: "p")!, kind: kind, occurredAt: now, receivedAt: now,
                     modalities: kind == .given ? [.audio] : [], purposes: kind == .given ? [.minutes] : [], noticeHash: notice?.hash ?? "", noticeVersion: notice?.version ?? "",
                     language: "de", method: .click, isOwnAct: true, isGuardian: false, retentionClass: "recording", expiresAt: now + .seconds(1_000), asksErasure: false,
                     previousHash: state.lastHash)
    }

    init() async throws {
        folder = try TemporaryFolder()
        let catalog = try Catalog(path: folder.path + "/catalog.sqlite")
        self.catalog = catalog
        let (now, notice, signer) = (Self.now, notice, signer)
        (first, proof) = try await catalog.write { db in
            try MeetingRecord(id: "m", title: nil, createdAt: 0).insert(db)
            try ParticipantRecord(id: "p", meeting: "m", isMinor: false, createdAt: 0).insert(db)
            try RecordingRecord(id: "r", meeting: "m", pipeline: "meeting", state: "recording", retentionDays: 1, startedAt: 0, expiresAt: 100).insert(db)
            try db.keep(notice)
            try AuditLog.append(actor: "moderator-1", action: "recording.started", object: "r", detail: "2 streams", now: now, db)
            var state = try db.consentState(of: RecordingID(rawValue: "r")!)
            state = try db.append(Self.event(state, .given, notice), to: state)
            let first = try AuditLog.checkpoint(signer, now: now, db)
            try AuditLog.append(actor: "p", action: "grant.issued", object: "r", detail: "tab\there, percent %, ümlaut", now: now, db)
            try AuditLog.append(actor: "p", action: "grant.issued", object: "r", now: now, db)
            state = try db.append(Self.event(state, .withdrawn, nil), to: state, actor: "moderator-1")
            let proof = try AuditLog.attest(actor: "retention", action: "recording.erased", object: "r", detail: "expiry", now: now, by: signer, db)
            _ = try AuditLog.erase(5...5, actor: "retention", why: "download log 1 year", now: now, db)
            try AuditLog.append(actor: "p", action: "grant.issued", object: "r", now: now, db)
            return (first, proof)
        }
    }

    func lines() throws -> [String] {
        var lines: [String] = []
        try AuditReader(path: folder.path + "/catalog.sqlite").lines { lines.append($0.text) }
        return lines
    }

    static func bytes(_ lines: [String]) -> [UInt8] { Array((lines.joined(separator: "\n") + "\n").utf8) }

    static func verify(_ lines: [String], keys: [VerifierKey] = [], held: [AuditCheckpoint] = []) throws -> AuditSummary {
        try verify(bytes: bytes(lines), keys: keys, held: held)
    }

    static func verify(bytes: [UInt8], keys: [VerifierKey] = [], held: [AuditCheckpoint] = []) throws -> AuditSummary {
        var rest: [UInt8]? = bytes
        return try AuditVerifier.verify(keys: keys, held: held) {
            defer { rest = nil }
            return rest
        }
    }
}

@Suite("Audit log")
struct AuditLogTests {
    private func fault(_ body: () throws -> some Any) -> AuditFault? {
        do {
            _ = try body()
            return nil
        } catch { return error as? AuditFault }
    }

    @Test("a log verifies where it lies and from its export, an erased entry included; the time of its content is over")
    func whole() async throws {
        let log = try await AuditedLog()
        let lines = try log.lines()
        let summary = try AuditedLog.verify(lines, keys: [log.signer.verifier], held: [log.first])
        #expect([summary.entries, summary.erased, summary.checkpoints, summary.consents, summary.notices, summary.uncovered] == [9, 1, 2, 2, 1, 2] as [Int])
        #expect(try AuditReader(path: log.folder.path + "/catalog.sqlite").verify(keys: [log.signer.verifier]) == summary)
        #expect(lines.contains { $0.hasPrefix("erased\t5\t") })
        #expect(lines.last == "end\t9\t2")
    }

    @Test("tamper corpus: every byte of an export changed, removed or doubled, and every cut: all detected, none crash")
    func everyByte() async throws {
        let log = try await AuditedLog()
        let bytes = AuditedLog.bytes(try log.lines())
        _ = try AuditedLog.verify(bytes: bytes)
        var undetected: [String] = []
        for place in bytes.indices {
            // Each byte, each time another bit of it; the other changes at every fifth.
            var changed = bytes
            changed[place] ^= 1 << (place % 8)
            if fault({ try AuditedLog.verify(bytes: changed) }) == nil { undetected.append("bit \(place % 8) of byte \(place)") }
            guard place % 5 == 0 else { continue }
            changed = bytes
            changed.remove(at: place)
            if fault({ try AuditedLog.verify(bytes: changed) }) == nil { undetected.append("without byte \(place)") }
            changed = bytes
            changed.insert(bytes[place], at: place)
            if fault({ try AuditedLog.verify(bytes: changed) }) == nil { undetected.append("byte \(place) twice") }
            if fault({ try AuditedLog.verify(bytes: Array(bytes.prefix(place))) }) == nil { undetected.append("cut before byte \(place)") }
        }
        #expect(undetected == [])
    }

    @Test("lines removed, doubled, exchanged: all detected; random bytes never crash")
    func lines() async throws {
        let log = try await AuditedLog()
        let lines = try log.lines()
        for place in lines.indices {
            var changed = lines
            changed.remove(at: place)
            #expect(fault { try AuditedLog.verify(changed) } != nil, "without line \(place)")
            changed = lines
            changed.insert(lines[place], at: place)
            // The same notice twice is no other wording.
            if !lines[place].hasPrefix("notice") { #expect(fault { try AuditedLog.verify(changed) } != nil, "line \(place) twice") }
            guard place > 0 else { continue }
            changed = lines
            changed.swapAt(place, place - 1)
            #expect(fault { try AuditedLog.verify(changed) } != nil, "line \(place) before the one before it")
        }
        var random = Seeded(4)
        for _ in 0..<2_000 { #expect(fault { try AuditedLog.verify(bytes: random.bytes(Int.random(in: 0...200, using: &random))) } != nil) }
        for _ in 0..<2_000 {
            var bytes = AuditedLog.bytes(lines)
            for _ in 0..<3 { bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: .min ... .max, using: &random) }
            _ = fault { try AuditedLog.verify(bytes: bytes) }
        }
    }

    @Test("tamper corpus: bytes of the database itself changed, seeded, and its end cut: what is not detected changed no line of the log; none crash")
    func rawBytes() async throws {
        let log = try await AuditedLog()
        let lines = try log.lines()
        try await log.catalog.checkpoint()
        let original = try Data(contentsOf: URL(filePath: log.folder.path + "/catalog.sqlite"))
        let texts = try ["recording.erased", "grant.issued", "— test-log", "moderator-1"].map { try #require(original.range(of: Data($0.utf8))) }
        var random = Seeded(41)
        for round in 0..<400 {
            var changed = original
            // Half of them where the log's own words are, the others anywhere.
            let near = texts[round % texts.count]
            let place = round % 2 == 0 ? Int.random(in: max(0, near.lowerBound - 120)..<min(original.count, near.upperBound + 120), using: &random) : Int.random(in: original.indices, using: &random)
            changed[place] ^= UInt8.random(in: 1...255, using: &random)
            if round % 40 == 0 { changed = changed.prefix(Int.random(in: 0..<changed.count, using: &random)) }
            let path = log.folder.path + "/copy-\(round).sqlite"
            try changed.write(to: URL(filePath: path))
            let found: [String]?
            do {
                let reader = try AuditReader(path: path)
                _ = try reader.verify(keys: [log.signer.verifier], held: [log.first])
                var now: [String] = []
                try reader.lines { now.append($0.text) }
                found = now
            } catch { found = nil }
            #expect(found == nil || found == lines, "byte \(place) of round \(round)")
            try FileManager.default.removeItem(atPath: path)
        }
    }

    @Test("tamper corpus: any field of any entry or checkpoint changed, rows removed, exchanged, forged with another key: the log names the place")
    func rows() async throws {
        let names = ["at", "actor", "action", "object", "detail", "salt", "leaf", "node", "hash"]
        for (place, name) in names.enumerated() {
            let log = try await AuditedLog()
            let value = name == "at" ? "at + 1" : ["salt", "leaf", "node", "hash"].contains(name) ? "(SELECT \(name) FROM audit_event AS other WHERE other.sequence = 1)" : "\(name) || 'x'"
            #expect(try await forge(log, "UPDATE audit_event SET \(name) = \(value) WHERE sequence = \(place % 2 == 0 ? 7 : 3)") != nil, "\(name)")
        }
        // The last entry alone, which no checkpoint covers yet, could be cut off unseen: the next checkpoint ends that.
        for sql in ["DELETE FROM audit_event WHERE sequence = 8", "DELETE FROM audit_event WHERE sequence = 4", "DELETE FROM audit_event WHERE sequence > 5", "DELETE FROM audit_checkpoint", "DELETE FROM audit_event",
                    "UPDATE audit_event SET sequence = 107 - sequence WHERE sequence IN (3, 4); UPDATE audit_event SET sequence = sequence - 100 WHERE sequence > 100",
                    "UPDATE audit_checkpoint SET size = size - 1 WHERE size = (SELECT MAX(size) FROM audit_checkpoint)"] {
            #expect(try await forge(AuditedLog(), sql) != nil, "\(sql)")
        }
        // A checkpoint over the very log, by somebody else's key.
        let log = try await AuditedLog()
        let forger = NoteSigner(name: log.signer.verifier.name, seed: .random())
        try await log.catalog.write { db in
            let size = try Int.fetchOne(db, sql: "SELECT MAX(sequence) FROM audit_event") ?? 0
            let forged = AuditCheckpoint(size: size, root: try AuditLog.frontier(size: size, db).root, now: AuditedLog.now, by: forger)
            try db.execute(sql: "INSERT INTO audit_checkpoint (size, note) VALUES (?, ?)", arguments: [size, forged.note.whole])
        }
        #expect(fault { try AuditReader(path: log.folder.path + "/catalog.sqlite").verify() } != nil)
    }

    /// What somebody with the database and without respect for triggers can do.
    private func forge(_ log: AuditedLog, _ sql: String) async throws -> AuditFault? {
        try await log.catalog.write { db in
            for name in try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'trigger'") { try db.execute(sql: "DROP TRIGGER \(name)") }
            try db.execute(sql: sql)
        }
        return fault { try AuditReader(path: log.folder.path + "/catalog.sqlite").verify(held: [log.first]) }
    }

    @Test("the first entry that is wrong is named, and why", arguments: [
        ("UPDATE audit_event SET actor = 'somebody' WHERE sequence = 4", AuditFault.Place.entry(4)),
        ("UPDATE audit_event SET at = at + 1 WHERE sequence = 2", .entry(2)),
        ("DELETE FROM audit_event WHERE sequence = 4", .entry(4)),
        ("UPDATE audit_event SET hash = leaf WHERE sequence = 6", .entry(6)),
        ("UPDATE audit_event SET node = leaf WHERE sequence = 8", .entry(8)),
        ("UPDATE audit_event SET at = NULL, actor = NULL, action = NULL, object = NULL, detail = NULL, salt = NULL WHERE sequence = 6", .entry(6)),
        ("UPDATE audit_event SET sequence = 100 WHERE sequence = 1; UPDATE audit_event SET sequence = 1 WHERE sequence = 2; UPDATE audit_event SET sequence = 2 WHERE sequence = 100", .entry(1)),
        ("DELETE FROM consent_event WHERE sequence = 2", .entry(6)),
        ("DELETE FROM audit_checkpoint", .end),
    ])
    func named(sql: String, place: AuditFault.Place) async throws { #expect(try await forge(AuditedLog(), sql)?.place == place) }

    @Test("a log that was cut off at its end, with checkpoints and all, is found with a checkpoint from before")
    func cut() async throws {
        let log = try await AuditedLog()
        let held = try #require(try await log.catalog.read { try AuditLog.lastCheckpoint($0) })
        #expect(held.size == 7)
        let whole = try log.lines()
        let early = Array(whole.prefix { !$0.hasPrefix("entry\t5") && !$0.hasPrefix("erased\t5") && !$0.hasPrefix("entry\t4") }.filter { !$0.contains("\"withdrawn\"") }) + ["end\t3\t1"]
        _ = try AuditedLog.verify(early)
        #expect(fault { try AuditedLog.verify(early, held: [held]) }?.place == .entry(4))
        // And without any entry: by the consistency proof alone.
        let proof = try #require(try AuditReader(path: log.folder.path + "/catalog.sqlite").consistency(since: log.first))
        #expect(proof.fault(trusting: [log.signer.verifier]) == nil && AuditConsistency(proof.text) == proof)
        let another = NoteSigner(name: "test-log", seed: .random())
        #expect(proof.fault(trusting: [another.verifier]) != nil)
        let forged = AuditConsistency(old: AuditCheckpoint(size: 3, root: held.root, now: AuditedLog.now, by: log.signer), new: proof.new, path: proof.path)
        #expect(forged.fault(trusting: [log.signer.verifier]) != nil)
        let bytes = Array(proof.text.utf8)
        for place in bytes.indices {
            var changed = bytes
            changed[place] ^= 1
            if let read = String(validating: changed, as: UTF8.self).flatMap(AuditConsistency.init) { #expect(read.fault(trusting: [log.signer.verifier]) != nil, "byte \(place)") }
        }
    }

    @Test("a log written anew with another key does not pass for the one whose key or checkpoint is held")
    func anew() async throws {
        let (log, other) = (try await AuditedLog(), try await AuditedLog())
        #expect(fault { try AuditedLog.verify(try other.lines(), keys: [log.signer.verifier]) }?.place == .checkpoint(size: 3))
        #expect(fault { try AuditedLog.verify(try other.lines(), held: [log.first]) }?.place == .checkpoint(size: 3))
        // A checkpoint of one put into the other.
        var lines = try log.lines()
        let place = try #require(lines.firstIndex { $0.hasPrefix("checkpoint") })
        lines[place] = AuditLine.checkpoint(other.first.note.whole).text
        #expect(fault { try AuditedLog.verify(lines) }?.place == .checkpoint(size: 3))
    }

    @Test("a receipt's entry is proved to be in the log; changed in any field it is not")
    func proof() async throws {
        let log = try await AuditedLog()
        #expect(log.proof.fault() == nil && log.proof.fault(trusting: [log.signer.verifier]) == nil)
        #expect(log.proof.fault(trusting: [NoteSigner(name: "test-log", seed: .random()).verifier]) != nil)
        let changes: [(inout AuditProof) -> Void] = [
            { $0.sequence -= 1 }, { $0.at += 1 }, { $0.actor = "x" }, { $0.action = "x" }, { $0.object = "x" }, { $0.detail = "withdrawal" }, { $0.salt = String($0.salt.reversed()) },
            { $0.path.removeLast() }, { $0.path = $0.path.reversed() }, { $0.path.append("x") }, { $0.checkpoint = "" }, { $0.key = "" }, { $0.sequence = Int.min },
        ]
        for (place, change) in changes.enumerated() {
            var proof = log.proof
            change(&proof)
            #expect(proof.fault() != nil, "change \(place)")
        }
    }

    @Test("Art. 17: an erased entry's content and salt are nowhere in the database any more")
    func erased() async throws {
        let log = try await AuditedLog()
        let secret = "somebody-\(ParticipantID.random())"
        let salt = try await log.catalog.write { db in
            let sequence = try AuditLog.append(actor: secret, action: "grant.issued", object: "r", now: AuditedLog.now, db)
            return try String.fetchOne(db, sql: "SELECT salt FROM audit_event WHERE sequence = ?", arguments: [sequence])!
        }
        #expect(try log.folder.contains(Array(secret.utf8)) && log.folder.contains(Array(salt.utf8)))
        _ = try await log.catalog.write { try AuditLog.erase(10...10, actor: "retention", why: "download log 1 year", now: AuditedLog.now, $0) }
        try await log.catalog.checkpoint()
        #expect(try !log.folder.contains(Array(secret.utf8)) && !log.folder.contains(Array(salt.utf8)))
        _ = try AuditedLog.verify(try log.lines())
        // What consents and the log itself rest on stays.
        let kept = try await log.catalog.write { try AuditLog.erase(1...11, actor: "x", why: "y", now: AuditedLog.now, $0) }
        #expect(kept == 4)
        _ = try AuditedLog.verify(try log.lines())
    }

    @Test("Art. 5(1)(e): entries on downloads older than the cutoff are erased, with gaps between them, and named exactly; one more that is blank is found")
    func readings() async throws {
        let log = try await AuditedLog()
        let (now, signer) = (AuditedLog.now, log.signer)
        let count = try await log.catalog.write { db in
            for place in 0..<40 {
                try AuditLog.append(actor: "p", action: [AuditLog.downloadAction, "grant.issued", AuditLog.toldAction, AuditLog.mailedAction][place % 4], object: "r", now: now + .seconds(Int64(place)), db)
            }
            let count = try AuditLog.eraseReadings(before: now + .seconds(20), why: "download log", now: now, db)
            _ = try AuditLog.checkpoint(signer, now: now, db)
            return count
        }
        #expect(count == 15)
        // Behind the ten that were there: 1 of 4, and 3 and 4 of 4 together with the next 1.
        let places = try await log.catalog.read { try String.fetchOne($0, sql: "SELECT object FROM audit_event WHERE action = 'audit.erased' ORDER BY sequence DESC LIMIT 1") }
        #expect(places == "10-10,12-14,16-18,20-22,24-26,28-29")
        let lines = try log.lines()
        #expect(try AuditedLog.verify(lines, keys: [signer.verifier]).erased == 16)
        #expect(try await log.catalog.write { try AuditLog.eraseReadings(before: now + .seconds(20), why: "download log", now: now, $0) } == 0)
        // Entry 11 lies between those that were named.
        let place = try #require(lines.firstIndex { $0.hasPrefix("entry\t11\t") })
        let fields = lines[place].split(separator: "\t", omittingEmptySubsequences: false)
        var changed = lines
        changed[place] = "erased\t11\t\(fields[8])\t\(fields[9])"
        #expect(fault { try AuditedLog.verify(changed) }?.place == .entry(11))
    }

    @Test("a log of before the tree is kept and covered, its old chain's state told; consents of before are named")
    func migrated() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/catalog.sqlite"
        let old = try DatabaseQueue(path: path)
        try CatalogSchema.migrator.migrate(old, upTo: "005 finished files as sources, and why a track came to nothing")
        let notice = Notice(language: "de", policy: RetentionPolicy(), days: 90)
        try await old.write { db in
            var previous = ""
            for sequence in 1...5 {
                let salt = String(repeating: "\(sequence)", count: 32)
                let entry = AuditEntry(sequence: sequence, at: AuditedLog.now, actor: "a", action: "x", object: "o\(sequence)", detail: "")
                previous = AuditLog.hashBefore006(previous, entry, salt)
                try db.execute(sql: "INSERT INTO audit_event (sequence, at, actor, action, object, detail, salt, hash) VALUES (?, ?, 'a', 'x', ?, '', ?, ?)",
                               arguments: [sequence, entry.at.nanoseconds, entry.object, salt, previous])
            }
            try db.execute(sql: "INSERT INTO meeting VALUES ('m', NULL, 0); INSERT INTO participant VALUES ('p', 'm', 0, 0)")
            try RecordingRecord(id: "r", meeting: "m", pipeline: "meeting", state: "recording", retentionDays: 1, startedAt: 0, expiresAt: 100).insert(db)
            try db.keep(notice)
            let event = AuditedLog.event(ConsentState(recording: RecordingID(rawValue: "r")!), .given, notice)
            try db.execute(sql: "INSERT INTO consent_event VALUES ('r', 1, 'p', ?, ?)", arguments: [String(decoding: event.canonicalJSON(), as: UTF8.self), event.hash()])
        }
        try old.close()
        let catalog = try Catalog(path: path)
        let signer = NoteSigner(name: "test-log", seed: .random())
        let told = try await catalog.write { db in
            try AuditLog.append(actor: "a", action: "x", object: "new", now: AuditedLog.now, db)
            _ = try AuditLog.checkpoint(signer, now: AuditedLog.now, db)
            return try String.fetchAll(db, sql: "SELECT object || ' ' || detail FROM audit_event WHERE action = 'audit.migrated'")
        }
        #expect(told.count == 1 && told[0].hasPrefix("1-5 ") && told[0].hasSuffix(" whole"))
        let summary = try AuditReader(path: path).verify(keys: [signer.verifier])
        #expect([summary.entries, summary.consents, summary.notices] == [9, 1, 1] as [Int])
    }

    @Test("Art. 5(2), 7(1): the offline verifier rebuilds the exact wording of each consent; one flipped bit in wording, event or log fails")
    func wording() async throws {
        let log = try await AuditedLog()
        let lines = try log.lines()
        let texts = lines.compactMap { line -> String? in if case .notice(let text) = AuditLine(Array(line.utf8)) { text } else { nil } }
        let events = try lines.compactMap { line -> ConsentEvent? in
            if case .consent(let json) = AuditLine(Array(line.utf8)) { try JSONDecoder().decode(ConsentEvent.self, from: Data(json.utf8)) } else { nil }
        }
        #expect(events.map(\.kind) == [.given, .withdrawn])
        #expect(texts == [log.notice.text] && AuditVerifier.wordingHash(texts[0]) == events[0].noticeHash)
        for (from, to) in [("90 Tage", "91 Tage"), ("\"given\"", "\"refused\""), ("[\"audio\"]", "[\"video\"]")] {
            let place = try #require(lines.firstIndex { $0.contains(from) })
            var changed = lines
            changed[place] = changed[place].replacing(from, with: to)
            #expect(fault { try AuditedLog.verify(changed) } != nil, "\(from) to \(to)")
        }
        // An event that no entry names: written behind the program's back.
        let state = try await log.catalog.read { try $0.consentState(of: RecordingID(rawValue: "r")!) }
        let event = AuditedLog.event(state, .given, log.notice)
        try await log.catalog.write { db in
            try db.execute(sql: "INSERT INTO consent_event VALUES ('r', 3, 'p', ?, ?)", arguments: [String(decoding: event.canonicalJSON(), as: UTF8.self), event.hash()])
        }
        #expect(fault { try AuditedLog.verify(try log.lines()) }?.place == .consent(state.recording, sequence: 3))
    }

    @Test("a checkpoint is due a quarter of an hour after the last one, where something was written")
    func due() async throws {
        let log = try await AuditedLog()
        let (now, signer) = (AuditedLog.now, log.signer)
        let later = now + AuditLog.checkpointInterval
        let due = try await log.catalog.write { db in
            let before = [try AuditLog.isCheckpointDue(now: later - .seconds(1), db), try AuditLog.isCheckpointDue(now: later, db)]
            let made = try AuditLog.checkpoint(signer, now: later, db)
            let again = try AuditLog.checkpoint(signer, now: later, db)
            return before + [try AuditLog.isCheckpointDue(now: later + .seconds(9_999), db), made == again]
        }
        #expect(due == [false, true, false, true])
    }
}
