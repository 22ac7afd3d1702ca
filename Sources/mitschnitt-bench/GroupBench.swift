import Foundation
import Media
import Renditions

/// The mix of a self-help group: 25 people, of whom mostly one speaks, against `ffmpeg amix` on the same 25 Matroska files.
struct GroupBench {
    let folder: URL
    let minutes: Int
    /// In silence hardly anything is sent (DTX); otherwise packets as in speech, each with the level of silence: microphones that are muted.
    let isDiscontinuous: Bool
    static let people = 25
    /// A long meeting takes minutes a round.
    private var rounds: Int { minutes >= 30 ? 1 : 3 }
    /// Both sides write AAC at 96 kbit/s; ours with this coder, ffmpeg by default with the other.
    private static let (ourCoder, defaultCoder) = ("fast", "twoloop")

    func run() async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let stages = StageBench(folder: folder)
        let turns = turns()
        let silence = try packets(of: "anoisesrc=c=pink:a=0.002", seconds: 2, name: "silence")
        let start = WallTime(seconds: 1_700_000_000)
        var tracks: [(output: StageBench.Output, track: TrackSummary)] = []
        var files: [String] = []
        for person in 0..<Self.people {
            let voice = try packets(of: voice(person), seconds: 20, name: "voice")
            let format = TrackFormat(kind: .audio, codecs: [111: .opus], extensions: [1: "urn:ietf:params:rtp-hdrext:ssrc-audio-level"])
            let log = try stages.log("person\(person)", format) { write in try send(turns[person], voice, silence, start, write) }
            let (output, track, _) = try await stages.depacketize(log, to: "person\(person).sealed")
            tracks.append((output, track))
            files.append(try stages.unsealed(output))
        }
        let span = WallSpan(start: start, end: start + .seconds(Int64(minutes * 60)))
        var all: [Measured] = []
        for _ in 0..<rounds { all.append(try await stages.mix(tracks, span)) }
        let ours = all.sorted { $0.cpu < $1.cpu }[rounds / 2]
        // amix takes no notice of gaps: they have to be filled, or everybody is heard too early.
        let held = try amix(files, fill: true, loudness: false)
        let same = try amix(files, fill: true, loudness: false, coder: Self.ourCoder)
        let loud = try amix(files, fill: true, loudness: true)
        let (encoder, slower) = (try encoder(Self.ourCoder), try encoder(Self.defaultCoder))
        let spoken = turns.reduce(0.0) { $0 + $1.reduce(0) { $0 + $1.upperBound - $1.lowerBound } } / Double(minutes * 60)
        row(String(format: "mix with EBU R128, %d min, %.2f speak on average", minutes, spoken), String(format: "%.2f CPU s, %.2f s", ours.cpu, ours.wall))
        func compare(_ name: String, _ peer: Measured, _ peerEncoder: Measured) {
            row(name, String(format: "%.2f CPU s, %.2f s", peer.cpu, peer.wall),
                String(format: "ours is %.1fx as fast, without the encoders %.1fx", peer.cpu / ours.cpu, (peer.cpu - peerEncoder.cpu) / (ours.cpu - encoder.cpu)))
        }
        compare("ffmpeg amix, gaps kept (aresample=async=1)", held, slower)
        compare("ffmpeg amix, gaps kept, our AAC coder", same, encoder)
        compare("ffmpeg amix, gaps kept, and loudnorm", loud, slower)
        if isDiscontinuous { compare("ffmpeg amix, gaps lost: everybody is too early", try amix(files, fill: false, loudness: false), slower) }
        row("the AAC encoder alone, ours and ffmpeg's default", String(format: "%.2f and %.2f CPU s", encoder.cpu, slower.cpu))
    }

    /// What both sides pay for their output.
    private func encoder(_ coder: String) throws -> Measured {
        let plain = folder.path + "/amix.wav"
        _ = try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", folder.path + "/amix.mp4", plain])
        return try Measured.median(rounds) {
            try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", plain, "-ar", "48000", "-ac", "1", "-c:a", "aac", "-aac_coder", coder, "-b:a", "96k", folder.path + "/encoded.mp4"])
        }
    }

    private func amix(_ files: [String], fill: Bool, loudness: Bool, coder: String = defaultCoder) throws -> Measured {
        let filled = files.indices.map { "[\($0):a]aresample=async=1:first_pts=0[a\($0)]" }.joined(separator: ";")
        let inputs = files.indices.map { fill ? "[a\($0)]" : "[\($0):a]" }.joined()
        let graph = (fill ? filled + ";" : "") + inputs + "amix=inputs=\(files.count):normalize=0" + (loudness ? ",loudnorm=I=-23:TP=-1" : "")
        return try Measured.median(rounds) {
            try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y"] + files.flatMap { ["-i", $0] }
                + ["-filter_complex", graph, "-ar", "48000", "-ac", "1", "-c:a", "aac", "-aac_coder", coder, "-b:a", "96k", folder.path + "/amix.mp4"])
        }
    }

    /// Who speaks when, in seconds: turns of 2 to 20 s, one after the other, each begun during the last tenth of the one before.
    private func turns() -> [[Range<Double>]] {
        var state: UInt64 = 1
        func share() -> Double {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Double(state >> 11) * 0x1p-53
        }
        var turns = [[Range<Double>]](repeating: [], count: Self.people)
        var at = 1.0
        while at < Double(minutes * 60) - 25 {
            let (person, length) = (Int(share() * Double(Self.people)), 2 + 18 * share())
            if let last = turns[person].last, last.upperBound > at { continue }
            turns[person].append(at..<at + length)
            at += 0.9 * length
        }
        return turns
    }

    /// Something with syllables and a voice of its own.
    private func voice(_ person: Int) -> String {
        let pitch = 90 + 7 * person
        return "aevalsrc='0.3*(sin(2*PI*\(pitch)*t)+0.6*sin(2*PI*\(2 * pitch)*t)+0.4*sin(2*PI*\(5 * pitch)*t)+0.2*(random(0)-0.5))*max(0,sin(2*PI*3.3*t))':s=48000"
    }

    /// A sound as Opus packets of 20 ms, out of an Ogg file (RFC 7845): all but the two headers.
    private func packets(of source: String, seconds: Int, name: String) throws -> [[UInt8]] {
        let path = folder.path + "/\(name).ogg"
        _ = try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, "-t", String(seconds), "-ac", "1", "-c:a", "libopus", "-application", "voip", "-b:a", "32k", path])
        let file = Array(try Data(contentsOf: URL(filePath: path)))
        var (packets, open, at): ([[UInt8]], [UInt8], Int) = ([], [], 0)
        while at + 27 <= file.count {
            let count = Int(file[at + 26])
            var body = at + 27 + count
            for lacing in file[at + 27..<at + 27 + count] {
                open += file[body..<body + Int(lacing)]
                body += Int(lacing)
                if lacing < 255 {
                    packets.append(open)
                    open = []
                }
            }
            at = body
        }
        return Array(packets.dropFirst(2))
    }

    /// As a browser sends it: in a turn 50 packets a second; between turns, with DTX, every 400 ms one of silence and one of a single byte.
    private func send(_ turns: [Range<Double>], _ voice: [[UInt8]], _ silence: [[UInt8]], _ start: WallTime, _ write: (WallTime, [UInt8]) throws -> Void) throws {
        var (sequence, turn, quiet, wasQuiet): (UInt16, Int, Int, Bool) = (0, 0, 0, true)
        for place in 0..<minutes * 60 * 50 {
            let now = Double(place) / 50
            while turn < turns.count, turns[turn].upperBound <= now { turn += 1 }
            let speaks = turn < turns.count && turns[turn].contains(now)
            quiet = speaks ? 0 : quiet + 1
            let payload: [UInt8]
            switch quiet % 20 {
            case _ where speaks: payload = voice[place % voice.count]
            case _ where !isDiscontinuous: payload = silence[place % silence.count]
            case 1: payload = silence[place % silence.count]
            case 2: payload = [silence[0][0]]
            default: continue
            }
            var packet: [UInt8] = [0x90, 111 | (speaks && wasQuiet ? 0x80 : 0), UInt8(sequence >> 8), UInt8(sequence & 255)]
            packet += withUnsafeBytes(of: UInt32(truncatingIfNeeded: place * 960).bigEndian, Array.init) + [0, 0, 0, 7]
            packet += [0xBE, 0xDE, 0, 1, 0x10, speaks ? 0x80 | 30 : 127, 0, 0] + payload
            try write(start + Nanoseconds(seconds: now + 0.05), packet)
            sequence &+= 1
            wasQuiet = !speaks
        }
    }
}
