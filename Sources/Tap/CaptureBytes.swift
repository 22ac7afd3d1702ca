import Glibc

/// A capture file read from its beginning, a record at a time.
final class CaptureBytes {
    let path: String
    let size: Int
    private(set) var position = 0
    /// The file ended in the middle of a record.
    private(set) var isTruncated = false
    private let file: UnsafeMutablePointer<FILE>

    init(path: String) throws(CaptureFileError) {
        self.path = path
        guard let opened = fopen(path, "rbe") else { throw CaptureFileError(path: path, what: "cannot be opened: \(String(cString: strerror(errno)))") }
        var status = stat()
        guard fstat(fileno(opened), &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            fclose(opened)
            throw CaptureFileError(path: path, what: "is no regular file")
        }
        (file, size) = (opened, Int(status.st_size))
    }

    deinit { fclose(file) }

    /// Up to `count` bytes of the beginning, which are read again afterwards.
    func peek(_ count: Int) throws(CaptureFileError) -> [UInt8] {
        defer {
            rewind(file)
            (position, isTruncated) = (0, false)
        }
        return try some(count)
    }

    /// Exactly `count` bytes, or nil at the end of the file. An end in the middle, or where a record was `begun`, is noted.
    func take(_ count: Int, begun: Bool = false) throws(CaptureFileError) -> [UInt8]? {
        let bytes = try some(count)
        guard bytes.count < count else { return bytes }
        if begun || !bytes.isEmpty { isTruncated = true }
        return nil
    }

    /// The bytes up to and without a line feed; nil where there is none within `max` bytes.
    func line(max: Int) throws(CaptureFileError) -> [UInt8]? {
        var line: [UInt8] = []
        while line.count <= max {
            guard let byte = try take(1, begun: true)?.first else { return nil }
            if byte == 10 { return line }
            line.append(byte)
        }
        return nil
    }

    private func some(_ count: Int) throws(CaptureFileError) -> [UInt8] {
        guard count > 0 else { return [] }
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in used = buffer.baseAddress.map { fread($0, 1, count, file) } ?? 0 }
        position += bytes.count
        if bytes.count < count, ferror(file) != 0 { throw error("cannot be read at byte \(position): \(String(cString: strerror(errno)))") }
        return bytes
    }

    func error(_ what: String) -> CaptureFileError { CaptureFileError(path: path, what: what) }
}

/// Numbers in captured bytes. The caller has checked the bounds.
extension [UInt8] {
    func big16(_ at: Int) -> UInt16 { UInt16(self[at]) << 8 | UInt16(self[at + 1]) }
    func big32(_ at: Int) -> UInt32 { UInt32(big16(at)) << 16 | UInt32(big16(at + 2)) }
    func number16(_ at: Int, bigEndian: Bool) -> UInt16 { bigEndian ? big16(at) : big16(at).byteSwapped }
    func number32(_ at: Int, bigEndian: Bool) -> UInt32 { bigEndian ? big32(at) : big32(at).byteSwapped }
}
