import Glibc
import Media
import RTP

/// A file as a capture of any kind: pcap, pcapng, mjr, rtpdump; and what streams are found in it. Compiled together with the readers.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    ftruncate(file, 0)
    pwrite(file, start, count, 0)
    do {
        let reader = try CaptureFileReader(path: path)
        var finder = StreamFinder()
        var (datagrams, bytes) = (0, 0)
        while let datagram = try reader.next() {
            datagrams += 1
            bytes += datagram.payload.count
            finder.take(datagram)
        }
        _ = (reader.skipped, reader.isTruncated)
        for stream in finder.suggestions() where stream.kind != nil { precondition((try? SessionDescription(parsing: stream.sdp)) != nil, "a suggested SDP can be read") }
        precondition(datagrams <= count && bytes <= count * 2, "what comes out was in the file")
        precondition(reader.bytesRead <= reader.size, "no more is read than there is")
    } catch {
        precondition(!error.what.isEmpty, "an error says what is wrong")
    }
    return 0
}

/// In memory, and without a name.
private let file: CInt = {
    var name = Array("/dev/shm/capture-XXXXXX".utf8CString)
    let file = mkstemp(&name)
    precondition(file >= 0 && unlink(name) == 0, "no file in memory")
    return file
}()
private let path = "/proc/self/fd/\(file)"
