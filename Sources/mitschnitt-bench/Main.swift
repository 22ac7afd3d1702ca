import Foundation

/// Figures beside the peers', measured side by side in one run: CPU seconds of whole processes, and ratios.
///
/// `make bench` runs it; `--seconds N` shortens the capture (60 by default).
@main
struct Bench {
    static func main() throws {
        let arguments = CommandLine.arguments
        if arguments.count == 4, arguments[1] == "--capture", let port = UInt16(arguments[2]) { return try CaptureBench.capture(port: port, directory: arguments[3]) }
        let seconds = arguments.firstIndex(of: "--seconds").flatMap { $0 + 1 < arguments.count ? Int(arguments[$0 + 1]) : nil } ?? 60
        let folder = FileManager.default.temporaryDirectory.appending(path: "mitschnitt-bench-\(ProcessInfo.processInfo.processIdentifier)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }  // in the system's temporary folder
        print("capture: 20,000 packets/s of 1,000 bytes over loopback for \(seconds) s, sealed and synced to disk")
        try CaptureBench(folder: folder, seconds: seconds).run()
        print("\nmix and compose: the captured conference of Fixtures/vp8, five rounds each, median")
        try MediaBench(folder: folder).run()
    }
}

/// One row of the table.
func row(_ name: String, _ figure: String, _ ratio: String = "") {
    func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.count)) }
    print("  " + padded(name, 56) + padded(figure, 28) + ratio)
}

struct BenchFailure: Error, CustomStringConvertible { var description: String }
