import CFFmpeg

/// A libav call that failed: which one, and why in libav's words (av_strerror).
public struct FFmpegError: Error, Hashable, Sendable, CustomStringConvertible {
    public var operation: String
    public var code: Int32

    public init(_ operation: String, _ code: Int32) {
        self.operation = operation
        self.code = code
    }

    public var description: String {
        var text = [CChar](repeating: 0, count: 128)
        av_strerror(code, &text, text.count)
        return "\(operation): \(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))"
    }
}

/// Throws for a negative return code; gives back any other.
@discardableResult
func check(_ code: Int32, _ operation: @autoclosure () -> String) throws(FFmpegError) -> Int32 {
    guard code >= 0 else { throw FFmpegError(operation(), code) }
    return code
}

/// Process-wide settings of libav.
public enum FFmpegLibrary {
    /// Only what is fatal is printed, to standard error: media names and contents are nobody's business in a log.
    public static func quiet() { av_log_set_level(AV_LOG_FATAL) }

    public static var versions: String {
        func text(_ version: UInt32) -> String { "\(version >> 16).\(version >> 8 & 255).\(version & 255)" }
        return "libavformat \(text(avformat_version())), libavcodec \(text(avcodec_version()))"
    }
}
