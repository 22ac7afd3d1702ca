@testable import Depacketize
import Foundation
import Media
import RTP
import Tap
import TestSupport
import Testing
import Truth

@Suite("A captured conference")
struct CaptureTests {
    @Test("every packet of the capture is accounted for, nothing is lost, and pictures begin with a key frame", arguments: ["vp8", "vp8-lipsync"])
    func whole(name: String) throws {
        let capture = Checkout.fixtures.appending(path: "\(name).pcap")
        for stream in try CaptureTruth(capture: capture).streams {
            let kind = MediaKind(rawValue: stream.kind)!
            let format = try SessionDescription(parsing: stream.sdp).media[0].trackFormat(kind: kind)
            let reader = try CaptureFileReader(path: capture.path)
            var records: [TrackRecord] = []
            while let datagram = try reader.next() {
                if datagram.destinationPort == stream.rtpPort { records.append(.rtp(arrival: datagram.arrival, bytes: datagram.payload)) }
            }
            var survey = TrackSurvey(format: format)
            for record in records { survey.observe(record) }
            var depacketizer = Depacketizer(format: format, timeline: survey.finish())
            var units: [AccessUnit] = []
            func take(_ event: TrackEvent) { if case .accessUnit(let unit) = event { units.append(unit) } }
            for record in records { depacketizer.push(record, emit: take) }
            depacketizer.finish(emit: take)
            let verdict = depacketizer.verdict
            #expect((verdict.packets, verdict.lost, verdict.duplicates, verdict.outliers, verdict.epochs) == (stream.packets, 0, 0, 0, 1), "\(stream.participant) \(stream.kind)")
            #expect(units.first?.isKey == true)
            #expect(zip(units, units.dropFirst()).allSatisfy { $0.time < $1.time })
            if kind == .audio { #expect(units.count == stream.packets) } else { #expect(verdict.resolutions.map { [$0.width, $0.height] } == [[320, 240]]) }
        }
    }
}
