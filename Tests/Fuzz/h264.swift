import Media

/// H264 payloads.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt { fuzzPictures(Codec(name: "H264", clockRate: 90_000), start, count) }
