import Foundation
import Glibc
import JobQueue
import Media
import TestSupport

/// A worker in a process of its own, for tests that stop and kill it: `mitschnitt-jobworker DATABASE [BEAT LEASE [LOSSES]]` runs shell jobs until it
/// ends; SIGTERM gives back what it has. Seconds; 5 and 30 without. LOSSES: how many deaths of workers a job is forgiven.
@main
struct JobWorker {
    static func main() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count >= 2 else { exit(2) }
        var options = SupervisorOptions()
        options.slots = [.light: 4, .heavy: 1]
        options.grace = .milliseconds(200)
        options.retries.firstDelay = .milliseconds(50)
        if arguments.count >= 4, let beat = Double(arguments[2]), let lease = Double(arguments[3]) { (options.beat, options.lease) = (Nanoseconds(seconds: beat), Nanoseconds(seconds: lease)) }
        if arguments.count == 5, let losses = Int(arguments[4]) { options.retries.lossesMax = losses }
        let supervisor = JobSupervisor(ShellWork(), store: try JobDatabase.open(arguments[1]), options: options) { WallTime(seconds: Date().timeIntervalSince1970) }
        signal(SIGTERM, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: SIGTERM, queue: .global())
        source.setEventHandler { supervisor.drain() }
        source.activate()
        print("ready")
        fflush(nil)
        await supervisor.run()
        source.cancel()
    }
}
