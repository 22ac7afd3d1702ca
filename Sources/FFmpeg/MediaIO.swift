import CFFmpeg

/// An AVIOContext over a source or a sink. An error of theirs is kept, since libav only knows "I/O error".
final class IOContext {
    private static let bufferBytes: Int32 = 1 << 16
    let raw: UnsafeMutablePointer<AVIOContext>
    private let box: Box

    final class Box {
        let source: (any MediaSource)?
        let sink: (any MediaSink)?
        var position = 0
        var failure: (any Error)?

        init(source: (any MediaSource)? = nil, sink: (any MediaSink)? = nil) {
            self.source = source
            self.sink = sink
        }
    }

    convenience init(_ source: any MediaSource) { self.init(Box(source: source), writes: false) }
    convenience init(_ sink: any MediaSink) { self.init(Box(sink: sink), writes: true) }

    private init(_ box: Box, writes: Bool) {
        self.box = box
        // libav may replace the buffer; it is freed through the context.
        guard let buffer = av_malloc(Int(Self.bufferBytes)) else { fatalError("out of memory") }
        let context = avio_alloc_context(
            buffer.assumingMemoryBound(to: UInt8.self), Self.bufferBytes, writes ? 1 : 0, Unmanaged.passUnretained(box).toOpaque(),
            { opaque, bytes, count in Box.from(opaque).read(bytes, count) }, { opaque, bytes, count in Box.from(opaque).write(bytes, count) },
            { opaque, offset, whence in Box.from(opaque).seek(offset, whence) })
        guard let context else { fatalError("out of memory") }
        raw = context
    }

    deinit {
        av_freep(&raw.pointee.buffer)
        var pointer: UnsafeMutablePointer<AVIOContext>? = raw
        avio_context_free(&pointer)
    }

    var failure: (any Error)? { box.failure }
}

extension IOContext.Box {
    static func from(_ opaque: UnsafeMutableRawPointer?) -> IOContext.Box {
        guard let opaque else { preconditionFailure("libav gives back what it was given") }
        return Unmanaged<IOContext.Box>.fromOpaque(opaque).takeUnretainedValue()
    }

    func read(_ bytes: UnsafeMutablePointer<UInt8>?, _ count: Int32) -> Int32 {
        guard let source, let bytes else { return cffmpeg_error_io() }
        do {
            let got = try source.read(at: position, into: UnsafeMutableRawBufferPointer(start: bytes, count: Int(count)))
            position += got
            return got == 0 ? cffmpeg_error_eof() : Int32(got)
        } catch {
            failure = error
            return cffmpeg_error_io()
        }
    }

    func write(_ bytes: UnsafeMutablePointer<UInt8>?, _ count: Int32) -> Int32 {
        guard let sink, let bytes else { return cffmpeg_error_io() }
        let all = UnsafeRawBufferPointer(start: bytes, count: Int(count))
        do {
            let old = min(all.count, max(0, sink.position - position))
            if old > 0 { try sink.overwrite(at: position, UnsafeRawBufferPointer(rebasing: all[..<old])) }
            if old < all.count {
                // A hole (the muxer jumped ahead) is zeroes.
                if sink.position < position { try Array(repeating: UInt8(0), count: position - sink.position).withUnsafeBytes { try sink.append($0) } }
                try sink.append(UnsafeRawBufferPointer(rebasing: all[old...]))
            }
            position += all.count
            return count
        } catch {
            failure = error
            return cffmpeg_error_io()
        }
    }

    func seek(_ offset: Int64, _ whence: Int32) -> Int64 {
        let length = source?.length ?? sink?.position ?? 0
        switch whence & ~Int32(AVSEEK_FORCE) {
        case cffmpeg_seek_size(): return Int64(length)
        case 0: position = Int(offset)
        case 1: position += Int(offset)
        case 2: position = length + Int(offset)
        default: return Int64(cffmpeg_error_io())
        }
        return Int64(position)
    }
}
