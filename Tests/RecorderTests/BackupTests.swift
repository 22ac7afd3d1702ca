import Catalog
import Consent
import Foundation
import GRDB
import Logging
import Media
@testable import Recorder
import Renditions
import SealedFile
import TestSupport
import Testing
import Truth

@Suite("Backup and restore", .serialized)
struct BackupTests {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    init() throws { rights = try Rights() }

    private var backup: URL { rights.folder.url.appending(path: "backup") }
    private var restored: URL { rights.folder.url.appending(path: "restored") }

    private func take(_ name: String = "backup") throws -> Backup.Summary {
        try Backup.take(of: rights.data, to: rights.folder.url.appending(path: name), keys: rights.folder.url.appending(path: name + "-keys"), now: recorder.clock.now)
    }

    private func restore(_ name: String = "backup", ledger: URL?, without: Bool = false, root: URL? = nil) -> Restore {
        Restore(backup: rights.folder.url.appending(path: name), keys: rights.folder.url.appending(path: name + "-keys"), data: restored, rootKey: root ?? rights.data.appending(path: "root.key"),
                ledger: ledger, isWithoutLedger: without, configuration: Rights.configuration(restored))
    }
    private var ledger: URL { rights.data.appending(path: ErasureLedger.fileName) }

    /// Files below a folder that contain these bytes.
    private func files(below folder: URL, with bytes: Data) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { name in
            let file = folder.appending(path: name)
            guard try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else { return false }
            return try Data(contentsOf: file).range(of: bytes) != nil
        }
    }

    private func wrapped(_ folder: URL) throws -> [String: Data] {
        try DatabaseQueue(path: folder.appending(path: "keys.sqlite").path).read { db in
            Dictionary(uniqueKeysWithValues: try Row.fetchAll(db, sql: "SELECT id, wrapped FROM wrapped_key").map { ($0["id"], $0["wrapped"]) })
        }
    }

    @Test("Art. 17: restored from an older backup, what was erased since stays erased: key, payload and consent; the others' tracks are as they were")
    func erasedSince() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio], "C": [.audio]])
        let gone = try await rights.imported(["A": [.audio]])
        _ = try await recorder.control(made.id, .release, as: rights.moderator)
        let (annas, berts) = (try await rights.track(made.id, 0), try await rights.track(made.id, 2))
        let summary = try take()
        #expect(summary.files > 10)
        let keysThen = try wrapped(rights.folder.url.appending(path: "backup-keys"))
        #expect(Set(keysThen.keys).isSuperset(of: ["track:\(annas)", "track:\(berts)", "recording:\(gone.id)"]))
        // The backup of the catalog holds no key.
        for key in keysThen.values { #expect(try files(below: backup, with: key) == []) }
        let sealed = try Data(contentsOf: backup.appending(path: "recordings/\(made.id)/artifacts/\(annas).sealed"))
        let marker = sealed.dropFirst(80).prefix(48)
        #expect(try files(below: backup, with: Data(marker)).count == 1)
        let others = try Data(contentsOf: rights.data.appending(path: "recordings/\(made.id)/artifacts/\(berts).sealed"))

        // After it: A withdraws with erasure, C without; the other recording ends.
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: made.principal("A"))
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn, erase: false), on: made.id, as: made.principal("C"))
        try await recorder.erase(gone.id, trigger: "test", actor: "test")
        await recorder.shutDown()

        let result = try await restore(ledger: ledger).run(logger: Rights.logger)
        #expect(result.replayed.recordings == 1 && result.replayed.tracks == 2 && result.replayed.renditions >= 1 && result.replayed.withdrawals == 2)
        #expect(result.leftOut > 0)
        for (id, key) in keysThen where id == "track:\(annas)" || id.hasPrefix("recording:\(gone.id)") { #expect(try files(below: restored, with: key) == [], "\(id)") }
        #expect(try files(below: restored, with: Data(marker)) == [])
        #expect(!FileManager.default.fileExists(atPath: restored.appending(path: "recordings/\(gone.id)").path))
        #expect(try Data(contentsOf: restored.appending(path: "recordings/\(made.id)/artifacts/\(berts).sealed")) == others)

        let again = try Rights.recorder(restored)
        try await again.recover()
        await StageWorker(recorder: again).runUntilEmpty()
        #expect(try await again.recording(made.id, as: rights.moderator).state == .ready)
        let renditions = try await again.renditions(of: made.id, as: made.principal("B"))
        #expect(!renditions.isEmpty && renditions.allSatisfy { $0.contains == [made.people["B"]!] && $0.downloadable })
        #expect(try await again.consent(on: made.id, as: rights.moderator).people.map(\.decision).sorted() == ["given", "withdrawn", "withdrawn"])
        #expect(await Rights.code { try await again.recording(gone.id, as: rights.moderator) } == .gone)
        #expect(try await again.receipt(of: gone.id, as: rights.moderator).trigger == "restore")
        #expect(try await again.catalog.read { try AuditLog.firstBroken($0) } == nil)
        await again.shutDown()
    }

    @Test("a backup that nothing was erased after is restored whole, and read like before")
    func whole() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        _ = try await recorder.control(made.id, .release, as: rights.moderator)
        _ = try take()
        let before = try await recorder.renditions(of: made.id, as: made.principal("A"))
        await recorder.shutDown()
        let result = try await restore(ledger: ledger).run(logger: Rights.logger)
        #expect(result.replayed == Recorder.Replayed() && result.leftOut == 0)
        let again = try Rights.recorder(restored)
        try await again.recover()
        #expect(try await again.renditions(of: made.id, as: made.principal("A")).map(\.id) == before.map(\.id))
        let download = try await again.download(before[0].id, as: made.principal("A"))
        var count = 0
        for try await chunk in download.body(0..<download.length) { count += chunk.count }
        #expect(count == before[0].bytes)
        await again.shutDown()
    }

    @Test("a capture that ran when the backup was taken is over after a restore: an older yes opens no gate")
    func running() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: rights.moderator).token)
        let stream = StreamRequest(participants: [anna.participant!], kind: .audio, sdp: "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n")
        let id = try await recorder.createRecording(RecordingRequest(streams: [stream]), in: meeting, as: rights.moderator).id
        let notice = try await recorder.notice(for: id, language: .en, as: anna)
        _ = try await recorder.decide(ConsentRequest(decision: .given, notice: notice.hash), on: id, as: anna)
        _ = try take()
        await recorder.shutDown()
        _ = try await restore(ledger: ledger).run(logger: Rights.logger)
        let again = try Rights.recorder(restored)
        try await again.recover()
        let view = try await again.recording(id, as: rights.moderator)
        #expect(view.state != .recording && view.streams.map(\.recording) == [false] && view.streams.map { $0.endpoint == nil } == [true])
        await again.shutDown()
    }

    private func refusal(_ restore: Restore) async -> String {
        do {
            _ = try await restore.run(logger: Rights.logger)
            return "taken"
        } catch {
            return (error as? RecorderError)?.detail ?? "\(error)"
        }
    }

    @Test("a restore is refused without a ledger, with a foreign or older one, onto data, from what is no whole backup; nothing is made then")
    func refusals() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let old = rights.folder.url.appending(path: "old.ledger")
        try FileManager.default.copyItem(at: ledger, to: old)
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: made.principal("B"))
        await StageWorker(recorder: recorder).runUntilEmpty()
        _ = try take()
        await recorder.shutDown()
        let foreign = rights.folder.url.appending(path: "foreign.ledger")
        _ = try ErasureLedger(path: foreign.path)
        #expect(await refusal(restore(ledger: nil)).contains("would be back"))
        #expect(await refusal(restore(ledger: foreign)).contains("not the ledger of this backup"))
        #expect(await refusal(restore(ledger: old)).contains("older than the backup"))
        #expect(await refusal(restore("no-backup", ledger: ledger)).contains("is no backup"))
        #expect(await refusal(restore(ledger: ledger, root: foreign)).contains("root key"))
        let other = rights.folder.url.appending(path: "other.key")
        #expect(FileManager.default.createFile(atPath: other.path, contents: Data(repeating: 7, count: 32), attributes: [.posixPermissions: 0o600]))
        #expect(await refusal(restore(ledger: ledger, root: other)).contains("do not open under the root key"))
        #expect(!FileManager.default.fileExists(atPath: restored.path))
        var onto = restore(ledger: ledger)
        onto.data = rights.data
        #expect(await refusal(onto).contains("is not empty"))
        #expect(throws: RecorderError.self) { _ = try take() }
        // Damage is found while it is copied, and no server starts on what is left.
        let victim = backup.appending(path: "recordings/\(made.id)/artifacts/\(try await first(made.id)).sealed")
        var bytes = try Data(contentsOf: victim)
        bytes[100] ^= 1
        try FileManager.default.removeItem(at: victim)
        try bytes.write(to: victim)
        #expect(await refusal(restore(ledger: ledger)).contains("is damaged"))
        #expect(throws: RecorderError.self) { _ = try Rights.recorder(restored) }
        try FileManager.default.removeItem(at: restored)
        bytes[100] ^= 1
        try bytes.write(to: victim)
        // With the explicit word it is done, and the log says so.
        _ = try await restore(ledger: nil, without: true).run(logger: Rights.logger)
        let again = try Rights.recorder(restored)
        #expect(try await again.catalog.read { try Bool.fetchOne($0, sql: "SELECT COUNT(*) FROM audit_event WHERE action = 'backup.restored-without-ledger'") } == true)
        await again.shutDown()
    }

    private func first(_ id: RecordingID) async throws -> String {
        try await DatabaseQueue(path: rights.data.appending(path: "catalog.sqlite").path).read { try String.fetchOne($0, sql: "SELECT track FROM stream WHERE recording = ? AND position = 0", arguments: [id.rawValue]) } ?? ""
    }

    @Test("the ledger: entries last, a cut line is dropped, damage is named, and its copy catches up or is refused")
    func ledgerFile() throws {
        let path = rights.folder.path + "/l", copy = rights.folder.path + "/copy"
        let now = WallTime(seconds: 5)
        let first = try ErasureLedger(path: path)
        try first.append(["a", "b", "a"], now: now)
        try first.append(["b", "c"], now: now)
        #expect(first.count == 3 && first.contains("a") && !first.contains("d"))
        let mark = first.mark
        try first.append(["d"], now: now)
        #expect(try ErasureLedger(reading: path).continues(mark))
        #expect(try ErasureLedger(reading: path).mark == first.mark)
        #expect(try !first.continues(ErasureLedger.Mark(bytes: mark.bytes, sha256: "")))
        // No id stands in it.
        #expect(try !String(contentsOfFile: path, encoding: .utf8).contains("track"))
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        var bytes = try Data(contentsOf: URL(filePath: path))
        try bytes.dropLast(7).write(to: URL(filePath: path))
        let cut = try ErasureLedger(path: path, copy: copy)
        #expect(cut.count == 3 && !cut.contains("d"))
        try cut.append(["e"], now: now)
        #expect(try Data(contentsOf: URL(filePath: path)) == Data(contentsOf: URL(filePath: copy)))
        // A copy that cannot be written stops no entry, and is whole again with the next one that can.
        let elsewhere = rights.folder.path + "/disk"
        try FileManager.default.createDirectory(atPath: elsewhere, withIntermediateDirectories: false)
        let mirrored = try ErasureLedger(path: rights.folder.path + "/m", copy: elsewhere + "/m")
        try FileManager.default.moveItem(atPath: elsewhere, toPath: elsewhere + ".gone")
        try mirrored.append(["f"], now: now)
        #expect(mirrored.contains("f") && mirrored.copyProblem?.contains("is gone") == true)
        try FileManager.default.moveItem(atPath: elsewhere + ".gone", toPath: elsewhere)
        try mirrored.append(["g"], now: now)
        #expect(mirrored.copyProblem == nil)
        #expect(FileManager.default.contentsEqual(atPath: rights.folder.path + "/m", andPath: elsewhere + "/m"))
        // The one that knows less catches up, whichever it is.
        try Data(contentsOf: URL(filePath: copy)).dropLast(86).write(to: URL(filePath: path))
        #expect(try ErasureLedger(path: path, copy: copy).contains("e"))
        bytes = try Data(contentsOf: URL(filePath: path))
        bytes[bytes.count - 60] = 120
        try bytes.write(to: URL(filePath: copy))
        #expect(throws: ErasureLedger.Unusable.self) { try ErasureLedger(path: path, copy: copy) }
        #expect(throws: ErasureLedger.Unusable.self) { try ErasureLedger(reading: copy) }
        #expect(throws: ErasureLedger.Unusable.self) { try ErasureLedger(reading: rights.folder.path + "/none") }
        var generator = SystemRandomNumberGenerator()
        for length in [1, 85, 86, 87, 172, 300] {
            try Data((0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }).write(to: URL(filePath: copy))
            #expect(throws: ErasureLedger.Unusable.self) { try ErasureLedger(reading: copy) }
        }
    }
}
