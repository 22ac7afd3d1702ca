/// A payload format by its RTP encoding name (RFC 4855), as the SDP's `a=rtpmap` spells it.
///
/// Every name can be carried, so that an error about an unsupported one can say which.
public struct Codec: Hashable, Codable, Sendable {
    /// Lower-cased encoding name, such as `opus` or `vp8`.
    public var name: String
    /// RTP clock rate in Hz.
    public var clockRate: Int
    /// Audio channels as announced; 1 for video.
    public var channels: Int

    public init(name: String, clockRate: Int, channels: Int = 1) {
        self.name = name.lowercased()
        self.clockRate = clockRate
        self.channels = channels
    }

    public static let opus = Codec(name: "opus", clockRate: 48_000, channels: 2)
    public static let vp8 = Codec(name: "vp8", clockRate: 90_000)

    /// How a person knows it: `VP8/90000`.
    public var description: String { "\(name.uppercased())/\(clockRate)\(channels > 1 ? "/\(channels)" : "")" }
}
