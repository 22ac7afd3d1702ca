import Media
import RTP

/// How a track's RTP time stamps relate to wall time, epoch by epoch: the result of the first pass over its packets.
public struct TrackTimeline: Hashable, Sendable {
    /// A stretch of one SSRC's packets on one unbroken line of time stamps.
    public struct Epoch: Hashable, Sendable {
        /// Place among the track's RTP records, from which on the epoch holds for its SSRC.
        public var firstRecord: Int
        public var ssrc: SSRC
        /// The first time stamp, extended: those of the epoch are extended from it (``TimestampExtender/init(from:)``).
        public var origin: Int64
        public var clock: MediaClock
        /// Whether sender reports, not arrivals, say when.
        public var isByReports: Bool
        /// Wall time by the reports less that by the arrivals; nil without reports.
        public var reportsLessArrival: Nanoseconds?
        public var driftPPM: Double?
        /// Media packets that fitted it, and when the first and the last of them were captured.
        public var packets: Int
        public var first: WallTime
        public var last: WallTime
    }

    /// In the order of `firstRecord`.
    public var epochs: [Epoch]
}
