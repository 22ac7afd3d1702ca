import Media
import RTP

/// One decodable unit: an audio packet's payload or a whole video frame.
public struct AccessUnit: Hashable, Sendable {
    /// Opus, G.711, G.722, L16 as in RTP; VP8 and VP9 frames (VP9 layers as one superframe); H.264 and H.265 with start codes
    /// (Annex B); AV1 as low-overhead OBUs without temporal delimiters.
    public var payload: [UInt8]
    public var codec: Codec
    /// When its first sample or its picture was captured.
    public var time: WallTime
    /// Audio: its length, from the payload itself. Video: nil.
    public var duration: Nanoseconds?
    public var isKey: Bool
    /// Key pictures: size in pixels.
    public var width: Int?
    public var height: Int?

    public init(payload: [UInt8], codec: Codec, time: WallTime, duration: Nanoseconds? = nil, isKey: Bool, width: Int? = nil, height: Int? = nil) {
        self.payload = payload
        self.codec = codec
        self.time = time
        self.duration = duration
        self.isKey = isKey
        self.width = width
        self.height = height
    }
}

/// What comes out of a track, in the order of time.
public enum TrackEvent: Hashable, Sendable {
    case accessUnit(AccessUnit)
    /// From here on a player shows the placeholder until the next picture: gate closed, paused, ended.
    case blank(WallTime)
}
