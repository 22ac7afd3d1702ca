import Glibc
import Subprocess

/// A stage's death in words, for the person who looks at the job.
enum StageEnding {
    static func text(_ status: TerminationStatus, _ limits: StageLimits) -> String {
        switch status {
        case .exited(0): "it ended without an answer"
        case .exited(2): "it could not confine itself"
        case .exited(let code): "it ended with status \(code)"
        case .signaled(SIGSYS): "it asked the system for what a stage may not, and was stopped"
        case .signaled(SIGSEGV), .signaled(SIGBUS): "it touched memory that is not there (a defect in a codec, or a file made to find one)"
        case .signaled(SIGABRT), .signaled(SIGILL), .signaled(SIGTRAP): "it stopped itself at an impossible state, or had no memory left of its \(limits.memoryBytes >> 20) MiB"
        case .signaled(SIGKILL): "it was killed: by hand, or because the machine had no memory left"
        case .signaled(SIGXCPU): "it took more than its \(limits.cpuSeconds) s of processor time"
        case .signaled(let signal): "it died of signal \(signal)"
        }
    }
}

/// What a stage said on its standard error: the end of it, for the job.
///
/// Our own programs write constant sentences there, libraries what they like: so the text is cut, made printable, and whatever looks like a key
/// or a token is left out.
struct StageWords {
    static let bytesMax = 8 << 10
    static let linesMax = 5
    static let lineMax = 160

    private var kept: [UInt8] = []

    mutating func append(_ bytes: some Sequence<UInt8>) {
        kept += bytes
        if kept.count > 2 * Self.bytesMax { kept.removeFirst(kept.count - Self.bytesMax) }
    }

    /// The last lines, joined by line feeds; empty for none.
    var text: String {
        kept.suffix(Self.bytesMax).split(separator: UInt8(ascii: "\n")).suffix(Self.linesMax).map { Self.clean($0) }.filter { !$0.isEmpty }.joined(separator: "\n")
    }

    private static func clean(_ line: some Sequence<UInt8>) -> String {
        let bytes: [UInt8] = line.prefix(4 * lineMax).map { (0x20...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }
        let printable = String(decoding: bytes, as: UTF8.self)
        let words = printable.split(separator: " ").map { word -> String in
            let isSecret = word.utf8.count >= 32 && word.utf8.allSatisfy { 0x30...0x39 ~= $0 || 0x41...0x5A ~= $0 || 0x61...0x7A ~= $0 || "+/=_-".utf8.contains($0) }
            return isSecret ? "…" : String(word)
        }
        return words.joined(separator: " ").prefix(lineMax).description
    }

    /// Reads until nobody can write any more; what is too much is read all the same, so that no writer waits. Blocks.
    static func read(_ descriptor: Int32) -> StageWords {
        var (words, buffer) = (StageWords(), [UInt8](repeating: 0, count: 4_096))
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return words }
            words.append(buffer[..<count])
        }
    }
}
