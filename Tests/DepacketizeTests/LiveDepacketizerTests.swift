@testable import Depacketize
import Foundation
import Media
import RTP
import Tap
import TestSupport
import Testing
import Truth

/// A track given out while it grows, against the same track read after its end.
@Suite("A track that still grows")
struct LiveDepacketizerTests {
    private struct Outcome {
        var units: [AccessUnit] = []
        var blanks: [WallTime] = []
        var verdict = TrackVerdict()
        /// Units that were given out before the end.
        var early = 0

        mutating func take(_ event: TrackEvent) {
            switch event {
            case .accessUnit(let unit): units.append(unit)
            case .blank(let time): blanks.append(time)
            }
        }
    }

    private func afterwards(_ format: TrackFormat, _ records: [TrackRecord]) -> Outcome {
        var (survey, outcome) = (TrackSurvey(format: format), Outcome())
        for record in records { survey.observe(record) }
        var depacketizer = Depacketizer(format: format, timeline: survey.finish())
        for record in records { depacketizer.push(record) { outcome.take($0) } }
        depacketizer.finish { outcome.take($0) }
        outcome.verdict = depacketizer.verdict
        return outcome
    }

    private func live(_ format: TrackFormat, _ records: [TrackRecord]) -> (Outcome, LiveDepacketizer.Trouble?) {
        var (depacketizer, outcome) = (LiveDepacketizer(format: format), Outcome())
        for record in records { record.lend { lent in depacketizer.push(lent: lent) { outcome.take($0) } } }
        outcome.early = outcome.units.count
        depacketizer.finish { outcome.take($0) }
        outcome.verdict = depacketizer.verdict
        return (outcome, depacketizer.trouble)
    }

    private func errorMax(_ one: [AccessUnit], _ other: [AccessUnit]) -> Double { zip(one, other).map { abs(($0.time - $1.time).milliseconds) }.max() ?? 0 }

    private func records(of stream: CaptureTruth.Stream, _ name: String) throws -> [TrackRecord] {
        let reader = try CaptureFileReader(path: Checkout.fixtures.appending(path: "\(name).pcap").path)
        var records: [TrackRecord] = []
        while let datagram = try reader.next() {
            if datagram.destinationPort == stream.rtpPort { records.append(.rtp(arrival: datagram.arrival, bytes: datagram.payload)) }
            if datagram.destinationPort == stream.rtcpPort { records.append(.rtcp(arrival: datagram.arrival, bytes: datagram.payload)) }
        }
        return records
    }

    @Test("the units of a real conference are those of the ordinary way, at the same times to a few milliseconds, and most come before its end",
          arguments: ["vp8", "vp8-lipsync"])
    func capture(name: String) throws {
        for stream in try CaptureTruth(capture: Checkout.fixtures.appending(path: "\(name).pcap")).streams {
            let format = try SessionDescription(parsing: stream.sdp).media[0].trackFormat(kind: MediaKind(rawValue: stream.kind)!)
            let records = try records(of: stream, name)
            let (now, trouble) = live(format, records)
            let then = afterwards(format, records)
            let label = "\(stream.participant) \(stream.kind)"
            #expect(trouble == nil, "\(label)")
            #expect(now.units.map(\.payload) == then.units.map(\.payload), "\(label)")
            // A slip of a source by 10 ms is known some seconds later.
            #expect(errorMax(now.units, then.units) <= 12, "\(label)")
            #expect(now.early > 0, "\(label)")
            #expect((now.verdict.packets, now.verdict.lost, now.verdict.clock) == (then.verdict.packets, then.verdict.lost, then.verdict.clock))
        }
    }

    private func received(_ source: PacketSource, _ network: Network, seed: UInt64) -> [TrackRecord] {
        var (source, emulator, records) = (source, NetworkEmulator(network, seed: seed), [TrackRecord]())
        while let packet = source.next() {
            _ = emulator.send(packet)
            while let (arrival, bytes) = emulator.receive() { records.append(.received(bytes, at: arrival)) }
        }
        while let (arrival, bytes) = emulator.drain() { records.append(.received(bytes, at: arrival)) }
        return records
    }

    /// A sender of minutes whose packets wait at random on their way.
    private func emulated(_ content: PacketSource.Content, seconds: Double, driftPPM: Double, _ event: PacketSource.Event? = nil) -> (TrackFormat, [TrackRecord]) {
        var source = PacketSource(content, seconds: seconds, seed: 7)
        if let event { source.events = [(seconds / 2, event)] }
        source.driftPPM = driftPPM
        var network = Network()
        network.jitter = .uniform(max: .milliseconds(15))
        return (source.format(isRepeated: false), received(source, network, seed: 3))
    }

