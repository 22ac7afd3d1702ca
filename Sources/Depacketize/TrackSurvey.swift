import Media
import RTP

/// The first pass: finds epochs and fits a clock to each, in bounded memory.
///
/// A time stamp that lies more than a second behind, or half a second before, where the arrivals say it should is a suspect. Alone it is
/// an outlier. Early packets cannot be explained by any network, so five that agree begin a new epoch; late ones can: only when they are
/// late for half a minute, or to the end of the stream, and all alike, did the sender's clock jump. A queue that drains never looks like
/// that.
public struct TrackSurvey: Sendable {
    /// A delay that grew by more than this and stays so is a jump, not a queue.
    static let lateSeconds = 1.0
    /// Media cannot arrive before it was made: this much early is a jump.
    static let earlySeconds = 0.5
    /// How long lateness must last, and how many early packets it takes, to be believed.
    static let lateConfirmSeconds = 30.0
    static let earlyConfirmPackets = 5
    /// No network holds packets back for so long: this late they are as good as early.
    static let hopelessSeconds = 60.0
    /// At the end of a stream this much of it is enough, if the delays agree: there is nothing more to wait for.
    static let lateAtEndSeconds = 2.0
    static let agreeSeconds = 0.3
    static let epochsMax = 10_000
    static let suspectsMax = 50_000
    /// How far, in seconds, wall time by reports may lie before and behind that by arrivals: see ``trusted(_:_:_:)``.
    static let reportsEarlyMax = 1.0
    static let reportsLateMax = 0.1

    private struct Suspect: Sendable {
        var record: Int
        var timestamp: UInt32
        var arrival: Double
        var delay: Double
        var lengthSeconds: Double
    }

    private struct Running: Sendable {
        var firstRecord: Int
        var extender = TimestampExtender()
        var fit = ClockFit()
        var reports = ReportFit()
        var clockRate: Int
        var origin: Int64 = 0
        var packets = 0
        var firstMedia = 0.0
        var lastMedia = 0.0
        var suspects: [Suspect] = []
        /// The fit's recent delay, as of its last new minimum.
        var recentDelay: Double?

        init(firstRecord: Int, clockRate: Int) { (self.firstRecord, self.clockRate) = (firstRecord, clockRate) }

        /// Takes a packet that is no suspect; false, and nothing done, for any other.
        mutating func takes(_ timestamp: UInt32, _ clockRate: Int, _ arrival: Double, _ length: Double) -> Bool {
            guard self.clockRate == clockRate else { return false }
            var tentative = extender
            // An audio packet cannot leave before its last sample was captured.
            let media = Double(tentative.extend(timestamp) - origin) / Double(clockRate)
            let delay = arrival - length - media
            let usual = recentDelay ?? delay
            guard delay - usual <= TrackSurvey.lateSeconds, usual - delay <= TrackSurvey.earlySeconds else { return false }
            extender = tentative
            if !suspects.isEmpty { suspects.removeAll(keepingCapacity: true) }
            note(media, arrival - length)
            return true
        }

        mutating func note(_ media: Double, _ arrival: Double) {
            let (count, least) = (fit.minima.count, fit.minima.last?.delay)
            fit.observe(media: media, arrival: arrival)
            if fit.minima.count != count || fit.minima.last?.delay != least { recentDelay = fit.recentDelay }
            packets += 1
            firstMedia = min(firstMedia, media)
            lastMedia = max(lastMedia, media)
        }
    }

    private let types: PayloadTypes
    private let isSound: Bool
    private var running: [SSRC: Running] = [:]
    private var finished: [TrackTimeline.Epoch] = []
    private var records = 0
    /// Origins of the axes that floating-point seconds are counted on.
    private var base: WallTime?
    private var ntpBase: UInt64?

    public init(format: TrackFormat) { (types, isSound) = (PayloadTypes(format), format.kind == .audio) }

    public mutating func observe(_ record: TrackRecord) { record.lend { observe(lent: $0) } }

    public mutating func observe(lent record: LentRecord) {
        switch record {
        case .mark: return
        case .rtp(let arrival, let bytes):
            observe(arrival, bytes)
            records += 1
        case .rtcp(let arrival, let bytes):
            // What does not parse was counted when it was received.
            guard let packets = try? RTCPPacket.parse(bytes) else { return }
            for case .senderReport(let ssrc, let report) in packets { take(report, ssrc, arrival) }
        }
    }

    private mutating func observe(_ arrival: WallTime, _ bytes: UnsafeRawBufferPointer) {
        // What is no RTP packet of this track is counted in the second pass.
        guard let header = try? RTPHeader(bytes) else { return }
        let payload = UnsafeRawBufferPointer(rebasing: bytes[header.payload])
        guard let (length, clockRate) = media(payload, types[header.payloadType]) else { return }
        let start = base ?? arrival
        base = start
        let seconds = (arrival - start).seconds
        // In place: a copy of the state would copy its minima with it.
        if let place = running.index(forKey: header.ssrc), running.values[place].takes(header.timestamp, clockRate, seconds, length) { return }
        take(header, clockRate, seconds, length)
    }

