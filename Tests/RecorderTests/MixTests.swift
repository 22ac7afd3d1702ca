import Catalog
import CLinux
import Consent
import Foundation
import Glibc
import Media
import PacketLog
@testable import Recorder
import TestSupport
import Testing

/// A conference's mix that comes in as one stream, from the socket to the finished file.
@Suite("Mixed sources", .serialized)
struct MixTests {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    init() throws { rights = try Rights() }

    static let rate = 48_000
    private static let packetSamples = 480

    /// A tone in packets of 10 ms, as a conference sends them: at the pace of the wall clock, whatever the gate does; until it is cancelled.
    private func play(to port: Int) async {
        var target = sockaddr_storage()
        let length = clinux_socket_address("127.0.0.1", UInt16(port), &target)
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(descriptor) }
        // Four whole periods: every packet is the same.
        let payload = (0..<Self.packetSamples).flatMap { sample -> [UInt8] in
            let level = Int16(8_000 * sin(2 * .pi * 400 * Double(sample) / Double(Self.rate)))
            return [UInt8(truncatingIfNeeded: level >> 8), UInt8(truncatingIfNeeded: level)]
        }
        let clock = ContinuousClock()
        let start = clock.now
        for number in 0..<30_000 where !Task.isCancelled {
            do { try await clock.sleep(until: start + .milliseconds(10 * number)) } catch { return }
            let packet = rtp(UInt16(number), UInt32(number * Self.packetSamples), payload: payload)
            withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(descriptor, packet, packet.count, 0, $0, length) } }
        }
    }

    /// When what was kept was captured, in seconds: by the packets' own numbers, which a busy machine does not delay.
    private func kept(_ id: RecordingID) async throws -> [Double] {
        let stream = try await recorder.catalog.read { try $0.streams(of: id.rawValue)[0].stream }
        let folder = recorder.configuration.trackFolder(id.rawValue, stream.track).path
        let track = TrackID(rawValue: stream.track)!
        let segments = try TrackLogFolder.segments(folder).map { TrackLogReader.Segment(number: $0, descriptor: open("\(folder)/\(TrackLogFiles.segment($0))", O_RDONLY)) }
        defer { for segment in segments { close(segment.descriptor) } }
        let reader = TrackLogReader(segments: segments, identity: TrackLogIdentity(recording: id, track: track, kind: .audio), key: try await recorder.keys.key(KeyStore.track(track)))
        var times: [Double] = []
        while let record = try reader.next() { if case .rtp(_, let bytes) = record { times.append(Double(UInt16(bytes[2]) << 8 | UInt16(bytes[3])) / 100) } }
        return times
    }

    /// Loudness of each 10 ms of a file, decoded by a program that shares no code with ours.
    private func levels(_ file: URL) throws -> [Double] {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/ffmpeg")
        process.arguments = ["-v", "error", "-i", file.path, "-f", "s16le", "-ac", "1", "-ar", String(Self.rate), "-"]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return data.withUnsafeBytes { bytes in
            let samples = bytes.bindMemory(to: Int16.self)
            return stride(from: 0, to: samples.count - 480, by: 480).map { at in samples[at..<at + 480].reduce(0.0) { $0 + abs(Double($1)) } / 480 }
        }
    }

    @Test("while somebody in the mix has not consented the recording pauses by itself, and the pause stays as time in the finished file")
    func paused() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        var people: [Principal] = []
        for name in ["Anna", "Bert", "Cleo"] { people.append(try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: name), to: meeting, as: rights.moderator).token)) }
        let sdp = "v=0\nm=audio 5004 RTP/AVP 96\na=rtpmap:96 L16/48000/1\na=rtcp-mux\n"
        let view = try await recorder.createRecording(RecordingRequest(pipeline: "audio-only", streams: [
            StreamRequest(participants: people.prefix(2).map { $0.participant! }, kind: .audio, sdp: sdp),
        ]), in: meeting, as: rights.moderator)
        let id = view.id
        func give(_ who: Principal) async throws {
            let notice = try await recorder.notice(for: id, language: .de, as: who).hash
            _ = try await recorder.decide(ConsentRequest(decision: .given, notice: notice), on: id, as: who)
        }
        func packets(_ done: (StreamView) -> Bool) async throws -> StreamView {
            for _ in 0..<10_000 {
                let stream = try await recorder.recording(id, as: rights.moderator).streams[0]
                if done(stream) { return stream }
                try await Task.sleep(for: .milliseconds(5))
            }
            throw CancellationError()
        }
        for who in people.prefix(2) { try await give(who) }
        let playing = Task { await play(to: view.streams[0].endpoint?.rtpPort ?? 0) }
        defer { playing.cancel() }
        _ = try await packets { $0.packets >= 150 }
        let joined = PresenceRequest(stream: view.streams[0].id, participant: people[2].participant!, present: true)
        #expect(try await recorder.notePresence(joined, in: id, as: rights.moderator).streams.map(\.recording) == [false])
        let at = try await packets { _ in true }
        _ = try await packets { $0.droppedByGate >= 150 }
        // Nothing more was kept while the third had not answered.
        #expect(try await packets { _ in true }.packets == at.packets)
        try await give(people[2])
        _ = try await packets { $0.packets >= at.packets + 150 }
        playing.cancel()
        await playing.value
        _ = try await recorder.control(id, .stop, as: rights.moderator)
        await StageWorker(recorder: recorder).runUntilEmpty()

        let times = try await kept(id)
        let (before, after) = try #require(zip(times, times.dropFirst()).max { $0.1 - $0.0 < $1.1 - $1.0 })
        let whole = (times.last ?? before) - times[0]
        let mix = try #require(try await recorder.renditions(of: id, as: people[0]).first { $0.kind == "mix" && $0.container == "mp4" })
        #expect(Set(mix.contains) == Set(people.map { $0.participant! }))
        #expect(abs(mix.duration - whole) < 0.1, "\(mix.duration) \(whole)")
        let file = rights.folder.url.appending(path: "mix.mp4")
        try await recorder.unseal(mix.id, to: file)
        let levels = try levels(file)
        let quiet = try #require(levels.indices.split { levels[$0] > 100 }.max { $0.count < $1.count })
        let (start, end) = (Double(quiet.startIndex) / 100, Double(quiet.endIndex) / 100)
        #expect(abs(Double(levels.count) / 100 - whole) < 0.1, "\(levels.count) \(whole)")
        // The last packet's own length, and what the decoder conceals behind it (60 ms at most), are still heard.
        #expect((-0.03..<0.1).contains(start - (before - times[0])) && abs(end - (after - times[0])) < 0.06, "\(start)-\(end), \(before - times[0])-\(after - times[0])")
        await recorder.shutDown()
    }
}
