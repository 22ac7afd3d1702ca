import Foundation
import Glibc

/// Mixing and composing: our stages, run by `mitschnitt render`, against the ffmpeg command line with the same encoder settings.
struct MediaBench {
    let folder: URL
    private let rounds = 5

    func run() throws {
        let tracks = try makeTracks()
        let ours = { (pipeline: String) in try Measured.median(rounds) { try render(pipeline) } }
        let depacketized = try ours("tracks")
        let mix = try ours("mix")
        let sound = tracks.audio
        let amix = try Measured.median(rounds) {
            try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", sound[0], "-i", sound[1], "-filter_complex", "amix=inputs=2:normalize=0,loudnorm=I=-23:TP=-1", "-ar", "48000", "-ac", "1", "-c:a", "aac", "-b:a", "96k", folder.path + "/amix.mp4"])
        }
        let plain = try Measured.median(rounds) {
            try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", sound[0], "-i", sound[1], "-filter_complex", "amix=inputs=2:normalize=0", "-ar", "48000", "-ac", "1", "-c:a", "aac", "-b:a", "96k", folder.path + "/amix.mp4"])
        }
        let mixing = mix.cpu - depacketized.cpu
        row("mix with EBU R128 (render less its depacketizing)", String(format: "%.2f CPU s", mixing))
        row("ffmpeg amix and loudnorm", String(format: "%.2f CPU s", amix.cpu), String(format: "ours takes %.2fx", mixing / amix.cpu))
        row("ffmpeg amix alone, no loudness", String(format: "%.2f CPU s", plain.cpu), String(format: "ours takes %.2fx", mixing / plain.cpu))

        let composed = try ours("compose")
        let composing = composed.cpu - depacketized.cpu
        let raw = folder.path + "/raw.y4m"
        _ = try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", folder.path + "/out/compose.mp4", "-an", "-pix_fmt", "yuv420p", raw])
        let x264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "25", "-g", "50", "-threads", "2"]
        let reading = try Measured.median(rounds) { try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", raw, "-f", "null", "-"]) }
        let encoder = try Measured.median(rounds) { try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", raw] + x264 + ["-f", "null", "-"]) }
        let alone = encoder.cpu - reading.cpu
        let video = tracks.video
        let graph = "[0:v]fps=25,scale=640:480,pad=640:720:0:120[a];[1:v]fps=25,scale=640:480,pad=640:720:0:120[b];[a][b]hstack"
        let peer = try Measured.median(rounds) {
            try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", video[0], "-i", video[1], "-filter_complex", graph] + x264 + [folder.path + "/peer.mp4"])
        }
        row("compose (render less its depacketizing)", String(format: "%.2f CPU s", composing))
        row("ffmpeg with the same grid and encoder", String(format: "%.2f CPU s", peer.cpu), String(format: "ours takes %.2fx", composing / peer.cpu))
        row("the encoder alone, on our pictures (less reading them)", String(format: "%.2f CPU s", alone), String(format: "ours takes %.2fx", composing / alone))
    }

    private static let head = "name: NAME\nstages:\n  tracks: {stage: depacketize}\n"
    private static let pipelines = [
        "tracks": head,
        "mix": head + "  mix: {stage: mix, inputs: [tracks.audio], outputs: {sound: mp4}}\n",
        "compose": head + "  compose: {stage: compose, inputs: [tracks.video], outputs: {picture: mp4}}\n",
    ]

    private func render(_ name: String) throws -> Measured {
        let mitschnitt = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().appending(path: "mitschnitt").path
        let pipeline = folder.appending(path: "\(name).yaml")
        try (Self.pipelines[name] ?? "").replacingOccurrences(of: "NAME", with: name).write(to: pipeline, atomically: true, encoding: .utf8)
        let start = Measured.now()
        let child = try Measured.start(mitschnitt, ["render", "--description", folder.path + "/description.json", "--pipeline", pipeline.path, "--output", folder.path + "/out"])
        return try Measured.wait(child, since: start)  // "nothing was rendered" for the tracks alone, which are no renditions
    }

    /// The description for ours, and the same tracks as files for ffmpeg (through its own RTP reader they would not be the same).
    private func makeTracks() throws -> (audio: [String], video: [String]) {
        let capture = URL(filePath: "Fixtures/vp8.pcap").path
        let side = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: "Fixtures/vp8.json"))) as? [String: Any]
        let streams = (side?["streams"] as? [[String: Any]] ?? []).filter { ["A", "B"].contains($0["participant"] as? String ?? "") }
        let description: [String: Any] = [
            "captures": [capture], "participants": ["A", "B"].map { ["id": $0, "consent": ["audio": true, "video": true]] as [String: Any] },
            "streams": streams.map { ["participant": $0["participant"] ?? "", "kind": $0["kind"] ?? "", "sdp": $0["sdp"] ?? ""] },
        ]
        try JSONSerialization.data(withJSONObject: description).write(to: folder.appending(path: "description.json"))
        _ = try render("compose")
        _ = try render("mix")
        // Equal work for the peer: the sound as Opus, the pictures as VP8, at their own sizes and rates.
        var (audio, video): ([String], [String]) = ([], [])
        for place in 0..<2 {
            let (sound, picture) = (folder.path + "/a\(place).ogg", folder.path + "/v\(place).mkv")
            _ = try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", folder.path + "/out/mix-mix.m4a", "-c:a", "libopus", "-b:a", "32k", "-ac", "1", sound])
            _ = try Measured.run("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", folder.path + "/out/compose.mp4", "-vf", "fps=20,crop=640:480:\(place * 640):120,scale=320:240", "-an", "-c:v", "libvpx", "-b:v", "256k", "-deadline", "realtime", picture])
            audio.append(sound)
            video.append(picture)
        }
        return (audio, video)
    }
}
