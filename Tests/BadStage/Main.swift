import CLinux
import FFmpeg
import Foundation
import Glibc
import Media
import Renditions
import Stages

/// A stage that misbehaves, for the tests that nobody else is hurt by it: confined like the real one, and then worse than any codec.
///
/// What it does is the name that it is called by, a link to it: `segfault`; with `segfault@waveform` only that stage, of a pipeline that asks
/// for seven peaks a second, and everything else as the real one would do it.
@main
struct BadStage {
    static func main() throws {
        let name = URL(filePath: CommandLine.arguments[0]).lastPathComponent.split(separator: "@").map(String.init)
        _ = try StageConfinement.enter(StageLimits(arguments: CommandLine.arguments.dropFirst()), readable: TextLabel.font)
        let channel = StageChannel(socket: STDIN_FILENO)
        guard let (order, descriptors) = try channel.receiveOrder() else { exit(1) }
        if name.count == 1 || order.stage.rawValue == name[1] && order.parameters.peaksPerSecond == 7 { try misbehave(name[0], channel) }
        let result = try StageRun.run(order, descriptors: descriptors) { _ in }
        try channel.send(.result(result))
    }

    private static func misbehave(_ what: String, _ channel: StageChannel) throws {
        switch what {
        case "segfault": UnsafeMutablePointer<Int>(bitPattern: 8)?.pointee = 1
        case "hang": while true { sleep(1) }
        case "spin": while true { _ = getpid() }
        case "balloon":
            while true { memset(UnsafeMutableRawPointer.allocate(byteCount: 16 << 20, alignment: 16), 1, 16 << 20) }
        case "chatter":
            for line in 0..<20_000 { FileHandle.standardError.write(Data("line \(line) of what a library prints\n".utf8)) }
            FileHandle.standardError.write(Data("the key is \(String(repeating: "A7", count: 32)) \u{1B}[2J\n".utf8))
            exit(1)
        case "unread": try channel.send(.result(StageResult(outputs: [OutputReport(bytes: 1, ciphertextSHA256: "0", startWall: .init(seconds: 1), duration: .zero)])))
        case "descriptors":
            // Standard streams, the socket among them, and what is lent: the font and the random numbers.
            FileHandle.standardError.write(Data("\((0..<1_024).filter { fcntl($0, F_GETFD) >= 0 }.count) are open\n".utf8))
            exit(1)
        default:
            let code = clinux_try(what)
            FileHandle.standardError.write(Data("it came back with \(code)\n".utf8))
        }
        exit(3)
    }
}
