import Catalog
import Consent
import Foundation
import Media
@testable import Recorder
import Renditions
import SealedFile
import TestSupport
import Testing
import Truth

/// What is kept of the pictures of a recording that runs, when a rendering of it begins anew.
@Suite("Chunks of a live rendering's pictures")
struct LiveChunksTests {
    private let rights: Rights
    private var recorder: Recorder { rights.recorder }

    init() throws { rights = try Rights { $0.isLive = true } }

    private static func chunk(_ ticks: Range<Int>, _ tracks: Set<TrackID> = [], origin: Double = 100, labels: [TrackID: String] = [:], parameters: StageParameters = StageParameters(), name: String = "x") -> LiveChunks.Chunk {
        let context = SealedContext(recording: .random(), object: "rendition:\(name)", modality: "composite", part: "chunk")
        return LiveChunks.Chunk(made: LiveChunk(ticks: ticks, tracks: tracks), origin: WallTime(seconds: origin), labels: labels, parameters: parameters,
                                output: StagePreparation.Output(id: name, temporary: URL(filePath: "/nowhere/\(name)"), final: URL(filePath: "/nowhere"), name: "chunk", keyID: context.object), context: context)
    }

    @Test("chunks follow one upon the other from the first picture on; one that takes the place of others replaces them, one that follows none is not kept")
    func order() {
        let (chunks, recording) = (LiveChunks(), RecordingID.random())
        func append(_ ticks: Range<Int>, origin: Double = 100, _ name: String) -> [String] { chunks.append(Self.chunk(ticks, origin: origin, name: name), of: recording).map(\.output.id) }
        var kept: [String] { chunks.of(recording).map(\.output.id) }
        #expect(append(5..<10, "a") == ["a"] && kept == [])
        #expect(append(0..<10, "b") == [] && append(10..<30, "c") == [] && append(30..<40, "d") == [])
        #expect(append(50..<60, "e") == ["e"] && kept == ["b", "c", "d"])
        #expect(append(10..<20, "f") == ["c", "d"] && kept == ["b", "f"])
        #expect(append(0..<20, origin: 100.1, "g") == ["b", "f"] && kept == ["g"])
        #expect(chunks.keep(recording) { _ in false }.map(\.output.id) == ["g"] && chunks.recordings.isEmpty)
        for number in 0..<LiveChunk.most { #expect(append(number..<number + 1, "\(number)") == []) }
        #expect(append(LiveChunk.most..<LiveChunk.most + 1, "last") == ["last"])
    }

    @Test("a child has two empty files, and gets another for each that it fills; what is left empty goes with the run")
    func rooms() {
        let (run, track) = (LiveRun(.random()), TrackID.random())
        func output(_ name: String) -> StagePreparation.Output { Self.chunk(0..<1, name: name).output }
        let context = Self.chunk(0..<1).context
        #expect(!run.wantsRoom)
        #expect(run.expect(["composite": [output("composite")]], labels: [track: "Anna"]))
        for name in ["a", "b"] { #expect(run.wantsRoom && run.add(room: output(name), context)) }
        #expect(!run.wantsRoom)
        let made = run.fill(LiveChunk(ticks: 0..<9, tracks: [track]), WallTime(seconds: 7), StageParameters())
        #expect(made?.output.id == "a" && made?.labels == [track: "Anna"] && made?.origin == WallTime(seconds: 7) && run.wantsRoom)
        run.leave([output("replaced")])
        #expect(Set(run.over().map(\.id)) == ["b", "replaced", "composite"])
        #expect(!run.wantsRoom && !run.add(room: output("c"), context) && run.fill(LiveChunk(ticks: 9..<12, tracks: []), WallTime(seconds: 7), StageParameters()) == nil)
    }

    /// A recording that runs, with Anna's and Carla's pictures.
    private func begun() async throws -> (recording: RecordingID, tracks: [TrackID], people: [Principal]) {
        let moderator = rights.moderator
        let truth = try CaptureTruth(capture: Checkout.fixtures.appending(path: "vp8-lipsync.pcap"))
        func sdp(_ kind: String) throws -> String { try #require(truth.streams.first { $0.kind == kind }).sdp.replacing(/m=([a-z]+) \d+/) { "m=\($0.1) 0" } }
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: moderator).id
        var people: [Principal] = []
        for name in ["Anna", "Carla"] { people.append(try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: name), to: meeting, as: moderator).token)) }
        let streams = try [MediaKind.video, .audio].flatMap { kind in try people.map { StreamRequest(participants: [$0.participant!], kind: kind, sdp: try sdp(kind.rawValue)) } }
        let recording = try await recorder.createRecording(RecordingRequest(pipeline: "meeting", streams: streams), in: meeting, as: moderator).id
        for person in people {
            let notice = try await recorder.notice(for: recording, language: .de, as: person)
            _ = try await recorder.decide(ConsentRequest(decision: .given, modalities: [.audio, .video], notice: notice.hash), on: recording, as: person)
        }
        return (recording, [try #require(TrackID(rawValue: try await rights.track(recording, 0))), try #require(TrackID(rawValue: try await rights.track(recording, 1)))], people)
    }

    /// Sets chunks aside, with real keys and files, of Anna alone and of both.
    private func setAside(_ recording: RecordingID, _ tracks: [TrackID], _ change: (inout LiveChunks.Chunk) -> Void = { _ in }) async throws -> [LiveChunks.Chunk] {
        let (preparation, _) = try await recorder.prepareLive(recording)
        preparation.closeDescriptors()
        let run = LiveRun(recording)
        #expect(run.expect(preparation.outputs, labels: preparation.labels))
        for (place, made) in [LiveChunk(ticks: 0..<250, tracks: [tracks[0]]), LiveChunk(ticks: 250..<500, tracks: Set(tracks))].enumerated() {
            let room = try #require(try await recorder.room(for: run))
            try Data("chunk \(place)".utf8).write(to: URL(filePath: room.path))
            let parameters = try #require(preparation.order.composite?.parameters)
            var chunk = try #require(run.fill(made, WallTime(seconds: 100), parameters))
            change(&chunk)
            #expect(recorder.liveRenditions.chunks.append(chunk, of: recording).isEmpty)
        }
        await recorder.discard(run.over())
        return recorder.liveRenditions.chunks.of(recording)
    }

    /// Which of them can still be opened, and of which a file is there: both, or neither.
    private func there(_ chunks: [LiveChunks.Chunk]) async throws -> [Int] {
        var left: [Int] = []
        for (place, chunk) in chunks.enumerated() {
            let isFile = FileManager.default.fileExists(atPath: chunk.output.temporary.path)
            let key = try? await recorder.keys.key(chunk.context.object)  // missing once it is destroyed
            #expect(isFile == (key != nil), "\(place)")
            if isFile { left.append(place) }
        }
        return left
    }

    private func kept(_ recording: RecordingID) async throws -> [LiveChunk] {
        let (preparation, purpose) = try await recorder.prepareLive(recording)
        preparation.closeDescriptors()
        await recorder.discard(preparation.outputs.values.flatMap(\.self))
        return try await recorder.keptChunks(recording, preparation, purpose).map(\.made.chunk)
    }

    @Test("a withdrawal with erasure destroys what its giver is in, and no more, before it is answered; the next rendering gets what is left")
    func withdrawn() async throws {
        let (recording, tracks, people) = try await begun()
        let chunks = try await setAside(recording, tracks)
        #expect(try await there(chunks) == [0, 1])
        #expect(try await kept(recording) == chunks.map(\.made))
        let notice = try await recorder.notice(for: recording, language: .de, as: people[1])
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn, notice: notice.hash, erase: true), on: recording, as: people[1])
        #expect(try await there(chunks) == [0])
        #expect(try await kept(recording) == [chunks[0].made])
        // The first one's takes everything.
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn, notice: notice.hash, erase: true), on: recording, as: people[0])
        #expect(try await there(chunks) == [])
        await recorder.shutDown()
    }

    @Test("nothing set aside outlives its recording's end", arguments: ["stop", "erase", "shut down"])
    func ended(how: String) async throws {
        let (recording, tracks, _) = try await begun()
        let chunks = try await setAside(recording, tracks)
        switch how {
        case "stop": try await recorder.stop(recording, "moderator")
        case "erase": try await recorder.erase(recording, trigger: "request", actor: "moderator")
        default:
            await recorder.dropLive(recording)
            #expect(try await there(chunks) == [])
            #expect(recorder.session(of: recording) != nil)
        }
        #expect(try await there(chunks) == [])
        #expect(recorder.liveRenditions.recordings.isEmpty)
        await recorder.shutDown()
    }

    @Test("pictures under another name, with other parameters, from another beginning, or of somebody whose consent does not reach that far are made anew, and removed")
    func changed() async throws {
        let (recording, tracks, people) = try await begun()
        for (change, left) in [({ $0.labels[tracks[1]] = "Carola" }, [0]), ({ $0.labels = [:] }, []), ({ $0.parameters.width += 2 }, []),
                               ({ if $0.made.ticks.lowerBound > 0 { $0.made.tracks.insert(.random()) } }, [0])] as [((inout LiveChunks.Chunk) -> Void, [Int])] {
            let chunks = try await setAside(recording, tracks, change)
            #expect(try await kept(recording) == left.map { chunks[$0].made })
            #expect(try await there(chunks) == left)
            await recorder.dropLive(recording)
        }
        let chunks = try await setAside(recording, tracks)
        // What was recorded of Carla stays, and is not used.
        let notice = try await recorder.notice(for: recording, language: .de, as: people[1])
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn, notice: notice.hash, erase: false), on: recording, as: people[1])
        #expect(try await kept(recording) == [chunks[0].made])
        #expect(try await there(chunks) == [0])
        await recorder.shutDown()
    }
}
