/// Bytes that a demuxer reads: always through us, so that libav opens nothing by itself.
public protocol MediaSource: AnyObject {
    var length: Int { get }
    /// Reads up to `buffer.count` bytes; 0 at the end.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws -> Int
}

/// Where a muxer writes: mostly appended, and patched where the sink still allows it.
public protocol MediaSink: AnyObject {
    /// Bytes appended so far.
    var position: Int { get }
    func append(_ bytes: UnsafeRawBufferPointer) throws
    func overwrite(at offset: Int, _ bytes: UnsafeRawBufferPointer) throws
}
