import Media

extension EmulatedTrack {
    public struct LipSync: Sendable {
        public var broken: [String]
        /// Time error of sound less that of picture, in the last minute (ms; medians).
        public var atEndMs: Double
        public var packets: Int
    }

    /// Two hours of one person: sound at +300 ppm, picture at -200 ppm, 1 % loss, and a stall of ten seconds in the middle.
    ///
    /// Both come from one host, so the reports of both share a clock, which is wrong by 90 s and 20 ppm.
    public static func lipSync(_ sound: PacketSource.Content, _ picture: PacketSource.Content, hasReports: Bool, seed: UInt64 = 1) -> LipSync {
        let outcomes = [(sound, 300.0), (picture, -200.0)].enumerated().map { place, way in
            var source = PacketSource(way.0, seconds: 7_200, seed: seed + UInt64(place))
            source.driftPPM = way.1
            if hasReports { (source.reportSeconds, source.reportOffset, source.reportDriftPPM) = (5, .seconds(90), 20) }
            var network = Network()
            network.jitter = .gamma(mean: .milliseconds(8))
            network.loss = .bernoulli(0.01)
            network.stalls = [.init(from: source.start + .seconds(3_600), to: source.start + .seconds(3_610))]
            return EmulatedTrack(source, network, seed: seed &* 31 + UInt64(place)).run()
        }
        return LipSync(broken: outcomes.flatMap(\.broken), atEndMs: outcomes[0].endError.median - outcomes[1].endError.median,
                       packets: outcomes.reduce(0) { $0 + $1.packetsSent })
    }
}
