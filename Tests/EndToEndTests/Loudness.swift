import Foundation
import Testing

/// A file's loudness as FFmpeg's `ebur128` filter measures it (EBU R128), which shares no code with ours.
struct Loudness {
    /// In LUFS.
    var integrated: Double
    /// True peak, in dBTP.
    var peak: Double

    init(of file: URL) throws {
        let (ffmpeg, pipe) = (Process(), Pipe())
        ffmpeg.executableURL = URL(filePath: "/usr/bin/ffmpeg")
        ffmpeg.arguments = ["-hide_banner", "-nostats", "-i", file.path, "-vn", "-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-"]
        ffmpeg.standardError = pipe
        try ffmpeg.run()
        let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        ffmpeg.waitUntilExit()
        integrated = try #require(said.matches(of: /I: +(-?[0-9.]+) LUFS/).last.flatMap { Double($0.1) }, "\(said)")
        peak = try #require(said.matches(of: /Peak: +(-?[0-9.]+) dBFS/).last.flatMap { Double($0.1) }, "\(said)")
    }
}
