import Catalog
import Consent
import Foundation
import GRDB
import Media
@testable import Recorder
import SealedFile
import Synchronization
import TestSupport
import Testing

@Suite("Erasure", .serialized)
struct ErasureTests {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    init() throws { rights = try Rights() }

    private func files(below folder: URL, with bytes: Data) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { name in
            // Folders, and what was renamed meanwhile, have no content.
            guard let content = try? Data(contentsOf: folder.appending(path: name), options: .alwaysMapped) else { return false }
            return content.range(of: bytes) != nil
        }
    }

    /// A key as it may be written down: as it is, in hexadecimal, in base64.
    private func forms(_ key: [UInt8]) -> [Data] { [Data(key), Data(Hexadecimal.text(key).utf8), Data(Data(key).base64EncodedString().utf8)] }

    @Test("Art. 17: beside a server that runs, the person's keys, sealed payload and former name are in no file: catalog, write-ahead log, its index, key store, temporary files, nor in a backup taken afterwards")
    func nowhere() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio], "C": [.audio]])
        let (anna, data) = (made.principal("A"), rights.data)
        let name = "Annegret Marker-Unverwechselbar \(UInt64.random(in: .min ... .max))"
        _ = try await recorder.rename(made.people["A"]!, NameRequest(name: name), as: anna)
        await StageWorker(recorder: recorder).runUntilEmpty()
        let renditions = try await recorder.renditions(of: made.id, as: rights.moderator).map(\.id).map(KeyStore.rendition)
        let tracks = try await recorder.catalog.read { db in
            try String.fetchAll(db, sql: "SELECT track FROM stream JOIN stream_participant ON stream = stream.id WHERE participant = ?", arguments: [made.people["A"]!.rawValue])
        }
        let doomed = renditions + tracks.map { "track:\($0)" }
        let wrapped = try KilledServer.wrapped(data)
        var searched: [Data] = []
        for id in doomed { searched += [try #require(wrapped[id])] + forms(try await recorder.keys.key(id).withBytes { Array($0) }) }
        for object in doomed.map({ String($0.split(separator: ":")[1]) }) {
            let file = data.appending(path: "recordings/\(made.id)/artifacts/\(object).sealed")
            guard FileManager.default.fileExists(atPath: file.path) else { continue }
            searched.append(try Data(contentsOf: file).dropFirst(80).prefix(48))
        }
        searched.append(Data(name.utf8))
        #expect(try files(below: data, with: wrapped[doomed[0]]!) == ["keys.sqlite"] && !files(below: data, with: searched.last!).isEmpty)
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: anna)
        _ = try await recorder.rename(made.people["A"]!, NameRequest(name: "A"), as: anna)
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(FileManager.default.fileExists(atPath: data.path + "/catalog.sqlite-wal"))
        for bytes in searched { #expect(try files(below: data, with: bytes) == []) }
        let backup = rights.folder.url.appending(path: "after")
        _ = try Backup.take(of: data, to: backup, now: recorder.clock.now)
        for bytes in searched { #expect(try files(below: backup, with: bytes) == []) }
        #expect(try await recorder.renditions(of: made.id, as: made.principal("B")).map(\.contains) == Array(repeating: [made.people["B"]!, made.people["C"]!].sorted(), count: 2))
        await recorder.shutDown()
    }

    @Test("Art. 17: a slow reader holds the write-ahead log up; what was erased leaves it with a later sweep")
    func slowReader() async throws {
        let made = try await rights.imported(["A": [.audio]], isMade: false)
        var configuration = Configuration()
        configuration.allowsUnsafeTransactions = true
        let queue = try DatabaseQueue(path: rights.data.appending(path: "catalog.sqlite").path, configuration: configuration)
        try queue.inDatabase { db in
            try db.beginTransaction(.deferred)
            _ = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM recording")
        }
        try await recorder.erase(made.id, trigger: "test", actor: "test")
        #expect(recorder.owesCheckpoint.withLock { $0 })
        #expect(try await recorder.receipt(of: made.id, as: rights.moderator).fault() == nil)
        try queue.inDatabase { try $0.rollback() }
        try queue.close()
        await recorder.tidy()
        #expect(recorder.owesCheckpoint.withLock { !$0 })
        await recorder.shutDown()
    }

    /// A recording of one person, stopped, without waiting for anything.
    private func recording(_ anna: Principal, in meeting: MeetingID) async throws -> RecordingID {
        let stream = StreamRequest(participants: [anna.participant!], kind: .audio, sdp: "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n")
        let id = try await recorder.createRecording(RecordingRequest(streams: [stream]), in: meeting, as: rights.moderator).id
        _ = try await recorder.control(id, .stop, as: rights.moderator)
        return id
    }

    @Test("Art. 5(1)(e): a sweep ends many at once, rewrites the key store once, and each receipt's key is destroyed before its file is gone; one that is restricted holds up nobody")
    func batch() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: rights.moderator).token)
        var ids: [RecordingID] = []
        for _ in 0..<6 { ids.append(try await recording(anna, in: meeting)) }
        #expect(try await recorder.sweep() == 0)
        let held = try await recorder.restrict(ids[4], RestrictionRequest(reason: .objection, until: (recorder.clock.now + .seconds(200 * 86_400)).seconds), as: rights.moderator)
        #expect(held.reason == .objection)
        let before = try KilledServer.wrapped(rights.data)
        _ = try await recorder.advanceClock(bySeconds: 91 * 86_400, as: rights.operatorPrincipal)
        #expect(try await recorder.sweep() == 5)
        let after = try KilledServer.wrapped(rights.data)
        #expect(before.count == 12 && after.count == 2)
        for (id, key) in before where after[id] == nil { #expect(try files(below: rights.data, with: key) == [], "\(id)") }
        for id in ids where id != ids[4] {
            let receipt = try await recorder.receipt(of: id, as: rights.moderator)
            #expect(receipt.fault() == nil && receipt.objects.count == 2)
            #expect(receipt.objects.allSatisfy { $0.keyDestroyedAt > 0 && $0.keyDestroyedAt <= $0.unlinkedAt && $0.keyFingerprint.count == 64 })
        }
        // One rewriting for all of them: all say the same moment.
        var moments: Set<Double> = []
        for id in ids where id != ids[4] { moments.formUnion(try await recorder.receipt(of: id, as: rights.moderator).objects.map(\.keyDestroyedAt)) }
        #expect(moments.count == 1)
        #expect(try await recorder.sweep() == 0)
        await recorder.shutDown()
    }

    @Test("keys that were removed before a kill count as destroyed when the next start has rewritten the store")
    func owed() async throws {
        let made = try await rights.imported(["A": [.audio]], isMade: false)
        let file = rights.data.appending(path: "keys.sqlite")
        _ = try await recorder.keys.remove([KeyStore.recording(made.id)])
        #expect(try await DatabaseQueue(path: file.path).read { try Int.fetchOne($0, sql: "PRAGMA user_version") } == 1)
        // Killed here: the recording's end was begun.
        try await recorder.catalog.write { try $0.execute(sql: "UPDATE recording SET state = 'expired' WHERE id = ?", arguments: [made.id.rawValue]) }
        await recorder.shutDown()
        let again = try Rights.recorder(rights.data)
        try await again.recover()
        #expect(try await DatabaseQueue(path: file.path).read { try Int.fetchOne($0, sql: "PRAGMA user_version") } == 0)
        await again.tidy()
        #expect(try await again.receipt(of: made.id, as: rights.moderator).fault() == nil)
        await again.shutDown()
    }

    @Test("Art. 17: a version that was being made when the process died is shredded by the next start")
    func orphan() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let id = RenditionID.random()
        _ = try await recorder.keys.create(rendition: id, of: made.id, now: recorder.clock.now)
        let file = recorder.configuration.artifact(made.id.rawValue, id.rawValue)
        try Data(repeating: 1, count: 100).write(to: file)
        let count = try await recorder.keys.count()
        try await recorder.recover()
        #expect(try await recorder.keys.count() == count - 1 && !FileManager.default.fileExists(atPath: file.path))
        #expect(try await recorder.renditions(of: made.id, as: rights.moderator).count == 2)
        await recorder.shutDown()
    }

    @Test("Art. 17: killed between the erasure and the new run, the others still get their version", arguments: [false, true])
    func againAfterKill(isBegun: Bool) async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let now = recorder.clock.now
        if isBegun {
            try await recorder.catalog.write { db in
                try db.execute(sql: "UPDATE rendition SET state = 'erased'")
                try recorder.beginAgain(made.id, now: now, db)
            }
        }
        try await recorder.recover()
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await recorder.recording(made.id, as: rights.moderator).state == .ready)
        #expect(try await recorder.renditions(of: made.id, as: rights.moderator).count == 2)
        await recorder.shutDown()
    }

    @Test("Art. 18, 21: restored from a backup of before, a restriction is there again, a lifted one is not, and an erasure that had to wait for it still waits")
    func restoredRestrictions() async throws {
        let held = try await rights.imported(["A": [.audio], "B": [.audio]])
        let lifted = try await rights.imported(["A": [.audio]])
        let until = (recorder.clock.now + .seconds(20 * 86_400)).seconds
        _ = try await recorder.restrict(lifted.id, RestrictionRequest(reason: .accuracy, until: until), as: rights.moderator)
        let backup = rights.folder.url.appending(path: "backup"), restored = rights.folder.url.appending(path: "restored")
        _ = try Backup.take(of: rights.data, to: backup, now: recorder.clock.now)
        // After it: one is placed, prolonged by another, the other lifted; A withdraws with erasure, which waits.
        _ = try await recorder.restrict(held.id, RestrictionRequest(reason: .legalClaims, until: until), as: held.principal("B"))
        _ = try await recorder.restrict(held.id, RestrictionRequest(reason: .objection, until: until + 86_400, participant: held.people["A"]), as: rights.moderator)
        try await recorder.lift(lifted.id, as: rights.moderator)
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: held.id, as: held.principal("A"))
        await recorder.shutDown()
        let result = try await Restore(backup: backup, keys: nil, data: restored, rootKey: rights.data.appending(path: "root.key"), ledger: rights.data.appending(path: ErasureLedger.fileName),
                                       isWithoutLedger: false, configuration: Rights.configuration(restored)).run(logger: Rights.logger)
        #expect(result.replayed == Recorder.Replayed(withdrawals: 1, restrictions: 2))
        let again = try Rights.recorder(restored)
        try await again.recover()
        let hold = try await again.restriction(of: held.id, as: rights.moderator)
        #expect(hold.reason == .objection && abs(hold.until - until - 86_400) < 1 && hold.participant == held.people["A"] && hold.placedBy == "restore")
        #expect(await Rights.code { try await again.restriction(of: lifted.id, as: rights.moderator) } == .notFound)
        #expect(try await again.consent(on: held.id, as: held.principal("A")).people.map(\.erasureWaits) == [true])
        try await again.lift(held.id, as: rights.operatorPrincipal)
        await StageWorker(recorder: again).runUntilEmpty()
        #expect(try await again.renditions(of: held.id, as: held.principal("B")).allSatisfy { $0.contains == [held.people["B"]!] })
        #expect(try await again.catalog.read { try String.fetchAll($0, sql: "SELECT verdict FROM stream WHERE verdict = 'erased'").count } == 2)
        await again.shutDown()
    }

    @Test("the ledger of what holds until a date: the last line counts, over a restart as well, and its copy has it, too")
    func dated() throws {
        let path = rights.folder.path + "/l", copy = rights.folder.path + "/copy"
        let first = try ErasureLedger(path: path, copy: copy)
        try first.append("restriction:r:a", until: WallTime(seconds: 50))
        try first.append(["x"], now: WallTime(seconds: 1))
        try first.append("restriction:r:b", until: WallTime(seconds: 40))
        try first.append("restriction:r:a", until: WallTime(seconds: 60))
        for ledger in [first, try ErasureLedger(reading: path), try ErasureLedger(path: copy)] {
            let latest = ledger.latest(of: ["restriction:r:a", "restriction:r:b", "x"])
            #expect(latest?.id == "restriction:r:a" && latest?.until == WallTime(seconds: 60))
            #expect(ledger.latest(of: ["x"]) == nil && ledger.contains("x") && !ledger.contains("restriction:r:a") && ledger.count == 1)
        }
        // A line of another kind, or a time beyond any, is damage.
        var bytes = try Data(contentsOf: URL(filePath: path))
        for (place, byte) in [(bytes.count - 22, UInt8(45)), (bytes.count - 21, 57), (bytes.count - 2, 97)] {
            let was = bytes[place]
            bytes[place] = byte
            try bytes.write(to: URL(filePath: path))
            #expect(throws: ErasureLedger.Unusable.self) { try ErasureLedger(reading: path) }
            bytes[place] = was
        }
    }
}
