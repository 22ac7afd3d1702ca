import Foundation
import Glibc
import Media
@testable import Recorder
import TestSupport
import Testing

/// A small pipeline on the real program, which is killed, or whose disk fails, at each of its state-changing system calls and each of its stages';
/// `MITSCHNITT_KILLS=all` does all of them (`make torture`), otherwise a seeded few. Looking into another process's system calls needs root.
@Suite("A pipeline and its system calls", .serialized, .enabled(if: geteuid() == 0, "needs root"))
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

    private typealias Fault = UnmadeRecording.Fault

    /// Counts the calls of an undisturbed run, then has `body` for a fault at each of them, or at `few`; what it makes has to be what the
    /// undisturbed run made, and whoever spoke meanwhile in another recording is on the disk.
    private func each(_ fault: Fault, few: Int, seed: UInt64, _ body: @escaping @Sendable (UnmadeRecording, Fault) throws -> UnmadeRecording.Speech?) async throws {
        let recording = try await UnmadeRecording(Self.stages, seconds: 2.5)
        try recording.renew()
        var counting = fault
        (counting.at, counting.lasts) = (0, false)
        try await aside { [counting] in
            let server = try recording.server(counting)
            defer { server.stop() }
            try recording.wait(server)
        }
        let undisturbed = try await recording.made()
        #expect(Set(undisturbed.keys) == ["mix.sound", "composite.picture"])
        let count = try recording.calls().count
        #expect(count > 5, "\(count) calls")
        var random = Seeded(seed)
        let places = Self.isAll ? Array(1...max(1, count)) : (0..<few).map { max(1, (count * $0 + Int.random(in: 1...max(1, count), using: &random)) / few) }
        for place in places {
            if Self.isAll, place % 20 == 0 { FileHandle.standardError.write(Data("\(place) of \(count)\n".utf8)) }
            var now = fault
            now.at = place
            do {
                try recording.renew()
                let speech = try await aside { [now] in try body(recording, now) }
                let made = try await recording.made()
                if made != undisturbed { Issue.record("\(now): what was made is not what an undisturbed run makes") }
                guard let speech else { continue }
                // Where only stages fail, capture loses nothing; where the disk itself does, what came afterwards is there.
                let stored = try await recording.stored()
                if speech.taken != speech.sent || stored < (fault.children ? speech.sent : speech.last) { Issue.record("\(now): \(speech), \(stored) packets on the disk") }
            } catch {
                let calls = try recording.calls()
                Issue.record("\(now), \(calls.count >= place ? calls[place - 1] : "which was not reached") (of \(count)): \(error)")
            }
        }
        if Self.isAll { print("\(count) calls of \(fault.children ? "the stages" : "the server"), \(fault.errno ?? "killed") \(fault.lasts ? "from" : "at") each of them") }
    }

    /// Nil where it ended before it listened; then what it said.
    private func start(_ recording: UnmadeRecording, _ fault: Fault) throws -> KilledServer.Server? {
        do { return try recording.server(fault) } catch is KilledServer.Broken { return nil }
    }

    @Test("killed at any call of the server on its way from packets to renditions: the next start makes each once, as ever, and leaves nothing behind")
    func server() async throws {
        try await each(Fault(at: 0), few: 4, seed: 5) { recording, fault in
            if let server = try start(recording, fault) {
                do { try recording.wait(server) } catch is KilledServer.Broken where !server.process.isRunning {}
                server.stop()
            }
            try recording.finish()
            return nil
        }
    }

    @Test("a stage killed at any of its calls is tried again, and nobody else notices")
    func children() async throws {
        try await each(Fault(children: true, at: 0), few: 2, seed: 6) { recording, fault in
            let server = try recording.server(fault)
            defer { server.stop() }
            return try recording.speaking(server) { try recording.wait(server) }
        }
    }

    /// One call fails: the server goes on, or says at its start in words why it cannot, and makes everything in the end.
    private func oneFails(_ recording: UnmadeRecording, _ fault: Fault) throws -> UnmadeRecording.Speech? {
        var speech: UnmadeRecording.Speech?
        do {
            let server = try recording.server(fault)
            defer { server.stop() }
            speech = try recording.speaking(server) { try recording.wait(server) }
        } catch let error as KilledServer.Broken where error.description.hasPrefix("the server did not start") {
            guard error.description.hasSuffix("(1)"), error.description.contains("rror: ") else { throw error }
        }
        // What could not be removed then is removed at the next start.
        try recording.finish()
        return speech
    }

    @Test("any call of the server, or of a stage, fails with EIO: it lives on, and everything is made as ever", arguments: [false, true])
    func inputOutput(children: Bool) async throws {
        try await each(Fault(children: children, errno: "EIO", at: 0), few: children ? 1 : 2, seed: 7) { try oneFails($0, $1) }
    }

    @Test("the disk is full from any call on, for a while: the server lives on, and everything is made once there is room", arguments: [false, true])
    func full(children: Bool) async throws {
        try await each(Fault(children: children, errno: "ENOSPC", lasts: true, at: 0), few: children ? 1 : 2, seed: 8) { recording, fault in
            var speech: UnmadeRecording.Speech?
            do {
                let server = try recording.server(fault)
                defer { server.stop() }
                // Once it has run into it a few times there is room again.
                speech = try recording.speaking(server) {
                    for _ in 0..<100 where try server.process.isRunning && recording.calls().count < fault.at + (children ? 2 : 8) && recording.end(server) == nil { usleep(20_000) }
                    recording.relieve()
                    try recording.wait(server)
                }
            } catch let error as KilledServer.Broken where error.description.hasPrefix("the server did not start") {
                guard error.description.hasSuffix("(1)"), error.description.contains("rror: ") else { throw error }
            }
            try recording.finish()
            return speech
        }
    }
}
