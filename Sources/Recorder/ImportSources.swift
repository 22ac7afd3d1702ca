import Foundation
import Media
import Renditions
import RTP
import Tap

/// Captures that are read one after the other, and the streams that are looked for in them.
struct ImportSource: Sendable {
    var captures: [String]
    var start: WallTime?
    /// Places among the prepared streams.
    var streams: [Int]
    /// The streams named this capture themselves.
    var isOwn: Bool

    /// The streams' sources: the captures of all, and those that streams have for themselves. `owners` are places among the prepared streams.
    static func all(of request: ImportRequest, owners: [(stream: Int, request: ImportRequest.Stream)]) -> [ImportSource] {
        var sources: [ImportSource] = []
        for (place, stream) in owners {
            let captures = stream.capture.map { [$0] } ?? request.captures
            if let same = sources.firstIndex(where: { $0.isOwn == (stream.capture != nil) && $0.captures == captures && $0.start == stream.start }) { sources[same].streams.append(place) } else {
                sources.append(ImportSource(captures: captures, start: stream.start, streams: [place], isOwn: stream.capture != nil))
            }
        }
        return sources
    }

    /// Opens every capture once before anything is recorded: what cannot be read, or has no place, is told now. Blocks.
    ///
    /// The wall clock of the sources is the time line. One that says no time of day begins at its `start`; where none says any, all begin
    /// together in 1970; where some do and others do not, nobody knows how they lie to each other.
    static func check(_ sources: [ImportSource], files: [ImportRequest.File]) throws {
        var times = files.map { ($0.path, $0.start != nil) }
        for source in sources {
            for capture in source.captures {
                let reader = try open(capture, source.start)
                times.append((capture, reader.saysTime || source.start != nil))
                guard !reader.hasPorts else { continue }
                if !source.isOwn, reader.format == .mjr {
                    throw RecorderError(.invalid, "\(capture) is one stream without a port", hint: "name it at the stream it is of: {participant: …, kind: …, capture: \(capture)}")
                }
                guard !source.isOwn || source.streams.count == 1 else {
                    throw RecorderError(.invalid, "\(capture) is one stream, and \(source.streams.count) streams name it", hint: "each stream has a file of its own")
                }
            }
        }
        guard let unknown = times.first(where: { !$0.1 }), times.contains(where: \.1) else { return }
        throw RecorderError(.invalid, "\(unknown.0) says no time of day, and other sources do: nobody knows how they lie to each other", hint: "give it one: start: 2026-11-24T20:00:00Z")
    }

    static func open(_ capture: String, _ start: WallTime?) throws -> CaptureFileReader {
        do { return try CaptureFileReader(path: capture, start: start) } catch {
            throw RecorderError(.invalid, error.description, hint: "captures are pcap, pcapng, .mjr or rtpdump; finished files go under files:")
        }
    }

    /// The SDP of a capture that says itself what it is. Blocks.
    static func announcement(_ capture: String) throws -> String {
        let reader = try open(capture, nil)
        guard let track = reader.track else {
            guard reader.format == .mjr else { throw RecorderError(.invalid, "\(capture) does not say which codec it is", hint: "give the stream an sdp: `mitschnitt inspect` proposes one") }
            throw RecorderError(.unsupported, "\(capture) is a data channel", hint: "leave the stream out")
        }
        do {
            guard let first = try reader.next(), first.payload.count >= 2 else { throw RecorderError(.unsupported, "\(capture) holds no packet") }
            return track.sessionDescription(payloadType: first.payload[1] & 0x7F)
        } catch let error as CaptureFileError {
            throw RecorderError(.invalid, error.description)
        }
    }
}

extension ImportSource {
    /// Reads the captures through gate and packet log. `isOpen` and `tapped` are those of all prepared streams. Blocks.
    func feed(_ tapped: [TapStream], _ isOpen: [Bool], progress: (_ bytesRead: Int) -> Void) throws -> (statistics: [StreamStatistics], notes: [String], isEmpty: Bool) {
        let streams = streams.map { tapped[$0] }
        let session = try ImportSession(streams: streams)
        var last: WallTime?
        var notes: [String] = []
        var before = 0
        for capture in captures {
            let reader = try Self.open(capture, start)
            let media = isOwn && !reader.hasPorts ? streams[0].media.first : nil
            do {
                while var datagram = try reader.next() {
                    if let media { datagram.destinationPort = datagram.payload.withUnsafeBytes { DatagramClass($0) } == .rtcp ? media.effectiveRTCPPort : media.port }
                    if last == nil { for (stream, place) in self.streams.enumerated() where isOpen[place] { session.setGate(true, stream: stream, at: datagram.arrival) } }
                    session.feed(datagram)
                    last = datagram.arrival
                    progress(before + reader.bytesRead)
                }
            } catch {
                throw RecorderError(.invalid, error.description, hint: "what comes before that place can be saved by cutting the file there")
            }
            before += reader.size
            notes += Self.notes(reader, capture)
        }
        return (try session.finish(at: last ?? WallTime(nanoseconds: 0)), notes, last == nil)
    }

    var bytes: Int { captures.reduce(0) { $0 + ((try? FileManager.default.attributesOfItem(atPath: $1)[.size] as? Int) ?? 0) } }  // only for a bar

    private static func notes(_ reader: CaptureFileReader, _ capture: String) -> [String] {
        var notes: [String] = []
        if reader.counts.cut > 0 { notes.append("\(capture): \(reader.counts.cut) packets were captured in part and are not used: capture with tcpdump -s 0") }
        if reader.counts.fragments > 0 { notes.append("\(capture): \(reader.counts.fragments) fragments never became whole packets") }
        if reader.isTruncated { notes.append("\(capture): the file ends in the middle of a record; what was whole is used") }
        return notes
    }
}
