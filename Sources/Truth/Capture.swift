import Foundation

/// What a test conference really sent: the sidecar files of a capture in `Fixtures` (see `Fixtures/README.md`).
public struct CaptureTruth: Sendable {
    public struct Stream: Sendable {
        public var participant: String
        public var kind: String
        /// Destination ports in the capture.
        public var rtpPort: UInt16
        public var rtcpPort: UInt16
        public var sdp: String
        public var packets: Int
    }

    public struct Person: Sendable {
        public var index: Int
        public var toneHz: Double
        /// Stretches of a 12 s cycle of the person's own clock in which the tone sounds.
        public var toneOn: [ClosedRange<Double>]
        /// (frame number, wall time of capture)
        public var frames: [(number: Int, wall: Double)]
        public var beepOnsets: [Double]
        /// Milliseconds by which the sound was late already at the source.
        public var sourceOffsetMs: Double
    }

    public var streams: [Stream]
    public var people: [String: Person]
    public static let framesPerSecond = 20
    public static let cycleSeconds = 12.0

    /// Reads `NAME.json` and `NAME.frames.json` beside `NAME.pcap`.
    public init(capture: URL) throws {
        let side = try JSONDecoder().decode(Sidecar.self, from: Data(contentsOf: capture.deletingPathExtension().appendingPathExtension("json")))
        let shown = try JSONDecoder().decode([String: Shown].self,
                                             from: Data(contentsOf: capture.deletingPathExtension().appendingPathExtension("frames.json")))
        streams = side.streams.map {
            Stream(participant: $0.participant, kind: $0.kind, rtpPort: $0.port, rtcpPort: $0.rtcp_port, sdp: $0.sdp, packets: $0.packets)
        }
        people = [:]
        for (name, content) in side.content.participants {
            guard let shown = shown[name] else { continue }
            people[name] = Person(index: content.index, toneHz: content.tone_hz, toneOn: content.tone_on_in_cycle_s.map { $0[0]...$0[1] },
                                  frames: shown.video.map { (Int($0[0]), $0[1]) }, beepOnsets: shown.beep_onsets_wall,
                                  sourceOffsetMs: side.participants[name]?.sessions.first?.source.av_offset_ms.median ?? 0)
        }
    }

    private struct Sidecar: Decodable {
        struct Stream: Decodable { var participant, kind, sdp: String; var port, rtcp_port: UInt16; var packets: Int }
        struct Content: Decodable { var participants: [String: Tone] }
        struct Tone: Decodable { var index: Int; var tone_hz: Double; var tone_on_in_cycle_s: [[Double]] }
        struct Person: Decodable { var sessions: [Session] }
        struct Session: Decodable { var source: Source }
        struct Source: Decodable { var av_offset_ms: Offset }
        struct Offset: Decodable { var median: Double }
        var streams: [Stream]
        var content: Content
        var participants: [String: Person]
    }

    private struct Shown: Decodable { var video: [[Double]]; var beep_onsets_wall: [Double] }
}

extension CaptureTruth.Person {
    /// The person's own second that each beep belongs to: beep s goes with the frame number 20 s.
    func beepSeconds() -> [(second: Int, wall: Double)] {
        beepOnsets.compactMap { wall in
            guard let next = frames.firstIndex(where: { $0.wall >= wall }), next > 0 else { return nil }
            let (a, b) = (frames[next - 1], frames[next])
            let number = Double(a.number) + (wall - a.wall) / (b.wall - a.wall) * Double(b.number - a.number)
            return (Int((number / Double(CaptureTruth.framesPerSecond)).rounded()), wall)
        }
    }
}
