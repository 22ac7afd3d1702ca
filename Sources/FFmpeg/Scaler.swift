import CFFmpeg
import Synchronization

/// Scales pictures into a rectangle of another picture in planar 4:2:0, without a copy between. One thread.
public final class Scaler {
    private var context: OpaquePointer?

    public init() {}
    deinit { sws_freeContext(context) }

    /// Writes `source` into `target` at (x, y) in width x height, all even. The target keeps its other pixels.
    public func scale(_ source: borrowing Frame, into target: borrowing Frame, x: Int, y: Int, width: Int, height: Int) throws(FFmpegError) {
        let from = source.raw.pointee, to = target.raw.pointee
        let format = AVPixelFormat(rawValue: from.format)
        // Reused while sizes and formats stay.
        context = Self.withoutGeneratedCode {
            sws_getCachedContext(context, from.width, from.height, format, Int32(width), Int32(height), AVPixelFormat(rawValue: to.format), SWS_FAST_BILINEAR, nil, nil, nil)
        }
        guard context != nil else { throw FFmpegError("sws_getCachedContext", cffmpeg_error_io()) }
        let sourcePlanes: [UnsafePointer<UInt8>?] = [from.data.0, from.data.1, from.data.2, from.data.3].map { $0.map { UnsafePointer($0) } }
        let sourceLines = [from.linesize.0, from.linesize.1, from.linesize.2, from.linesize.3]
        let targetPlanes: [UnsafeMutablePointer<UInt8>?] = [
            to.data.0.map { $0 + y * Int(to.linesize.0) + x }, to.data.1.map { $0 + y / 2 * Int(to.linesize.1) + x / 2 },
            to.data.2.map { $0 + y / 2 * Int(to.linesize.2) + x / 2 }, nil,
        ]
        let targetLines = [to.linesize.0, to.linesize.1, to.linesize.2, 0]
        try check(sws_scale(context, sourcePlanes, sourceLines, 0, from.height, targetPlanes, targetLines), "sws_scale")
    }
}

extension Scaler {
    /// Has libswscale choose among its compiled loops: where the processor has MMXEXT it would write a loop of its own into memory and run it,
    /// which a confined process may not. What it takes instead is as fast.
    ///
    /// The flags are the process's: one at a time, or one thread gives back what another had taken, and pictures are scaled now this way, now that.
    fileprivate static func withoutGeneratedCode(_ body: () -> OpaquePointer?) -> OpaquePointer? {
        #if arch(x86_64)
        return flagsLock.withLock { _ in
            let flags = av_get_cpu_flags()
            av_force_cpu_flags(flags & ~AV_CPU_FLAG_MMXEXT)
            defer { av_force_cpu_flags(flags) }
            return Held(body())
        }.context
        #else
        return body()
        #endif
    }

    private static let flagsLock = Mutex(())

    /// Proof of `@unchecked`: it carries a context from the lock to the caller, on one thread.
    private struct Held: @unchecked Sendable {
        let context: OpaquePointer?
        init(_ context: OpaquePointer?) { self.context = context }
    }
}

extension Frame {
    /// Fills a rectangle (all even) of a planar 4:2:0 picture with one colour.
    public func fill(x: Int, y: Int, width: Int, height: Int, luma: UInt8, blue: UInt8 = 128, red: UInt8 = 128) {
        let frame = raw.pointee
        func plane(_ data: UnsafeMutablePointer<UInt8>?, _ stride: Int32, _ half: Int, _ value: UInt8) {
            guard let data else { return }
            for line in y / half..<(y + height) / half { (data + line * Int(stride) + x / half).update(repeating: value, count: width / half) }
        }
        plane(frame.data.0, frame.linesize.0, 1, luma)
        plane(frame.data.1, frame.linesize.1, 2, blue)
        plane(frame.data.2, frame.linesize.2, 2, red)
    }

    /// Copies the left `width` columns of `source` to (x, y), all even.
    public func copy(_ source: borrowing Frame, width: Int, toX x: Int, y: Int) {
        let to = raw.pointee, from = source.raw.pointee
        func plane(_ target: UnsafeMutablePointer<UInt8>?, _ stride: Int32, _ origin: UnsafeMutablePointer<UInt8>?, _ originStride: Int32, _ half: Int) {
            guard let target, let origin else { return }
            for line in 0..<source.height / half {
                (target + (y / half + line) * Int(stride) + x / half).update(from: origin + line * Int(originStride), count: width / half)
            }
        }
        plane(to.data.0, to.linesize.0, from.data.0, from.linesize.0, 1)
        plane(to.data.1, to.linesize.1, from.data.1, from.linesize.1, 2)
        plane(to.data.2, to.linesize.2, from.data.2, from.linesize.2, 2)
    }
}
