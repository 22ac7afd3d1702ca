import Foundation
import Glibc
import Synchronization

/// Output for a person: lines that grow in place on a terminal, and plain lines now and then in a log file.
final class Terminal: Sendable {
    static let shared = Terminal()

    let isInteractive = isatty(STDOUT_FILENO) == 1 && ProcessInfo.processInfo.environment["NO_COLOR"] == nil
    private struct State {
        /// Lines of the block that is redrawn in place.
        var live = 0
        /// When a log file last got a line of progress.
        var lastPlain: [String: Int] = [:]
    }
    private let state = Mutex(State())

    private func style(_ code: String, _ text: String) -> String { isInteractive ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text }
    func bold(_ text: String) -> String { style("1", text) }
    func dim(_ text: String) -> String { style("2", text) }
    func green(_ text: String) -> String { style("32", text) }
    func red(_ text: String) -> String { style("31", text) }

    /// A line that stays.
    func line(_ text: String = "") {
        state.withLock { state in
            state.live = 0
            write(text + "\n")
        }
    }

    func step(_ number: Int, _ text: String) { line("\n" + bold("\(number)  \(text)")) }

    /// A promise with its figure; false makes the mark a cross.
    func check(_ kept: Bool, _ what: String, _ figure: String) {
        line("   \(kept ? green("✓") : red("✗")) \(what.padding(toLength: 58, withPad: " ", startingAt: 0)) \(figure)")
    }

    /// Bars that are redrawn in place; a log file gets a line for each quarter.
    func bars(_ bars: [(name: String, share: Double, note: String)]) {
        state.withLock { state in
            if isInteractive {
                var text = state.live > 0 ? "\u{1B}[\(state.live)A" : ""
                for bar in bars { text += "\u{1B}[2K   \(bar.name.padding(toLength: 26, withPad: " ", startingAt: 0)) \(Self.bar(bar.share)) \(bar.note)\n" }
                state.live = bars.count
                write(text)
            } else {
                for bar in bars {
                    let quarter = Int(bar.share * 4)
                    guard state.lastPlain[bar.name] != quarter else { continue }
                    state.lastPlain[bar.name] = quarter
                    write("   \(bar.name.padding(toLength: 26, withPad: " ", startingAt: 0)) \(quarter * 25) % \(bar.note)\n")
                }
            }
        }
    }

    /// Ends a block of bars.
    func settle() {
        state.withLock {
            $0.live = 0
            $0.lastPlain = [:]
        }
    }

    static func bar(_ share: Double, width: Int = 30) -> String {
        let full = Int((min(max(share, 0), 1) * Double(width)).rounded())
        return String(repeating: "█", count: full) + String(repeating: "░", count: width - full) + String(format: " %3.0f %%", share * 100)
    }

    private func write(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }
}
