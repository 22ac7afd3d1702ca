import Media

/// VP8 payloads.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt { fuzzPictures(Codec(name: "VP8", clockRate: 90_000), start, count) }