    /// How long the sound of a packet is (0 s for pictures), and its clock; nil for a packet whose time stamp is not that of its own
    /// media: key presses keep their first time stamp, retransmissions arrive later.
    private func media(_ payload: UnsafeRawBufferPointer, _ role: PayloadTypes.Role) -> (seconds: Double, clockRate: Int)? {
        switch role {
        case .picture(let codec): return (0, codec.clockRate)
        case .sound(let codec): return (AudioFormats.duration(of: payload, codec: codec)?.seconds ?? 0, codec.clockRate)
        case .redundant:
            guard let primary = RedundantAudio.blocks(payload)?.last else { return nil }
            // Not nested: a block that says it is redundant again has no media.
            if case .redundant = types[primary.payloadType] { return nil }
            return media(UnsafeRawBufferPointer(rebasing: payload[primary.range]), types[primary.payloadType])
        case .retransmission, .tone, .noise, .filler, .unsupported, .unknown: return nil
        }
    }

    private mutating func take(_ report: RTCPPacket.SenderReport, _ ssrc: SSRC, _ arrival: WallTime) {
        guard var state = running[ssrc], let base, report.ntp != 0 else { return }
        let start = ntpBase ?? report.ntp
        ntpBase = start
        // Of 2^32 s around the first report: an era's end in between does not matter (RFC 5905 section 6).
        let ntp = Double(Int64(bitPattern: report.ntp &- start)) / 4_294_967_296
        var extender = state.extender
        let media = Double(extender.extend(report.rtpTimestamp) - state.origin) / Double(state.clockRate)
        state.reports.observe(media: media, ntp: ntp, arrival: (arrival - base).seconds)
        running[ssrc] = state
    }

    private mutating func take(_ header: RTPHeader, _ clockRate: Int, _ arrival: Double, _ length: Double) {
        guard var state = running[header.ssrc], state.clockRate == clockRate else {
            if let old = running[header.ssrc] { finish(header.ssrc, old) }
            guard finished.count + running.count < Self.epochsMax else { return }
            running[header.ssrc] = begin(records, header.timestamp, clockRate, arrival, length)
            return
        }
        // A suspect: what is none was taken already.
        var tentative = state.extender
        let delay = arrival - length - Double(tentative.extend(header.timestamp) - state.origin) / Double(clockRate)
        let usual = state.recentDelay ?? delay
        if let first = state.suspects.first, (first.delay > usual) != (delay > usual) || abs(delay - first.delay) > 3600 { state.suspects.removeAll(keepingCapacity: true) }
        state.suspects.append(Suspect(record: records, timestamp: header.timestamp, arrival: arrival, delay: delay, lengthSeconds: length))
        running[header.ssrc] = state
        if confirmed(state.suspects, usual) { jump(header.ssrc, state) }
    }

    private func confirmed(_ suspects: [Suspect], _ usual: Double) -> Bool {
        guard let first = suspects.first, let last = suspects.last else { return false }
        if suspects.count >= Self.suspectsMax { return true }
        // Looked at now and then: each look goes over half a minute.
        if first.delay > usual, last.delay - usual < Self.hopelessSeconds { return suspects.count % 64 == 0 && last.arrival - first.arrival >= Self.lateConfirmSeconds && Self.agree(suspects) }
        guard suspects.count >= Self.earlyConfirmPackets else { return false }
        let recent = suspects.suffix(Self.earlyConfirmPackets).map(\.delay)
        return (recent.max() ?? 0) - (recent.min() ?? 0) < Self.earlySeconds
    }

    /// Whether the delays of the last half minute are as alike as those behind a clock that jumped: the fastest of each sixth of it. In a
    /// queue that grows or drains they are not.
    private static func agree(_ suspects: [Suspect]) -> Bool {
        guard let first = suspects.first, let last = suspects.last else { return false }
        let begin = max(first.arrival, last.arrival - lateConfirmSeconds)
        let part = (last.arrival - begin) / 6
        guard part > 0 else { return false }
        var fastest = [Double](repeating: .infinity, count: 6)
        for suspect in suspects where suspect.arrival >= begin {
            let place = min(5, Int((suspect.arrival - begin) / part))
            fastest[place] = min(fastest[place], suspect.delay)
        }
        let known = fastest.filter(\.isFinite)
        return (known.max() ?? 0) - (known.min() ?? 0) < agreeSeconds
    }

