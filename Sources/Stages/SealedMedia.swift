import FFmpeg
import SealedFile

/// A sealed file as a demuxer's source.
final class SealedSource: MediaSource {
    private let reader: SealedReader

    init(descriptor: Int32, key: DataKey, context: SealedContext) throws(SealedFileError) {
        reader = try SealedReader(descriptor: descriptor, key: key, context: context)
    }

    var length: Int { reader.length }
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws -> Int { try reader.read(at: offset, into: buffer) }
}

/// A sealed file as a muxer's sink.
final class SealedSink: MediaSink {
    let writer: SealedWriter

    init(descriptor: Int32, key: DataKey, context: SealedContext, windowBytes: Int) throws(SealedFileError) {
        writer = try SealedWriter(descriptor: descriptor, key: key, context: context, windowBytes: windowBytes)
    }

    var position: Int { writer.position }
    func append(_ bytes: UnsafeRawBufferPointer) throws { try writer.append(bytes) }
    func overwrite(at offset: Int, _ bytes: UnsafeRawBufferPointer) throws { try writer.overwrite(at: offset, bytes) }
}
