import Foundation

/// Decodes a rendition through the `ffmpeg` command line: a second opinion that shares no code with the stages.
public enum Decoded {
    public struct Failure: Error, CustomStringConvertible {
        public var description: String
    }

    /// Mono sound at 48 kHz, from presentation time 0.
    public static func sound(of file: URL) throws -> [Float] {
        var samples: [Float] = []
        try run(["-i", file.path, "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", "48000", "-f", "f32le", "-"],
                unit: 48_000 * 4) { bytes in
            bytes.withMemoryRebound(to: Float.self) { samples.append(contentsOf: $0) }
        }
        return samples
    }

    /// Calls `body` with each grey picture in order.
    public static func pictures(of file: URL, width: Int, height: Int, body: (UnsafeBufferPointer<UInt8>) -> Void) throws {
        try run(["-i", file.path, "-map", "0:v:0", "-f", "rawvideo", "-pix_fmt", "gray", "-fps_mode", "passthrough", "-"],
                unit: width * height) { bytes in
            if bytes.count == width * height { body(bytes.bindMemory(to: UInt8.self)) }
        }
    }

    private static func run(_ arguments: [String], unit: Int, body: (UnsafeRawBufferPointer) -> Void) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/ffmpeg")
        process.arguments = ["-v", "error", "-nostdin"] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var buffer = Data()
        while let part = try pipe.fileHandleForReading.read(upToCount: 1 << 20), !part.isEmpty {
            buffer.append(part)
            var used = 0
            buffer.withUnsafeBytes { all in
                while all.count - used >= unit {
                    body(UnsafeRawBufferPointer(rebasing: all[used..<used + unit]))
                    used += unit
                }
            }
            if used > 0 { buffer = Data(buffer.dropFirst(used)) }
        }
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failure(description: "ffmpeg could not decode \(arguments[1])") }
        let whole = buffer.count / 4 * 4
        if whole > 0, unit == 48_000 * 4 { buffer.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[..<whole])) } }
    }
}