    @Test("where the clocks are quiet the times are those of the ordinary way to a millisecond", arguments: [PacketSource.Content.opus(), .vp8()])
    func quiet(content: PacketSource.Content) {
        let (format, records) = emulated(content, seconds: 120, driftPPM: 0)
        let ((now, trouble), then) = (live(format, records), afterwards(format, records))
        #expect(trouble == nil)
        #expect(now.units.map(\.payload) == then.units.map(\.payload))
        #expect(errorMax(now.units, then.units) <= 1)
    }

    @Test("a clock that drifts is followed without a step, and in the end to a millisecond")
    func drift() {
        let (format, records) = emulated(.opus(), seconds: 400, driftPPM: 150)
        let ((now, trouble), then) = (live(format, records), afterwards(format, records))
        #expect(trouble == nil)
        #expect(now.units.count == then.units.count)
        // Without reports a drift may be the network's until it comes to 15 ms: so long the line is level.
        #expect(errorMax(now.units, then.units) <= 15)
        #expect(errorMax(now.units.suffix(2_000), then.units.suffix(2_000)) <= 1)
        let paces = zip(now.units, now.units.dropFirst()).map { abs(($1.time - $0.time).milliseconds / 20 - 1) }
        #expect(paces.max() ?? 1 <= 0.001)
    }

    @Test("a gate that closes blanks in its place, and a track that is silent meanwhile goes on all the same")
    func silent() {
        let (format, sent) = emulated(.opus(), seconds: 60, driftPPM: 0)
        let middle = sent[sent.count / 2].time
        let records = sent.filter { $0.time < middle || $0.time > middle + .seconds(10) }
        var marked = records.filter { $0.time < middle } + [.mark(at: middle, .gateClosed)]
        var (depacketizer, outcome) = (LiveDepacketizer(format: format), Outcome())
        for record in marked { record.lend { lent in depacketizer.push(lent: lent) { outcome.take($0) } } }
        depacketizer.advance(to: middle + .seconds(5)) { outcome.take($0) }
        #expect(outcome.units.count == marked.count - 1)
        #expect(outcome.blanks == [middle])
        #expect(depacketizer.givenUpTo == middle + .seconds(2))
        let rest = [.mark(at: middle + .seconds(10), .gateOpened)] + records.filter { $0.time > middle }
        for record in rest { record.lend { lent in depacketizer.push(lent: lent) { outcome.take($0) } } }
        depacketizer.finish { outcome.take($0) }
        marked += rest
        #expect(depacketizer.trouble == nil)
        #expect(outcome.units.map(\.payload) == afterwards(format, marked).units.map(\.payload))
    }

    @Test("a clock that jumps forward, and a sender who comes back as another, begin an epoch in time",
          arguments: [PacketSource.Event.jump(ticks: 4_800_000), .rejoin(after: 3)])
    func begins(event: PacketSource.Event) {
        let (format, records) = emulated(.pcmu, seconds: 120, driftPPM: 0, event)
        let ((now, trouble), then) = (live(format, records), afterwards(format, records))
        #expect(trouble == nil)
        #expect(then.verdict.epochs == 2)
        #expect(now.units.map(\.payload) == then.units.map(\.payload))
        #expect(errorMax(now.units, then.units) <= 1)
    }

    @Test("through any network nothing is given out twice or out of order, and hardly anything is missed, unless it says so", arguments: 0..<24 as Range<UInt64>)
    func any(seed: UInt64) {
        let track = EmulatedTrack.random(seed: seed, packets: 1_500)
        let format = track.source.format(isRepeated: track.network.retransmission != nil)
        let records = received(track.source, track.network, seed: seed)
        let ((now, trouble), then) = (live(format, records), afterwards(format, records))
        #expect(zip(now.units, now.units.dropFirst()).allSatisfy { $0.time < $1.time })
        guard trouble == nil else { return }
        #expect(Double(now.units.count) >= 0.97 * Double(then.units.count), "\(now.units.count) of \(then.units.count)")
    }

    @Test("a clock that jumps back is late at first: what was given out then was wrong, and that is said")
    func late() {
        let (format, records) = emulated(.pcmu, seconds: 120, driftPPM: 0, .jump(ticks: -48_000))
        #expect(afterwards(format, records).verdict.epochs == 2)
        #expect(live(format, records).1 == .epochChanged)
    }
}
