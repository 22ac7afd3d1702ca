import Catalog
import Consent
import Foundation
import GRDB
import Media
@testable import Recorder
import Renditions
import TestSupport
import Testing

@Suite("Batches", .timeLimit(.minutes(5)))
struct BatchTests {
    @Test("the hours of batches, over midnight too", arguments: [
        ("22:00-06:00", [1_320, 1_439, 0, 359], [1_319, 360, 720]), ("01:30-04:00", [90, 239], [89, 240, 1_439]), ("0:00-24:00", [0, 720, 1_439], []),
    ])
    func window(text: String, inside: [Int], outside: [Int]) throws {
        let window = try #require(BatchWindow(text))
        #expect(inside.allSatisfy(window.contains(minute:)) && !outside.contains(where: window.contains(minute:)))
        #expect(BatchWindow(window.description) == window)
    }

    @Test("what are no hours is refused", arguments: ["", "22:00", "22:00-22:00", "24:00-01:00", "25:00-01:00", "22:60-01:00", "22-6", "a:b-c:d", "22:00-06:00-07:00", "-1:00-2:00", "22:00-24:01"])
    func noWindow(text: String) { #expect(BatchWindow(text) == nil) }

    private static func kinds(_ rights: Rights, _ id: RecordingID) async throws -> Set<String> { Set(try await rights.recorder.renditions(of: id, as: rights.moderator).map(\.kind)) }

    @Test("recordings are made by another pipeline, one after the other; what it does not make goes when it is done, and the tracks stay")
    func another() async throws {
        let rights = try Rights { $0.workers = 1 }
        let recorder = rights.recorder
        let first = try await rights.imported(["A": [.audio, .video]], pipeline: "meeting").id
        let second = try await rights.imported(["A": [.audio], "B": [.audio]], pipeline: "meeting").id
        let started = try await recorder.startBatch(BatchRequest(pipeline: "audio-only"), as: rights.operatorPrincipal)
        #expect(started.waiting == 2 && started.progress == 0 && started.recordings.map(\.recording) == [first, second] && started.pipeline == "audio-only" && started.waitsFor == nil)
        await recorder.tidy()
        let begun = try await recorder.batch(started.id, as: rights.operatorPrincipal)
        #expect(begun.recordings.map(\.state) == ["begun", "waiting"])
        #expect(try await Self.kinds(rights, first) == ["mix", "composite", "waveform", "thumbnail"], "the old version stays until the new one is there")
        #expect(try await recorder.recording(second, as: rights.moderator).state == .ready)
        for _ in 0..<2 {
            await StageWorker(recorder: recorder).runUntilEmpty()
            await recorder.tidy()
        }
        let done = try await recorder.batch(started.id, as: rights.operatorPrincipal)
        #expect(done.done == 2 && done.progress == 1)
        for id in [first, second] {
            #expect(try await Self.kinds(rights, id) == ["mix", "waveform"])
            #expect(try await recorder.recording(id, as: rights.moderator).pipeline == "audio-only")
            #expect(try await recorder.recording(id, as: rights.moderator).state == .ready)
        }
        let (keys, ready, tracks) = try await recorder.catalog.read { db in
            (try String.fetchAll(db, sql: "SELECT id FROM rendition WHERE recording = ? AND state = 'erased'", arguments: [first.rawValue]),
             try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM rendition WHERE recording = ? AND state = 'ready'", arguments: [first.rawValue]), try db.streams(of: first.rawValue).count { $0.stream.file != nil })
        }
        #expect(ready == 2 && tracks == 2)
        for id in keys {
            await #expect(throws: KeyStore.Missing.self) { try await recorder.keys.key("rendition:\(id)") }
            #expect(!FileManager.default.fileExists(atPath: recorder.configuration.artifact(first.rawValue, id).path))
        }
        await recorder.shutDown()
    }

    @Test("outside its hours and above its load nothing is begun, and the batch says so; a cancelled batch begins nothing")
    func waits() async throws {
        // The one minute of the day that is farthest from now.
        let parts = Calendar.current.dateComponents([.hour, .minute], from: Date())
        let far = ((parts.hour ?? 0) * 60 + (parts.minute ?? 0) + 720) % 1_439
        let rights = try Rights { $0.batchWindow = BatchWindow(String(format: "%d:%02d-%d:%02d", far / 60, far % 60, (far + 1) / 60, (far + 1) % 60)) }
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio]])
        let batch = try await recorder.startBatch(BatchRequest(recordings: [made.id]), as: rights.operatorPrincipal)
        await recorder.tidy()
        let waiting = try await recorder.batch(batch.id, as: rights.operatorPrincipal)
        #expect(waiting.waiting == 1 && waiting.waitsFor?.hasPrefix("the hours of batches") == true)
        #expect(try await recorder.recording(made.id, as: rights.moderator).state == .ready)
        let cancelled = try await recorder.cancelBatch(batch.id, as: rights.operatorPrincipal)
        #expect(cancelled.isCancelled && cancelled.skipped == 1 && cancelled.recordings.first?.reason == "the batch was cancelled")
        await recorder.shutDown()

        let busy = try Rights { $0.batchMaxLoad = 0.000_001 }
        let other = try await busy.imported(["A": [.audio]])
        let held = try await busy.recorder.startBatch(BatchRequest(recordings: [other.id]), as: busy.operatorPrincipal)
        await busy.recorder.tidy()
        // A machine that has done nothing for a long time has no load at all.
        let seen = try await busy.recorder.batch(held.id, as: busy.operatorPrincipal)
        #expect(seen.waitsFor == nil || seen.waiting == 1)
        await busy.recorder.shutDown()
    }

    @Test("who may not, what is not there, and what cannot be made again is refused in words; what is restricted meanwhile is left out")
    func refused() async throws {
        let rights = try Rights()
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio]])
        for other in [rights.moderator, made.principal("A")] { #expect(await Rights.code { try await recorder.startBatch(BatchRequest(), as: other) } == .forbidden) }
        #expect(await Rights.code { try await recorder.startBatch(BatchRequest(pipeline: "none"), as: rights.operatorPrincipal) } == .invalid)
        #expect(await Rights.code { try await recorder.startBatch(BatchRequest(recordings: []), as: rights.operatorPrincipal) } == .invalid)
        #expect(await Rights.code { try await recorder.startBatch(BatchRequest(recordings: [.random()]), as: rights.operatorPrincipal) } == .notFound)
        #expect(await Rights.code { try await recorder.batch("none", as: rights.operatorPrincipal) } == .notFound)
        let batch = try await recorder.startBatch(BatchRequest(recordings: [made.id]), as: rights.operatorPrincipal)
        _ = try await recorder.restrict(made.id, RestrictionRequest(reason: .legalClaims, until: (recorder.clock.now + .seconds(86_400)).seconds), as: rights.moderator)
        await recorder.tidy()
        let left = try await recorder.batch(batch.id, as: rights.operatorPrincipal)
        #expect(left.skipped == 1 && left.recordings.first?.reason == "it is restricted" && left.progress == 1)
        await recorder.shutDown()
    }
}
