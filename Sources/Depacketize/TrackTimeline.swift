import Media
import RTP

/// How a track's RTP time stamps relate to wall time, epoch by epoch: the result of the first pass over its packets.
public struct TrackTimeline: Hashable, Sendable {
    /// A stretch of one SSRC's packets on one unbroken line of time stamps.
    public struct Epoch: Hashable, Sendable {
        /// Place among the track's RTP records, from which on the epoch holds for its SSRC.
        public var firstRecord: Int
        public var ssrc: SSRC
        /// Extended time stamp (from a ``TimestampExtender`` that begins with the epoch) and its wall time.
        var anchorTimestamp: Int64
        var anchorWall: WallTime
        var nanosecondsPerTick: Double
        public var driftPPM: Double?

        func wall(_ timestamp: Int64) -> WallTime {
            anchorWall + Nanoseconds(count: Int64((Double(timestamp - anchorTimestamp) * nanosecondsPerTick).rounded()))
        }
    }

    /// In the order of `firstRecord`.
    public var epochs: [Epoch]
}

/// The first pass: finds epochs and fits a clock to each, in bounded memory.
///
/// A time stamp that lies more than a second from where the arrival says it should is a suspect: alone it is an outlier, confirmed by the
/// packets after it the sender's clock jumped and a new epoch begins there. Late packets alone (a stall) never look like that, since the
/// queue behind them empties.
public struct TrackSurvey {
    /// A delay that grew by more than this and stays so is a jump, not a queue.
    static let lateSeconds = 1.0
    /// Media cannot arrive before it was made: this much early is a jump.
    static let earlySeconds = 0.5
    /// How long lateness must last, and how many early packets it takes, to be believed.
    static let lateConfirmSeconds = 2.0
    static let earlyConfirmPackets = 5
    static let epochsMax = 10_000
    static let suspectsMax = 5_000

    private struct Suspect {
        var record: Int
        var timestamp: UInt32
        var clockRate: Int
        var arrival: Double
        var delay: Double
        var lengthSeconds: Double
    }

    private struct Running {
        var firstRecord: Int
        var extender = TimestampExtender()
        var fit = ClockFit()
        var clockRate: Int
        var origin: Int64?
        var suspects: [Suspect] = []
    }

    private let format: TrackFormat
    private var running: [SSRC: Running] = [:]
    private var finished: [TrackTimeline.Epoch] = []
    private var records = 0
    private var base: WallTime?

    public init(format: TrackFormat) { self.format = format }

    public mutating func observe(_ record: TrackRecord) {
        guard case .rtp(let arrival, let bytes) = record else { return }
        defer { records += 1 }
        bytes.withUnsafeBytes { buffer in
            // What is no RTP packet of this track is counted in the second pass.
            guard let header = try? RTPHeader(buffer), let codec = format.codecs[header.payloadType] else { return }
            let start = base ?? arrival
            base = start
            let length = codec == .opus || codec.name == "opus" ? OpusFormat.samples(UnsafeRawBufferPointer(rebasing: buffer[header.payload])) ?? 0 : 0
            take(header, codec.clockRate, (arrival - start).seconds, Double(length) / 48_000)
        }
    }

    private mutating func take(_ header: RTPHeader, _ clockRate: Int, _ arrival: Double, _ length: Double) {
        guard var state = running[header.ssrc], state.clockRate == clockRate else {
            if let old = running[header.ssrc] { finish(header.ssrc, old) }
            guard finished.count + running.count < Self.epochsMax else { return }
            running[header.ssrc] = begin(records, header.timestamp, clockRate, arrival, length)
            return
        }
        var tentative = state.extender
        let extended = tentative.extend(header.timestamp)
        // An audio packet cannot leave before its last sample was captured.
        let media = Double(extended - (state.origin ?? extended)) / Double(clockRate)
        let delay = arrival - length - media
        let usual = state.fit.recentDelay ?? delay
        if delay - usual <= Self.lateSeconds, usual - delay <= Self.earlySeconds {
            state.extender = tentative
            state.suspects.removeAll(keepingCapacity: true)
            state.fit.observe(media: media, arrival: arrival - length)
            running[header.ssrc] = state
            return
        }
        if let first = state.suspects.first, (first.delay > usual) != (delay > usual) || abs(delay - first.delay) > 3600 { state.suspects.removeAll(keepingCapacity: true) }
        if state.suspects.count < Self.suspectsMax {
            state.suspects.append(Suspect(record: records, timestamp: header.timestamp, clockRate: clockRate, arrival: arrival, delay: delay, lengthSeconds: length))
        }
        guard confirmed(state.suspects, usual) else {
            running[header.ssrc] = state
            return
        }
        let suspects = state.suspects
        finish(header.ssrc, state)
        guard finished.count + running.count < Self.epochsMax else { return }
        var next = begin(suspects[0].record, suspects[0].timestamp, clockRate, suspects[0].arrival, suspects[0].lengthSeconds)
        for suspect in suspects.dropFirst() {
            let media = Double(next.extender.extend(suspect.timestamp) - (next.origin ?? 0)) / Double(clockRate)
            next.fit.observe(media: media, arrival: suspect.arrival - suspect.lengthSeconds)
        }
        running[header.ssrc] = next
    }

    private func confirmed(_ suspects: [Suspect], _ usual: Double) -> Bool {
        guard let first = suspects.first, let last = suspects.last else { return false }
        let delays = suspects.map(\.delay)
        guard let least = delays.min(), let most = delays.max() else { return false }
        if first.delay > usual { return last.arrival - first.arrival >= Self.lateConfirmSeconds && least > usual + Self.lateSeconds }
        return suspects.count >= Self.earlyConfirmPackets && most - least < Self.earlySeconds
    }

    private func begin(_ record: Int, _ timestamp: UInt32, _ clockRate: Int, _ arrival: Double, _ length: Double) -> Running {
        var state = Running(firstRecord: record, clockRate: clockRate)
        state.origin = state.extender.extend(timestamp)
        state.fit.observe(media: 0, arrival: arrival - length)
        return state
    }

    private mutating func finish(_ ssrc: SSRC, _ state: Running) {
        guard let base, let origin = state.origin else { return }
        let line = state.fit.line()
        let rate = Double(state.clockRate)
        finished.append(TrackTimeline.Epoch(
            firstRecord: state.firstRecord, ssrc: ssrc, anchorTimestamp: origin + Int64((line.at * rate).rounded()),
            anchorWall: base + Nanoseconds(seconds: line.at + line.offset),
            nanosecondsPerTick: 1e9 / rate * (1 + (line.slope ?? 0)), driftPPM: line.slope.map { $0 * 1e6 }))
        running[ssrc] = nil
    }

    public mutating func finish() -> TrackTimeline {
        for (ssrc, state) in running { finish(ssrc, state) }
        return TrackTimeline(epochs: finished.sorted { ($0.firstRecord, $0.ssrc.rawValue) < ($1.firstRecord, $1.ssrc.rawValue) })
    }
}
