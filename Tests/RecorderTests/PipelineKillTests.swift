import Foundation
import Glibc
import Media
@testable import Recorder
import TestSupport
import Testing

/// A small pipeline on the real program, which is killed, or whose disk fails, at each of its state-changing system calls and each of its stages';
/// `MITSCHNITT_KILLS=all` does all of them (`make torture`), otherwise a seeded few. Looking into another process's system calls needs root.
@Suite("A pipeline and its system calls", .enabled(if: geteuid() == 0, "needs root"))
struct PipelineKillTests {
    private static let isAll = ProcessInfo.processInfo.environment["MITSCHNITT_KILLS"] == "all"

    private static let stages = """
          tracks: {stage: depacketize}
          mix: {stage: mix, inputs: [tracks.audio], outputs: {sound: mp4}}
          composite:
            stage: compose
            inputs: [tracks.video, mix.sound]
            outputs: {picture: mp4}
            parameters: {width: 160, height: 120, frame_rate: 5, preset: ultrafast, constant_rate_factor: 35, threads: 1}
        """

    fileprivate typealias Fault = UnmadeRecording.Fault

    /// Kinds of faults, and at how many calls each happens where not all of them are meant.
    struct Faults: Sendable, CustomTestStringConvertible {
        fileprivate var children: Bool
        fileprivate var kinds: [(fault: Fault, few: Int)]

        var testDescription: String { kinds.map { $0.fault.kind }.joined(separator: ", ") }

        /// The few share what an undisturbed run says; all of them run side by side.
        static let cases: [Faults] = [false, true].flatMap { children in
            let kinds = [(Fault(children: children, at: 0), children ? 1 : 3), (Fault(children: children, errno: "EIO", at: 0), 1), (Fault(children: children, errno: "ENOSPC", lasts: true, at: 0), 1)]
            return isAll ? kinds.map { Faults(children: children, kinds: [$0]) } : [Faults(children: children, kinds: kinds)]
        }
    }

    @Test("killed, failing with EIO, or without room for a while, at any call on the way from packets to renditions: everything is made in the end, once, as ever, and capture goes on",
          arguments: Faults.cases)
    func anyCall(faults: Faults) async throws {
        let recording = try await UnmadeRecording(Self.stages, seconds: 2.5)
        try recording.renew()
        try await aside {
            let server = try recording.server(Fault(children: faults.children, at: 0))
            defer { server.stop() }
            try recording.wait(server)
        }
        let calls = try recording.calls()
        #expect(calls.count > 5, "\(calls)")
        let undisturbed = try await recording.made()
        #expect(Set(undisturbed.keys) == ["mix.sound", "composite.picture"])
        // Each of these may take room; whether a file was there already the list does not say.
        let writes = calls.count { $0.contains("write") || $0.contains("mkdir") }
        var random = Seeded(5)
        for (fault, few) in faults.kinds {
            let count = fault.lasts ? writes : calls.count
            let places = Self.isAll ? Array(1...max(1, count)) : (0..<few).map { max(1, (count * $0 + Int.random(in: 1...max(1, count), using: &random)) / few) }
            for place in places {
                var now = fault
                now.at = place
                if Self.isAll, place % 20 == 0 { FileHandle.standardError.write(Data("\(now) of \(count)\n".utf8)) }
                await check(now, recording, undisturbed)
            }
            if Self.isAll { print("\(fault.kind): done for all \(count) calls") }
        }
    }

    /// What is made with a fault has to be what the undisturbed run made, and whoever spoke meanwhile in another recording is on the disk.
    private func check(_ fault: Fault, _ recording: UnmadeRecording, _ undisturbed: [String: String]) async {
        do {
            try recording.renew()
            let speech = try await aside {
                if fault.errno == nil, !fault.children { try killed(recording, fault) } else { try disturbed(recording, fault) }
            }
            let made = try await recording.made()
            if made != undisturbed { Issue.record("\(fault): what was made is not what an undisturbed run makes") }
            guard let speech else { return }
            // Where only stages fail, capture loses nothing; where the disk itself does, what came afterwards is there.
            let stored = try await recording.stored()
            if speech.taken != speech.sent || stored < (fault.children ? speech.sent : speech.last) { Issue.record("\(fault): \(speech), \(stored) packets on the disk") }
        } catch {
            let calls = (try? recording.calls()) ?? []  // none is there where the server did not start
            Issue.record("\(fault), \(calls.count >= fault.at ? calls[fault.at - 1] : "which was not reached"): \(error)")
        }
    }

    /// The server dies; the next start makes everything, and leaves nothing behind.
    private func killed(_ recording: UnmadeRecording, _ fault: Fault) throws -> UnmadeRecording.Speech? {
        do {
            let server = try recording.server(fault)
            defer { server.stop() }
            try recording.wait(server)
        } catch let error as KilledServer.Broken {
            guard error.description.hasSuffix("(137)") else { throw error }
        }
        try recording.finish()
        return nil
    }

    /// The server goes on, or says at its start in words why it cannot, and makes everything in the end.
    private func disturbed(_ recording: UnmadeRecording, _ fault: Fault) throws -> UnmadeRecording.Speech? {
        var speech: UnmadeRecording.Speech?
        do {
            let server = try recording.server(fault)
            defer { server.stop() }
            speech = try recording.speaking(server) {
                // Once it has run into a full disk a few times there is room again.
                for _ in 0..<100 where try fault.lasts && server.process.isRunning && recording.calls().count < fault.at + 4 && recording.end(server) == nil { usleep(20_000) }
                recording.relieve()
                try recording.wait(server)
            }
        } catch let error as KilledServer.Broken where error.description.hasPrefix("the server did not start") {
            guard error.description.hasSuffix("(1)"), error.description.contains("rror: ") else { throw error }
        }
        // What could not be removed then is removed at the next start.
        try recording.finish()
        return speech
    }
}
