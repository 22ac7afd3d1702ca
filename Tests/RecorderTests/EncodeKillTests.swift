import Foundation
import Glibc
import Media
@testable import Recorder
import TestSupport
import Testing

/// A picture that is encoded in parts, and whoever encodes it killed again and again; `MITSCHNITT_KILLS=all`: twenty times (`make torture`).
@Suite("Kill -9 in mid-encode", .serialized, .timeLimit(.minutes(20)))
struct EncodeKillTests {
    private static let isAll = ProcessInfo.processInfo.environment["MITSCHNITT_KILLS"] == "all"

    private static let stages = """
          tracks: {stage: depacketize}
          mix: {stage: mix, inputs: [tracks.audio], outputs: {sound: mp4}}
          composite:
            stage: compose
            inputs: [tracks.video, mix.sound]
            outputs: {picture: mp4}
            parameters: {width: \(isAll ? 1280 : 960), height: \(isAll ? 720 : 540), frame_rate: 25, preset: veryfast, constant_rate_factor: 28, threads: 1, part_seconds: 3}
        """

    private struct Encoder {
        var job: JobView
        var process: pid_t
    }

    /// Waits for a child that encodes a part and has taken so many hundredths of a second of processor time; nil once nothing is left to encode.
    /// `most`: the most that any took that was seen on the way.
    private func encoder(_ recording: UnmadeRecording, _ server: KilledServer.Server, hundredths: Int, most: inout Int) throws -> Encoder? {
        for _ in 0..<6_000 {
            let jobs = try recording.jobs(server)
            let parts = jobs.filter { $0.kind == "compose-part" }
            if !parts.isEmpty, parts.allSatisfy({ $0.state == "done" }) { return nil }
            let running = jobs.filter { $0.state == "running" }
            if running.count == 1, let job = running.first, job.kind == "compose-part", let process = Self.children(of: server.process.processIdentifier).first {
                while let used = Self.hundredths(process) {
                    most = max(most, used)
                    if used >= hundredths { return Encoder(job: job, process: process) }
                    usleep(1_000)
                }
            }
            usleep(10_000)
        }
        throw KilledServer.Broken(description: "nothing is encoded: \(try recording.jobs(server))")
    }

    private static func children(of parent: pid_t) -> [pid_t] {
        // A process, or a thread of it, may be gone before it is looked at.
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(parent)/task")) ?? []
        return threads.flatMap { ((try? String(contentsOfFile: "/proc/\(parent)/task/\($0)/children", encoding: .utf8)) ?? "").split(separator: " ").compactMap { pid_t($0) } }
    }

    /// Processor time of a process that lives, as proc(5) counts it.
    private static func hundredths(_ process: pid_t) -> Int? {
        guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8), let end = text.lastIndex(of: ")") else { return nil }  // gone
        let fields = text[end...].split(separator: " ")
        guard fields.count > 14, fields[1] != "Z", let user = Int(fields[12]), let system = Int(fields[13]) else { return nil }
        return (user + system) * 100 / sysconf(Int32(_SC_CLK_TCK))
    }

    private func need(_ holds: Bool, _ what: String) throws { if !holds { throw KilledServer.Broken(description: what) } }

    @Test("a worker, or its child, killed in mid-encode twenty times in a row: what was made is kept, the rest is made, and decodes like that of an undisturbed run")
    func again() async throws {
        let recording = try await UnmadeRecording(Self.stages, seconds: Self.isAll ? 33 : 10, ["A": [.audio, .video], "B": [.audio, .video]])
        try recording.renew()
        let cost = try await aside {
            let server = try recording.server()
            defer { server.stop() }
            var most = 0
            try self.need(try self.encoder(recording, server, hundredths: .max, most: &most) == nil, "a part has no end")
            try recording.wait(server)
            return most
        }
        let undisturbed = try await recording.made()
        #expect(Set(undisturbed.keys) == ["mix.sound", "composite.picture"])
        try recording.renew()
        let told = try await aside { try self.kills(recording, Self.isAll ? 20 : 4, cost) }
        #expect(try await recording.made() == undisturbed, "\(told)")
        if Self.isAll { print(told.joined(separator: "\n")) }
    }

    /// Kills so often, lets it come to its end, and tells what was killed when. `cost`: what a part takes, in hundredths of a second.
    private func kills(_ recording: UnmadeRecording, _ count: Int, _ cost: Int) throws -> [String] {
        var random = Seeded(20)
        var told: [String] = []
        var crashed: Set<JobID> = []
        var kept: Set<JobID> = []
        var server = try recording.server()
        defer { if server.process.isRunning { server.stop() } }
        var most = 0
        for kill in 1...count {
            guard let encoder = try encoder(recording, server, hundredths: Int.random(in: 1...max(1, cost * 3 / 4), using: &random), most: &most) else {
                throw KilledServer.Broken(description: "everything was encoded after \(kill - 1) kills: \(told)")
            }
            // A child that dies may be its input's fault: a third time the part would be quarantined.
            let isChild = kill % 3 == 0 && crashed.insert(encoder.job.id).inserted
            Glibc.kill(isChild ? encoder.process : server.process.processIdentifier, SIGKILL)
            if !isChild {
                server.process.wait()
                for _ in 0..<5_000 where Self.hundredths(encoder.process) != nil { usleep(1_000) }
                try need(Self.hundredths(encoder.process) == nil, "the child of a worker that was killed lives on")
                server = try recording.server()
            }
            told.append("kill \(kill): \(isChild ? "child" : "server") at \(encoder.job.name), attempt \(encoder.job.attempts), \(kept.count) parts done")
            // Now and then it comes to the end of a part in peace.
            for _ in 0..<6_000 {
                let parts = try recording.jobs(server).filter { $0.kind == "compose-part" }
                let done = Set(parts.filter { $0.state == "done" }.map(\.id))
                try need(kept.isSubset(of: done), "a part that was done is made again")
                if kill % 2 == 1 || done.count > kept.count || done.count + 2 > parts.count {
                    kept = done
                    break
                }
                usleep(10_000)
            }
        }
        try recording.wait(server)
        let losses = try recording.jobs(server).map(\.losses).reduce(0, +)
        try need(2 * losses > told.count { $0.contains("server") }, "only \(losses) deaths of the server were noticed: \(told)")
        return told
    }
}
