import ArgumentParser
import Foundation
import Media
import Recorder

/// What is kept until when, and whether anything is past its date.
struct RetentionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retention", abstract: "Show everything that has a date: what ends next, and what is past it, which must be nothing.",
        discussion: """
            Reads the data folder and changes nothing; the server may run. Keys and folders of what is erased are looked for, too.
            Exit status: 0 nothing is past its date, 1 something is, 2 it cannot be read.
            """)

    @Option(help: "A YAML file with settings, as given to serve: periods that are not the default count.") var config: String?
    @Option(help: "The server's data folder.") var data: String?
    @Option(help: "For another moment than now: seconds since 1970, or 2027-01-31T12:00:00Z.") var at: String?
    @Flag(help: "As JSON.") var json = false

    func run() async throws {
        let report: RetentionReport
        do {
            let settings = try await Settings.read(file: config, flags: ["data": data]).recorder
            guard FileManager.default.fileExists(atPath: settings.data.appending(path: "catalog.sqlite").path) else {
                throw CommandError(what: "there is no catalog in \(settings.data.path)", hint: "give the server's data folder with --data")
            }
            report = try RetentionReport.read(data: settings.data, policy: settings.retention, at: try moment())
        } catch {
            let what = (error as? RecorderError).map { "\($0.detail)\n  \($0.hint ?? "")" } ?? "\(error)"
            FileHandle.standardError.write(Data("\(what)\n".utf8))
            throw ExitCode(2)
        }
        if json { try printJSON(report) } else { tell(report) }
        if !report.isClean { throw ExitCode(1) }
    }

    private func moment() throws -> WallTime {
        guard let at else { return WallTime(seconds: Date().timeIntervalSince1970) }
        if let seconds = Double(at), (0...1e10).contains(seconds) { return WallTime(seconds: seconds) }
        guard let date = try? Date(at, strategy: .iso8601) else { throw CommandError(what: "--at \(at) is no moment", hint: "for example 2027-01-31T12:00:00Z") }  // the reason would not help
        return WallTime(seconds: date.timeIntervalSince1970)
    }

    private func printJSON(_ report: RetentionReport) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }

    private func tell(_ report: RetentionReport) {
        func time(_ seconds: Double?) -> String { seconds.map { Date(timeIntervalSince1970: $0).formatted(.iso8601) } ?? "-" }
        print("at \(time(report.at))")
        for kind in report.kinds {
            print("  \(kind.name): \(kind.count), next date \(time(kind.next)) (\(kind.rule))")
            if kind.pastDate > 0 { print("    PAST ITS DATE: \(kind.pastDate), the oldest since \(time(kind.oldestPastDate))") }
        }
        if report.held > 0 { print("  kept beyond their date by a restriction: \(report.held)") }
        if !report.endingNext.isEmpty { print("ending next:") }
        for ending in report.endingNext { print("  \(time(ending.expiresAt))  \(ending.recording)") }
        for leftover in report.leftovers { print("LEFT OVER: \(leftover)") }
        print(report.isClean ? "nothing is past its date" : "NOT CLEAN: is the server running? its sweep ends what is past its date within a minute")
    }
}
