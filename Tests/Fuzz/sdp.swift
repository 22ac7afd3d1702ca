import Media
import RTP

/// A session description, and the track formats that follow from it.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let text = String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    guard let description = try? SessionDescription(parsing: text) else { return 0 }  // an error is an answer, too
    precondition(!description.media.isEmpty && description.media.count <= SessionDescription.mediaMax, "at least one m-line, and there is a limit")
    for media in description.media {
        let format = media.trackFormat(kind: .video)
        precondition(format.codecs.keys.allSatisfy { $0 < 128 }, "payload types have seven bits")
        _ = Retransmission.mediaTypes(of: format)
        _ = (media.protection.description, media.repairs)
        for (_, parameters) in format.parameters { _ = FormatParameters(parameters)["apt"] }
    }
    return 0
}
