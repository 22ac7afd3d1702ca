import ArgumentParser
import Foundation
import Media
import Renditions
import RTP
import Tap

/// What is in a capture, for whoever has to describe it.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "List the RTP streams in captures, with entries to paste into a description for render.",
        discussion: """
            Reads pcap, pcapng, .mjr and rtpdump, and names finished files (MP4, WebM, Matroska, WAV, Ogg). Codecs are those of the SDPs that SIP
            messages in the capture carry, or of assigned payload types; what is guessed says so. Nothing is written. Who is in a stream, and
            what they allowed, is yours to say: put their ids where it says WHO.
            """)

    @Argument(help: "Capture files.")
    var captures: [String]

    func validate() throws {
        guard !captures.isEmpty else { throw ValidationError("which captures?") }
    }

    func run() throws {
        var failed = 0
        for capture in captures {
            do {
                print(try Self.text(about: capture), terminator: "")
            } catch {
                failed += 1
                FileHandle.standardError.write(Data("\(error)\n".utf8))
            }
        }
        if failed > 0 { throw CommandError(what: "\(failed) of \(captures.count) files could not be read", hint: "captures are made with tcpdump -w FILE udp") }
    }

    /// The report on one file: comments and entries, in YAML.
    static func text(about path: String) throws(CaptureFileError) -> String {
        if let container = container(of: path) {
            return "# \(path): a finished file (\(container.rawValue)). Everybody in it must consent.\nfiles:\n  - {path: \(quoted(path)), participants: [WHO]}\n"
        }
        let reader = try CaptureFileReader(path: path)
        var finder = StreamFinder()
        var (datagrams, first, last) = (0, WallTime?.none, WallTime?.none)
        while let datagram = try reader.next() {
            datagrams += 1
            first = min(first ?? datagram.arrival, datagram.arrival)
            last = max(last ?? datagram.arrival, datagram.arrival)
            finder.take(datagram)
        }
        let span = first.map { " from \(text($0, reader.saysTime)) for \(seconds((last ?? $0) - $0))" } ?? ""
        var lines = ["# \(path): \(reader.format.rawValue), \(datagrams) datagrams\(span)"]
        let counts = reader.counts
        for (count, what) in [(counts.skipped, "records without a datagram"), (counts.cut, "captured in part only, not used"), (counts.fragments, "fragments that never became whole")] where count > 0 {
            lines.append("#   \(count) \(what)")
        }
        if reader.isTruncated { lines.append("#   the file ends in the middle of a record") }
        if !reader.saysTime { lines.append("#   says no time of day: give `start: 2026-11-24T20:00:00Z` where other sources do") }
        let streams = finder.suggestions()
        if streams.isEmpty { lines.append("#   no RTP stream was found") }
        if reader.format == .mjr { lines += reader.track.map { entry($0, path, streams) } ?? ["#   a data channel: nothing to record"] } else {
            if !streams.isEmpty { lines += reader.hasPorts ? ["captures: [\(quoted(path))]", "streams:"] : ["streams:"] }
            for stream in streams { lines += entry(stream, reader.hasPorts ? nil : path) }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func entry(_ stream: SuggestedStream, _ capture: String?) -> [String] {
        var lines = stream.flows.map { about($0, port: stream.port) }
        let codec = stream.kind.map { "kind: \($0.rawValue)" } ?? "kind: audio"
        let sdp = stream.sdp.replacing("\r\n", with: "\\r\\n")
        let entry = "  \(stream.kind == nil ? "# " : "")- {participant: WHO, \(codec), \(capture.map { "capture: \(quoted($0)), " } ?? "")sdp: \"\(sdp.replacing("\"", with: ""))\"}"
        lines.append(entry)
        if stream.kind == nil { lines.append("  #   say what it is: audio or video, and NAME/CLOCKRATE; nothing in the capture tells") }
        return lines
    }

    private static func entry(_ track: JanusTrack, _ path: String, _ streams: [SuggestedStream]) -> [String] {
        ["streams:"] + streams.flatMap(\.flows).map { about($0, port: nil) }
            + ["  - {participant: WHO, kind: \(track.kind.rawValue), capture: \(quoted(path))}   # \(track.codec.description)"]
    }

    private static func about(_ flow: StreamFinder.Flow, port: UInt16?) -> String {
        let payloads = flow.payloads.map { "\($0.codec.map { "\($0.description) " } ?? "")(type \($0.type), \($0.packets) packets, \($0.evidence.rawValue))" }
        return "  # \(port.map { "port \($0), " } ?? "")SSRC \(flow.ssrc.rawValue): \(flow.packets) packets in \(seconds(flow.last - flow.first)); \(payloads.joined(separator: ", "))"
    }

    private static func container(of path: String) -> FileContainer? {
        // What cannot be opened is told by the capture reader, in words.
        guard let file = try? FileHandle(forReadingFrom: URL(filePath: path)), let head = try? file.read(upToCount: FileContainer.headBytes) else { return nil }
        return FileContainer(firstBytes: Array(head))
    }

    private static func seconds(_ time: Nanoseconds) -> String { String(format: "%.2f s", time.seconds) }
    private static func text(_ time: WallTime, _ isTimeOfDay: Bool) -> String {
        isTimeOfDay ? Date(timeIntervalSince1970: time.seconds).formatted(.iso8601) : "its beginning"
    }
    private static func quoted(_ path: String) -> String { "\"\(path.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\"" }
}
