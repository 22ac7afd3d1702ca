import FFmpeg

/// A file as the structure of a Matroska file that was just written. Compiled together with its reader.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let file = File(UnsafeRawBufferPointer(start: start, count: count))
    do {
        let outline = try MatroskaOutline(file)
        precondition(outline.packets * 6 <= count, "each block has a head of its own")
        precondition(outline.indexed * 4 <= count, "each entry of the index has one, too")
    } catch {
        precondition((error as? MatroskaOutline.Fault)?.description.isEmpty == false, "an error says what is wrong")
    }
    // Every element is looked at, and those that an index points to are once more for each entry.
    precondition(file.reads <= 64 * (count + 1), "it comes to an end soon")
    return 0
}

private final class File: MediaSource {
    private let bytes: UnsafeRawBufferPointer
    private(set) var reads = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }
    var length: Int { bytes.count }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        reads += 1
        guard offset >= 0, offset < bytes.count else { return 0 }
        let part = UnsafeRawBufferPointer(rebasing: bytes[offset..<min(offset + buffer.count, bytes.count)])
        buffer.copyMemory(from: part)
        return part.count
    }
}
