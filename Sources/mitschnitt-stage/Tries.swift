import CLinux
import Foundation
import Glibc
import Renditions

/// For `mitschnitt doctor`, which believes no kernel's word: a confined process tries what it must not be able to do.
///
/// `--try WHAT [--without filter|landlock]`; exit status 0 where it could, 10 where it was refused, 11 where the part to be tried alone is lacking.
/// The filter's own answer is SIGSYS.
enum Tries {
    static func run(_ arguments: some Sequence<String>) -> Never {
        let all = Array(arguments)
        guard let what = all.first else { exit(2) }
        do {
            let without = all.count == 3 && all[1] == "--without" ? StageConfinement.Part(rawValue: all[2]) : nil
            let granted = try StageConfinement.enter(StageLimits(), readable: nil, without: without.map { [$0] } ?? [])
            if without == .filter, granted.withoutLandlock != nil { exit(11) }
            if without == .landlock, granted.withoutFilter != nil { exit(11) }
        } catch {
            exit(2)
        }
        switch clinux_try(what) {
        case -1: exit(2)
        case 0: exit(0)
        default: exit(10)
        }
    }
}
