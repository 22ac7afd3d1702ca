import Media

/// The payload formats of pictures, by codec.
public enum VideoFormats {
    /// What puts `codec`'s packets together; nil where the format is not known. `parameters` is its `a=fmtp` value.
    public static func assembler(for codec: Codec, parameters: String?) -> (any VideoAssembler)? { nil }

    /// Whether pictures of this codec can be put together.
    public static func isSupported(_ codec: Codec) -> Bool { assembler(for: codec, parameters: nil) != nil }

    /// Whether a payload begins a key frame of `codec`, by its first bytes: enough to stop asking for one.
    public static func beginsKeyFrame(_ payload: UnsafeRawBufferPointer, codec: Codec) -> Bool { false }
}
