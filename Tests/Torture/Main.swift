import Depacketize
import Foundation
import Glibc
import Histories
import JobQueue
import TestSupport

/// Drives the depacketizer through emulated networks by the hundred million packets: the tests' own rules and the tests' own senders.
///
/// `mitschnitt-torture [--seeds A..<B] [--packets N]`: 0..<100 and 1,000,000 without. Fails with status 1 where a rule does not hold.
/// `mitschnitt-torture --histories A..<B` plays random histories of recordings against the rules of consent instead.
/// `mitschnitt-torture --jobs N` drives the job store through a random history of N steps (100,000 without) against its model instead.
/// `mitschnitt-torture --corpus FOLDER` writes the fuzzers' first inputs instead.
@main
struct Torture {
    static func main() async throws {
        let arguments = CommandLine.arguments
        func value(_ name: String) -> String? { arguments.firstIndex(of: name).flatMap { $0 + 1 < arguments.count ? arguments[$0 + 1] : nil } }
        if let folder = value("--corpus") { return try Seeds().write(to: URL(filePath: folder)) }
        if arguments.contains("--jobs") { return try await jobs(value("--jobs").flatMap { Int($0) } ?? 100_000, seed: value("--seeds").flatMap { UInt64($0) } ?? 1) }
        if let range = value("--histories") { return try await histories(range.split(separator: "..<").compactMap { UInt64($0) }) }
        let packets = value("--packets").flatMap { Int($0) } ?? 1_000_000
        let bounds = (value("--seeds") ?? "0..<100").split(separator: "..<").compactMap { UInt64($0) }
        guard bounds.count == 2, bounds[0] <= bounds[1], packets > 0 else {
            print("mitschnitt-torture [--seeds A..<B] [--packets N] | --jobs N | --histories A..<B | --corpus FOLDER")
            exit(2)
        }
        var (failures, sent) = (0, 0)
        let begin = seconds()
        for seed in bounds[0]..<bounds[1] {
            let track = EmulatedTrack.random(seed: seed, packets: packets)
            let start = seconds()
            let outcome = track.run()
            sent += outcome.packetsSent
            let took = seconds() - start
            print("seed \(seed): \(track.source.content) \(outcome.packetsSent) packets, \(outcome.unitsOut) of \(outcome.unitsDecodable) units, error ms median \(outcome.error.median) |p99| \(outcome.error.absolute(0.99)),"
                  + " lost \(outcome.verdict.lost), late \(outcome.verdict.late), epochs \(outcome.verdict.epochs), most pending \(outcome.mostPending), \(peakMiB()) MiB, \(Int(Double(outcome.packetsSent) / took)) packets/s")
            for rule in outcome.broken { print("  BROKEN: \(rule)") }
            if !outcome.broken.isEmpty { failures += 1 }
            fflush(nil)
        }
        for hasReports in [false, true] where value("--seeds") == nil || bounds[0] == 0 {
            let apart = EmulatedTrack.lipSync(.opus(), .vp8(), hasReports: hasReports)
            sent += apart.packets
            let holds = abs(apart.atEndMs) <= 40 && apart.broken.isEmpty
            if !holds { failures += 1 }
            print("two hours, +300 and -200 ppm, 1 % loss, a stall of 10 s, \(hasReports ? "with" : "without") reports: sound \(apart.atEndMs) ms late at the end\(holds ? "" : "  BROKEN: \(apart.broken)")")
        }
        let took = seconds() - begin
        print("\(sent) packets in \(Int(took)) s (\(Int(Double(sent) / took)) packets/s, each read twice), at most \(peakMiB()) MiB; \(failures == 0 ? "every rule held" : "rules broke in \(failures) runs")")
        exit(failures == 0 ? 0 : 1)
    }

    private static func jobs(_ steps: Int, seed: UInt64) async throws {
        let (folder, start) = (try TemporaryFolder(), seconds())
        var history = JobHistory(seed: seed, steps: steps)
        let broken = try await history.run(on: StoreKind.sqliteInMemory.make(folder))
        for rule in broken { print("  BROKEN: \(rule)") }
        print("\(steps) steps of jobs, seed \(seed), in \(Int(seconds() - start)) s; \(broken.isEmpty ? "the store and its model agree" : "they disagree")")
        exit(broken.isEmpty ? 0 : 1)
    }

    private static func histories(_ bounds: [UInt64]) async throws {
        guard bounds.count == 2, bounds[0] < bounds[1] else {
            print("mitschnitt-torture --histories A..<B")
            exit(2)
        }
        let (begin, ground) = (seconds(), try await Ground())
        var counts: [String: Int] = [:]
        var failures = 0
        for seed in bounds[0]..<bounds[1] {
            let outcome = await Histories.run(seed: seed, on: ground)
            counts.merge(outcome.counts, uniquingKeysWith: +)
            guard let failure = outcome.failure else { continue }
            print(failure)
            fflush(nil)
            failures += 1
            if failures == 5 { break }
        }
        for (what, count) in counts.sorted(by: { $0.key < $1.key }) { print("\(count)\t\(what)") }
        let (took, number) = (seconds() - begin, bounds[1] - bounds[0])
        print("\(number) histories in \(Int(took)) s (\(Int(took * 1000 / Double(number))) ms each); \(failures == 0 ? "every rule held" : "rules broke in \(failures)")")
        ground.remove()
        exit(failures == 0 ? 0 : 1)
    }

    private static func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private static func peakMiB() -> Int {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        return usage.ru_maxrss / 1_024
    }
}