    /// Ends the epoch where the clock jumped, and begins one with the suspects from there on.
    ///
    /// Before them there may be some that a queue held up ahead of the jump: they are less late than the jump is far, and of the old epoch.
    private mutating func jump(_ ssrc: SSRC, _ old: Running) {
        var state = old
        let settled = state.suspects.suffix(Self.earlyConfirmPackets).map(\.delay).min() ?? 0
        let held = state.suspects.prefix { $0.delay < settled - Self.earlySeconds }
        for suspect in held {
            let media = Double(state.extender.extend(suspect.timestamp) - state.origin) / Double(state.clockRate)
            state.note(media, suspect.arrival - suspect.lengthSeconds)
        }
        finish(ssrc, state)
        guard finished.count + running.count < Self.epochsMax, let first = state.suspects.dropFirst(held.count).first else { return }
        var next = begin(first.record, first.timestamp, state.clockRate, first.arrival, first.lengthSeconds)
        for suspect in state.suspects.dropFirst(held.count + 1) {
            let media = Double(next.extender.extend(suspect.timestamp) - next.origin) / Double(state.clockRate)
            next.note(media, suspect.arrival - suspect.lengthSeconds)
        }
        running[ssrc] = next
    }

    private func begin(_ record: Int, _ timestamp: UInt32, _ clockRate: Int, _ arrival: Double, _ length: Double) -> Running {
        var state = Running(firstRecord: record, clockRate: clockRate)
        state.origin = state.extender.extend(timestamp)
        state.note(0, arrival - length)
        return state
    }

    private mutating func finish(_ ssrc: SSRC, _ state: Running) {
        running[ssrc] = nil
        guard let base else { return }
        let (fit, slips) = state.fit.clock(state.reports, isSound: isSound)
        let line = fit.line()
        let (origin, rate) = (state.origin, Double(state.clockRate))
        func knot(_ media: Double, _ wall: Double) -> MediaClock.Knot { .init(timestamp: origin + Int64((media * rate).rounded()), wall: base + Nanoseconds(seconds: wall)) }
        let middle = (state.firstMedia + state.lastMedia) / 2
        let reports = state.reports.without(slips).mapping()
        let difference = reports.map { $0.wall(middle) - (middle + line.delay(middle)) }
        let byReports = reports.flatMap { Self.trusted($0, line, difference ?? 0) ? $0 : nil }
        let mapping: ReportFit.Mapping
        if let byReports {
            // Media cannot arrive before it was captured: where the reports say so, they were held up themselves.
            let early = max(0, difference ?? 0)
            mapping = .init(knots: byReports.knots.map { ($0.media, $0.wall - early) }, slope: byReports.slope)
        } else {
            let wander = fit.wander(around: line)
            mapping = .init(knots: wander.isEmpty ? [(line.at, line.at + line.offset)] : wander.map { ($0.media, $0.media + line.delay($0.media) + $0.rest) },
                            slope: line.slope)
        }
        let slope = mapping.slope
        let knots = Self.ascending(slips.bend(mapping).knots.map { knot($0.media, $0.wall) })
        let clock = MediaClock(knots: knots, nanosecondsPerTick: 1e9 / rate * (1 + (slope ?? 0)))
        finished.append(TrackTimeline.Epoch(
            firstRecord: state.firstRecord, ssrc: ssrc, origin: origin, clock: clock, isByReports: byReports != nil, reportsLessArrival: difference.map { Nanoseconds(seconds: $0) },
            driftPPM: slope.map { $0 * 1e6 }, packets: state.packets, first: clock.wall(origin + Int64(state.firstMedia * rate)),
            last: clock.wall(origin + Int64(state.lastMedia * rate))))
    }

    /// Reports and arrivals against each other: media cannot arrive before it was captured, nor run at another pace. A middle box that
    /// rewrites RTP and forgets the reports is found by this.
    private static func trusted(_ reports: ReportFit.Mapping, _ line: ClockFit.Line, _ difference: Double) -> Bool {
        guard difference >= -reportsEarlyMax, difference <= reportsLateMax else { return false }
        guard let a = reports.slope, let b = line.slope else { return true }
        return abs(a - b) <= 200e-6
    }

    private static func ascending(_ knots: [MediaClock.Knot]) -> [MediaClock.Knot] {
        var kept: [MediaClock.Knot] = []
        for knot in knots where kept.last.map({ $0.timestamp < knot.timestamp && $0.wall < knot.wall }) ?? true { kept.append(knot) }
        return kept
    }

    /// The timeline as far as it is known while packets still come: nobody's clock is believed to have jumped yet that may be late only.
    func soFar() -> TrackTimeline {
        var copy = self
        for (ssrc, state) in running { copy.finish(ssrc, state) }
        return copy.timeline
    }

    private var timeline: TrackTimeline { TrackTimeline(epochs: finished.sorted { ($0.firstRecord, $0.ssrc.rawValue) < ($1.firstRecord, $1.ssrc.rawValue) }) }

    public mutating func finish() -> TrackTimeline {
        for (ssrc, state) in running.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            if let first = state.suspects.first, let last = state.suspects.last, last.arrival - first.arrival >= Self.lateAtEndSeconds, Self.agree(state.suspects) {
                jump(ssrc, state)
            }
            if let left = running[ssrc] { finish(ssrc, left) }
        }
        return timeline
    }
}
