import Catalog
import Consent
import Foundation
import Logging
import Media
@testable import Recorder
import Renditions
import TestSupport
import Truth

/// A recorder with a movable clock in a folder of its own, and a recording of three people made from a capture.
struct Rights {
    let folder: TemporaryFolder
    let recorder: Recorder
    let moderator = Principal(role: .moderator, subject: "moderator")
    let operatorPrincipal = Principal(role: .operator, subject: "operator")

    init(_ change: (inout RecorderConfiguration) -> Void = { _ in }) throws {
        folder = try TemporaryFolder()
        var configuration = Self.configuration(folder.url.appending(path: "data"))
        change(&configuration)
        recorder = try Recorder(configuration, logger: Self.logger)
    }

    static func configuration(_ data: URL) -> RecorderConfiguration {
        var configuration = RecorderConfiguration(data: data, pipelines: Checkout.pipelines, stageExecutable: Checkout.program("mitschnitt-stage"))
        configuration.hasMovableClock = true
        return configuration
    }

    static var logger: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }

    static func recorder(_ data: URL) throws -> Recorder { try Recorder(configuration(data), logger: logger) }

    var data: URL { folder.url.appending(path: "data") }

    struct Imported {
        var id: RecordingID
        var meeting: MeetingID
        var people: [String: ParticipantID]

        func principal(_ key: String) -> Principal { Principal(role: .participant, subject: people[key]!.rawValue, participant: people[key], meeting: meeting) }
    }

    /// Opus alone is enough here, and fast; with `pipeline` "meeting" pictures are made, too. `seconds`: only the capture's beginning.
    func imported(_ modalities: [String: [Modality]], pipeline: String = "audio-only", isMade: Bool = true, seconds: Double? = nil) async throws -> Imported {
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let truth = try CaptureTruth(capture: capture)
        let read = try seconds.map { try cut(capture, $0) } ?? capture
        let request = ImportRequest(pipeline: pipeline, captures: [read.path], people: ["A", "B", "C"].map { .init(key: $0, name: "Person \($0)", modalities: modalities[$0] ?? []) },
                                    streams: truth.streams.map { .init(people: [$0.participant], kind: MediaKind(rawValue: $0.kind)!, sdp: $0.sdp) })
        let imported = try await recorder.importCaptures(request) { _ in }
        if isMade { await StageWorker(recorder: recorder).runUntilEmpty() }
        let view = try await recorder.recording(imported.recording, as: moderator)
        return Imported(id: imported.recording, meeting: view.meeting, people: Dictionary(uniqueKeysWithValues: imported.keys.map { ($0.value, $0.key) }))
    }

    /// The beginning of a capture, as a file of its own (pcap: a header of 24 bytes; each packet's has its time and length).
    private func cut(_ capture: URL, _ seconds: Double) throws -> URL {
        let bytes = try [UInt8](Data(contentsOf: capture))
        func word(_ at: Int) -> Int { bytes[at..<(at + 4)].reversed().reduce(0) { $0 << 8 | Int($1) } }
        let (start, unit) = (word(24), word(0) == 0xA1B2_3C4D ? 1e9 : 1e6)
        var at = 24
        while at + 16 <= bytes.count, Double(word(at) - start) + Double(word(at + 4) - word(28)) / unit < seconds { at += 16 + word(at + 8) }
        let file = folder.url.appending(path: "cut.pcap")
        try Data(bytes[..<at]).write(to: file)
        return file
    }

    func track(_ id: RecordingID, _ place: Int) async throws -> String { try await recorder.catalog.read { try $0.streams(of: id.rawValue)[place].stream.track } }

    static func code(_ body: () async throws -> some Any) async -> RecorderError.Code? {
        do {
            _ = try await body()
            return nil
        } catch {
            return (error as? RecorderError)?.code
        }
    }
}
