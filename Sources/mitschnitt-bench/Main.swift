import Foundation

/// Figures beside the peers', measured side by side in one run: CPU seconds of whole processes, and ratios.
///
/// `make bench` runs it; `--seconds N` shortens the capture (60 by default), `--minutes N` makes the group's meeting (6 by default) or the import in parts (10) longer or shorter,
/// `--streams N` takes fewer than 1,000 streams to the gate, in recordings of at most 200; `--silence dtx` or `--silence muted` one of the group's cells;
/// `--only jobs,capture,gate,media,remux,parts,group,sweep,live` leaves the others out; `live` is run only where it is named, for it takes
/// `--minutes` of real time (`--ordinary`: rendered after the end, for comparison; `--withdraw`: the fourth person comes when four fifths are over,
/// and withdraws a minute before the end). `--timeline`: when each job of the import in parts ran.
@main
struct Bench {
    static func main() async throws {
        let arguments = CommandLine.arguments
        if arguments.count == 4, arguments[1] == "--capture", let port = UInt16(arguments[2]) { return try CaptureBench.capture(port: port, directory: arguments[3]) }
        func value(_ name: String) -> String? { arguments.firstIndex(of: name).flatMap { $0 + 1 < arguments.count ? arguments[$0 + 1] : nil } }
        let (seconds, minutes) = (value("--seconds").flatMap { Int($0) } ?? 60, max(1, value("--minutes").flatMap { Int($0) } ?? 6))
        let only = value("--only").map { $0.split(separator: ",").map(String.init) } ?? ["jobs", "capture", "gate", "media", "remux", "parts", "group", "sweep"]
        let streams = max(1, value("--streams").flatMap { Int($0) } ?? 1_000)
        let folder = FileManager.default.temporaryDirectory.appending(path: "mitschnitt-bench-\(ProcessInfo.processInfo.processIdentifier)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }  // in the system's temporary folder
        if only.contains("jobs") {
            print("jobs: the queue in a database file, jobs that do nothing")
            try await JobBench(folder: folder).run()
        }
        if only.contains("capture") {
            print("capture: 20,000 packets/s of 1,000 bytes over loopback for \(seconds) s, sealed and synced to disk")
            try CaptureBench(folder: folder, seconds: seconds).run()
        }
        if only.contains("gate") {
            print("\ngate: \(streams) streams of \(GateBench.rate) packets/s over loopback to the server, \(GateBench.withdrawals) withdrawals through its API; limit \(GateBench.limitMs) ms")
            try await GateBench(folder: folder, streams: streams).run()
        }
        if only.contains("media") {
            print("\nmix and compose: the captured conference of Fixtures/vp8, five rounds each, median")
            try MediaBench(folder: folder).run()
        }
        if only.contains("remux") {
            print("\ndepacketize and remux: a sealed packet log to Matroska, five rounds each by turns, median")
            try await RemuxBench(folder: folder).run()
        }
        if only.contains("parts") {
            let length = value("--minutes") == nil ? 10 : minutes
            print("\nparts: an import of \(length) minutes in parts of a minute, by one worker and by two; at least \(PartsBench.ratioMin)x")
            try await PartsBench(folder: folder, minutes: length, isTimelineTold: arguments.contains("--timeline")).run()
        }
        if only.contains("sweep") {
            print("\nsweep: \(SweepBench.artefacts) expired artefacts of \(SweepBench.artefacts / SweepBench.perRecording) recordings; limit \(SweepBench.limitSeconds) s")
            try await SweepBench(folder: folder).run()
        }
        if only.contains("live") {
            let isLive = !arguments.contains("--ordinary")
            print("\nlive: a meeting of four for \(minutes) minutes in real time; limits \(LiveBench.soundLimitSeconds) s for the sound, \(LiveBench.limitSeconds) s for the picture")
            try await LiveBench(folder: folder, seconds: minutes * 60, isLive: isLive, isWithdrawn: arguments.contains("--withdraw")).run()
        }
        if only.contains("group") {
            for isDiscontinuous in [true, false] where value("--silence").map({ ($0 == "dtx") == isDiscontinuous }) ?? true {
                let silence = isDiscontinuous ? "discontinuous transmission" : "muted microphones that go on sending"
                print("\nmix of a group: \(GroupBench.people) participants, \(minutes) minutes, one speaks at a time mostly, \(silence), \(minutes < 30 ? "three rounds each, median" : "one round")")
                try await GroupBench(folder: folder.appending(path: isDiscontinuous ? "dtx" : "muted"), minutes: minutes, isDiscontinuous: isDiscontinuous).run()
            }
        }
    }
}

/// One row of the table.
func row(_ name: String, _ figure: String, _ ratio: String = "") {
    func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.count)) }
    print("  " + padded(name, 56) + padded(figure, 28) + ratio)
}

struct BenchFailure: Error, CustomStringConvertible { var description: String }
