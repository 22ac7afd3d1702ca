import Foundation
import Glibc
import Logging
import Renditions

/// What confines stages on this machine: tried in children, one for each thing that must fail, and not read off a kernel's version.
enum Confinement {
    /// How a child that tried something ended.
    enum Outcome: Equatable {
        /// By the filter of system calls.
        case stopped
        /// With an error, by Landlock or ordinary rights.
        case refused
        /// Nothing kept it from it.
        case succeeded
        /// The part that was to be tried alone is not there.
        case lacking
        case unknown(String)
    }

    /// What is tried, and what people call it.
    static let tries = [
        ("open", "a stage opens no file by its name"), ("socket", "a stage opens no connection"), ("fork", "a stage starts no process"),
        ("exec", "a stage runs no program"), ("signal", "a stage reaches no other process"), ("trace", "a stage looks into no other process"),
        ("code", "a stage runs no code that it wrote itself"),
    ]

    /// Blocks for some tens of milliseconds.
    static func attempt(_ what: String, without part: StageConfinement.Part? = nil) -> Outcome {
        do {
            let child = try Child(Companion.stage, ["--try", what] + (part.map { ["--without", $0.rawValue] } ?? []), log: URL(filePath: "/dev/null"))
            return switch child.wait() {
            case SIGSYS: .stopped
            case 10: .refused
            case 0: .succeeded
            case 11: .lacking
            case let status: .unknown("it ended with \(status)")
            }
        } catch {
            return .unknown("\(error)")
        }
    }

    /// One line each for `doctor`.
    static func findings() -> [DoctorCommand.Finding] {
        var findings = tries.map { what, name in
            let outcome = attempt(what)
            let figure = switch outcome {
            case .stopped: "stopped by the filter of system calls"
            case .refused: "refused by the kernel, without the filter"
            case .succeeded, .lacking: "it could"
            case .unknown(let why): why
            }
            return DoctorCommand.Finding(isGood: outcome == .stopped, what: name, figure: figure,
                                         hint: "a kernel with CONFIG_SECCOMP_FILTER, and a container that allows seccomp(2); until then stages are held by less")
        }
        let alone = attempt("open", without: .filter)
        findings.append(DoctorCommand.Finding(
            isGood: alone == .refused, what: "Landlock holds a stage by itself", figure: alone == .refused ? "no file, even without the filter" : "not in force: the filter stands alone",
            hint: "Linux 5.13 or later with landlock among the kernel's lsm= at boot, and a container that allows its calls"))
        return findings
    }

    /// Once at a server's start.
    static func note(_ logger: Logger) {
        let (filter, landlock) = (attempt("open", without: .landlock), attempt("open", without: .filter))
        if filter == .stopped, landlock == .refused {
            logger.info("stages are confined by a filter of system calls and by Landlock")
        } else {
            logger.warning("stages are confined by less than they should be: `mitschnitt doctor` says what is missing",
                           metadata: ["filter": "\(filter)", "landlock": "\(landlock)"])
        }
    }
}
