import Catalog
import Consent
import Foundation
import GRDB
import Media
@testable import Recorder
import Renditions
import SealedFile
import TestSupport
import Testing
import Truth

@Suite("Subject rights", .serialized)
struct SubjectRightsTests {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    init() throws { rights = try Rights() }

    /// Runs a program on a folder; what it prints.
    @discardableResult
    private func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [program] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let text = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(program)")
        return text
    }

    /// Exports, and unpacks with the system's tar.
    private func export(_ who: Principal) async throws -> (folder: URL, json: [String: Any]) {
        let export = try await recorder.export(as: who)
        var bytes = Data()
        for try await chunk in export.body() {
            #expect(chunk.count <= 1 << 16)
            bytes += chunk
        }
        #expect(bytes.count == export.length && export.fileName == "mitschnitt-export.tar")
        let folder = rights.folder.url.appending(path: "export-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let archive = folder.appending(path: "x.tar")
        try bytes.write(to: archive)
        try run("tar", ["-xf", archive.path, "-C", folder.path])
        let json = try JSONSerialization.jsonObject(with: Data(contentsOf: folder.appending(path: "data.json")))
        return (folder, try #require(json as? [String: Any]))
    }

    @Test("Art. 15, 20: the export holds a person's consents, tracks and who downloaded, as JSON and Matroska, and nobody else's voice or name")
    func export() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio], "C": [.audio]])
        let (id, anna) = (made.id, made.principal("A"))
        _ = try await recorder.control(id, .release, as: rights.moderator)
        let mix = try #require(try await recorder.renditions(of: id, as: anna).first { $0.kind == "mix" })
        let download = try await recorder.download(mix.id, as: made.principal("B"))
        for try await _ in download.body(0..<download.length) {}
        let before = try FileManager.default.subpathsOfDirectory(atPath: rights.data.path).sorted()
        let (folder, json) = try await export(anna)
        #expect(try FileManager.default.subpathsOfDirectory(atPath: rights.data.path).sorted() == before)

        let person = try #require(json["person"] as? [String: Any])
        #expect(person["name"] as? String == "Person A" && person["participant"] as? String == made.people["A"]!.rawValue)
        let consents = try #require(json["consents"] as? [[String: Any]])
        #expect(consents.compactMap { ($0["event"] as? [String: Any])?["kind"] as? String } == ["given"])
        let notices = try #require(json["notices"] as? [[String: Any]])
        #expect((notices.first?["text"] as? String)?.contains("This meeting is to be recorded") == true)
        let recording = try #require((json["recordings"] as? [[String: Any]])?.first)
        let readings = (recording["renditions"] as? [[String: Any]] ?? []).flatMap { $0["downloads"] as? [[String: Any]] ?? [] }
        #expect(readings.compactMap { $0["by"] as? String } == [made.people["B"]!.rawValue])
        #expect((json["audit"] as? [[String: Any]])?.isEmpty == false)
        let text = try String(contentsOf: folder.appending(path: "data.json"), encoding: .utf8)
        for other in ["Person B", "Person C", made.people["C"]!.rawValue] { #expect(!text.contains(other), "\(other)") }

        // A's tone is in their track, and no other's: each speaks in a frequency of their own.
        let files = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".mka") || $0.hasSuffix(".mkv") }
        #expect(files == ["recording-1/track-1-audio.mka"])
        let probe = try run("ffprobe", ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", folder.appending(path: files[0]).path])
        #expect(probe.trimmingCharacters(in: .whitespacesAndNewlines) == "opus")
        let sealed = try await ExportBody.open(.init(recording: id, track: TrackID(rawValue: try await rights.track(id, 0))!, kind: .audio, file: "", place: (0, 0)), recorder)
        #expect(try Data(contentsOf: folder.appending(path: files[0])) == Data(sealed.read(at: 0, count: sealed.length)))
        await recorder.shutDown()
    }

    @Test("Art. 15: a track with others in it stays out and is named, an erased one too; only participants export, and only themselves")
    func leftOut() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let anna = made.principal("A")
        try await recorder.catalog.write { [track = try await rights.track(made.id, 0)] db in
            try db.execute(sql: "INSERT INTO stream_participant (stream, participant) SELECT id, ? FROM stream WHERE track = ?", arguments: [made.people["B"]!.rawValue, track])
        }
        func reasons(_ who: Principal) async throws -> [String?] {
            let recordings = try await export(who).json["recordings"] as? [[String: Any]] ?? []
            return recordings.flatMap { $0["tracks"] as? [[String: Any]] ?? [] }.map { $0["left_out"] as? String }
        }
        #expect(try await reasons(anna).contains("others are in it"))
        try await recorder.eraseParticipant(anna.participant!, of: made.id, actor: "a")
        #expect(try await reasons(anna).allSatisfy { $0 != nil })
        for other in [rights.moderator, rights.operatorPrincipal] { #expect(await Rights.code { try await recorder.export(as: other) } == .forbidden) }
        await recorder.shutDown()
    }

    @Test("Art. 15: an export that runs ends with an error when the track is destroyed")
    func cut() async throws {
        let made = try await rights.imported(["A": [.audio]])
        let body = try await recorder.export(as: made.principal("A")).body()
        try await recorder.eraseParticipant(made.people["A"]!, of: made.id, actor: "a")
        await #expect(throws: (any Error).self) { for try await _ in body {} }
        await recorder.shutDown()
    }

    @Test("Art. 16: a corrected name is in the next version; the old one stays until then, and its key is gone after; the old name is nowhere in the catalog")
    func rename() async throws {
        let made = try await rights.imported(["A": [.audio, .video], "B": [.audio]], pipeline: "meeting")
        let (id, anna) = (made.id, made.principal("A"))
        let before = try await recorder.renditions(of: id, as: rights.moderator)
        let picture = try await sha(before)
        #expect(await Rights.code { try await recorder.rename(anna.participant!, NameRequest(name: "X"), as: made.principal("B")) } == .notFound)
        #expect(await Rights.code { try await recorder.rename(anna.participant!, NameRequest(name: ""), as: anna) } == .invalid)
        #expect(try await recorder.rename(anna.participant!, NameRequest(name: "Annegret Berta-Maria"), as: anna).name == "Annegret Berta-Maria")
        #expect(Set(try await recorder.renditions(of: id, as: rights.moderator).map(\.id)) == Set(before.map(\.id)))
        await StageWorker(recorder: recorder).runUntilEmpty()
        let after = try await recorder.renditions(of: id, as: rights.moderator)
        let shows = { (view: RenditionView) in ["composite", "thumbnail"].contains(view.kind) }
        #expect(Set(after.map(\.kind)) == Set(before.map(\.kind)) && Set(after.filter(shows).map(\.id)).isDisjoint(with: before.map(\.id)))
        #expect(Set(after.filter { !shows($0) }.map(\.id)) == Set(before.filter { !shows($0) }.map(\.id)), "what shows no name stays")
        #expect(try await recorder.recording(id, as: rights.moderator).state == .ready)
        for old in before.filter(shows) {
            await #expect(throws: KeyStore.Missing.self) { try await recorder.keys.key(KeyStore.rendition(old.id)) }
            #expect(!FileManager.default.fileExists(atPath: recorder.configuration.artifact(id.rawValue, old.id.rawValue).path))
        }
        #expect(try await sha(after) != picture)
        for file in ["catalog.sqlite", "catalog.sqlite-wal"] where FileManager.default.fileExists(atPath: rights.data.appending(path: file).path) {
            #expect(try Data(contentsOf: rights.data.appending(path: file)).range(of: Data("Person A".utf8)) == nil, "\(file)")
        }
        await recorder.shutDown()
    }

    /// What the composite's still picture decodes to.
    private func sha(_ renditions: [RenditionView]) async throws -> String {
        let still = try #require(renditions.first { $0.kind == "thumbnail" })
        let file = rights.folder.url.appending(path: "still-\(still.id)")
        try await recorder.unseal(still.id, to: file)
        return String(try Data(contentsOf: file).hashValue) + "/" + String(try Data(contentsOf: file).count)
    }

    @Test("Art. 33, 34: of recordings, tracks and versions it is told who is in them and who had received them")
    func breach() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let id = made.id
        _ = try await recorder.control(id, .release, as: rights.moderator)
        let mix = try #require(try await recorder.renditions(of: id, as: made.principal("A")).first { $0.kind == "mix" })
        let download = try await recorder.download(mix.id, as: made.principal("B"))
        for try await _ in download.body(0..<download.length) {}
        func ask(_ objects: String...) async throws -> BreachView { try await recorder.affected(by: BreachRequest(objects: objects), as: rights.operatorPrincipal) }
        let (a, b) = (made.people["A"]!, made.people["B"]!)
        for object in [id.rawValue, mix.id.rawValue, "rendition:\(mix.id)"] {
            let view = try await ask(object)
            #expect(Set(view.affected.map(\.participant)) == [a, b], "\(object)")
            #expect(view.recipients.map(\.participant) == [b] && view.recipients.first?.bytes == download.length && view.recipients.first?.name == "Person B")
        }
        let track = try await rights.track(id, 0)
        let view = try await ask(track, "nothing")
        #expect(view.affected.map(\.participant) == [a] && view.affected.map(\.modalities) == [[.audio]] && view.affected.map(\.objects) == [[track]])
        #expect(view.recipients.map(\.participant) == [b] && view.unknown == ["nothing"])
        // After an erasure it is still told: it may have been there when it happened.
        try await recorder.erase(id, trigger: "test", actor: "test")
        #expect(try await Set(ask(id.rawValue).affected.map(\.participant)) == [a, b])
        #expect(try Set(Recorder.affected(by: [id.rawValue], catalog: rights.data.appending(path: "catalog.sqlite").path).affected.map(\.participant)) == [a, b])
        for other in [rights.moderator, made.principal("A")] { #expect(await Rights.code { try await recorder.affected(by: BreachRequest(objects: [track]), as: other) } == .forbidden) }
        await recorder.shutDown()
    }

    @Test("a tar archive's blocks: sizes in octal, from 8 GiB in base 256")
    func tar() throws {
        let small = TarArchive.header(name: "a", size: 5, modified: 1)
        #expect(small.count == 512 && Array(small[124..<136]) == Array("00000000005\0".utf8) && Array(small[257..<265]) == Array("ustar\u{0}00".utf8))
        let sum = small.enumerated().reduce(0) { $0 + (148..<156 ~= $1.offset ? 32 : Int($1.element)) }
        #expect(Array(small[148..<156]) == Array((String(repeating: "0", count: 6 - String(sum, radix: 8).count) + String(sum, radix: 8) + "\0 ").utf8))
        #expect(Array(TarArchive.header(name: "a", size: 1 << 33, modified: 1)[124..<136]) == [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0])
        #expect([0, 1, 511, 512, 513].map { TarArchive.padding(after: $0).count } == [0, 511, 1, 0, 511])
    }
}
