import ArgumentParser
import CLinux
import Glibc

/// The program people run; it links no codec.
@main
struct Mitschnitt: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mitschnitt",
        abstract: "Record online meetings with everybody's consent, and give out what was agreed for as long as it was agreed.",
        discussion: """
            A new machine: `mitschnitt doctor` says what is missing. The whole job in two minutes: `mitschnitt demo`.
            A server: `mitschnitt serve --data /var/lib/mitschnitt`. Captures to files, without a server: `mitschnitt render`.
            """,
        version: "0.1.0",
        subcommands: [ServeCommand.self, DemoCommand.self, ReplayCommand.self, RenderCommand.self, InspectCommand.self, PipelineCommand.self, ExportCommand.self, BackupCommand.self,
                      RestoreCommand.self, RetentionCommand.self, JobsCommand.self, BatchCommand.self, BreachCommand.self, AuditCommand.self, KeysCommand.self, DoctorCommand.self])

    static func main() async {
        withoutCrashReports()
        // Keys and media pass through this process: no core dump, no ptrace by others of the same user.
        _ = clinux_protect_memory()
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            exit(withError: error)
        }
    }
}

/// Starts this program again with the runtime's crash reports switched off: they print the memory around a crash, and that could be the
/// voice of somebody who said no. The runtime reads its setting before `main`, so it has to be there from the start.
private func withoutCrashReports() {
    guard getenv("SWIFT_BACKTRACE") == nil else { return }
    setenv("SWIFT_BACKTRACE", "enable=no", 1)
    var arguments: [UnsafeMutablePointer<CChar>?] = CommandLine.arguments.map { strdup($0) } + [nil]
    execv("/proc/self/exe", &arguments)
    // Where that fails the program goes on as it is.
    for argument in arguments { free(argument) }
}

/// An error for a person: what, where and what to do, on lines of their own.
struct CommandError: Error, CustomStringConvertible {
    var what: String
    var hint: String?

    var description: String { hint.map { "\(what)\n  \($0)" } ?? what }
}
