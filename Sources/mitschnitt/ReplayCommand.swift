import ArgumentParser
import Foundation
import Tap

/// Sends a capture's packets as the conference sent them.
struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Send a capture's packets to other ports, at their original timing.",
        discussion: "Example: mitschnitt replay Fixtures/vp8.pcap --map 40020=127.0.0.1:50000 --map 40022=127.0.0.1:50002")

    @Argument(help: "A pcap, pcapng, .mjr or rtpdump file; an .mjr is said to have been sent to port 5004.")
    var capture: String

    @Option(help: "A captured UDP destination port and where to send its packets: PORT=ADDRESS:PORT, with an IPv6 address in brackets. Packets to other ports are left out.")
    var map: [String] = []

    @Option(help: "Times faster than it was captured. For load tests only: what is recorded then is faster too.")
    var speed = 1.0

    @Flag(help: "Progress as lines of words for another program.")
    var machine = false

    func validate() throws {
        guard !map.isEmpty else { throw ValidationError("nothing would be sent: give at least one --map") }
        guard speed.isFinite, speed > 0, speed <= 1_000 else { throw ValidationError("--speed is above 0 and at most 1000") }
    }

    func run() throws {
        var targets: [UInt16: ReplaySender.Target] = [:]
        for entry in map {
            guard let (port, target) = Self.parse(entry) else { throw CommandError(what: "'\(entry)' is no mapping", hint: "for example 40020=127.0.0.1:50000") }
            targets[port] = target
        }
        let reader: CaptureFileReader
        do { reader = try CaptureFileReader(path: capture) } catch { throw CommandError(what: "\(error)", hint: "captures are made with tcpdump -w FILE udp") }
        let report = try ReplaySender(map: targets, speed: speed).run(reader) { shift in
            if machine { say("shift \(shift)") }
        } progress: { share, packets in
            if machine { say("progress \(share) \(packets)") } else { Terminal.shared.bars([(capture, share, "\(packets) packets")]) }
        }
        Terminal.shared.settle()
        if !machine { print("\(report.sent) packets sent\(report.failed > 0 ? ", \(report.failed) could not be sent" : "")") }
    }

    private func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

    static func parse(_ text: String) -> (UInt16, ReplaySender.Target)? {
        guard let equals = text.firstIndex(of: "="), let colon = text.lastIndex(of: ":"), colon > equals, let from = UInt16(text[..<equals]),
              let to = UInt16(text[text.index(after: colon)...]), to > 0 else { return nil }
        let address = text[text.index(after: equals)..<colon].trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        return (from, ReplaySender.Target(address: address, port: to))
    }
}
