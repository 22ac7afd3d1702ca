import FFmpeg
import Glibc
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

/// A sealed file that is opened when it is needed, through a descriptor that is closed with it.
final class SealedChunk {
    private let descriptor: Int32
    private let key: DataKey
    private let context: SealedContext

    init(owning descriptor: Int32, key: DataKey, context: SealedContext) { (self.descriptor, self.key, self.context) = (descriptor, key, context) }
    deinit { close(descriptor) }

    /// To be read for no longer than this is there.
    func source() throws(SealedFileError) -> SealedSource { try SealedSource(descriptor: descriptor, key: key, context: context) }
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
