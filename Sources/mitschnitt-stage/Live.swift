import CLinux
import Foundation
import Glibc
import Renditions
import Stages

/// `--live`: renders a recording that still runs. What is not done at its end is done by its jobs.
enum Live {
    /// Before the process shuts itself in, which forbids it.
    static func runBehind() {
        if clinux_run_behind() != 0 { FileHandle.standardError.write(Data("mitschnitt-stage runs at full priority: errno \(errno)\n".utf8)) }
    }

    static func run(_ channel: StageChannel) -> Never {
        do {
            guard let (order, descriptors) = try channel.receiveLiveOrder() else { exit(1) }
            let rendering = try LiveRendering(order, descriptors: descriptors) { try channel.send($0) }
            while true {
                // Pictures take what time there is between two pieces of what is recorded.
                if rendering.isBehind || !channel.hasInput, try rendering.work() { continue }
                guard let (feed, descriptors) = try channel.receiveFeed() else { exit(1) }
                guard try rendering.take(feed, descriptors) else { exit(0) }
            }
        } catch let failure as StageFailure {
            try? channel.send(.trouble(failure.what))  // nobody to tell it to is no other end
        } catch {
            try? channel.send(.trouble("\(error)"))
        }
        exit(0)
    }
}
