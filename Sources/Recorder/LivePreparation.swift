import Catalog
import Depacketize
import Foundation
import Glibc
import Media
import PacketLog
import Renditions
import SealedFile

/// The order for a live stage: the recording's tracks, and of its pipeline what can be made while it runs.
struct LivePreparation {
    let recording: RecordingID
    private let configuration: RecorderConfiguration
    private(set) var order = LiveOrder(tracks: [], mix: nil, composite: nil, soundOfComposite: nil)
    private(set) var descriptors: [Int32] = []
    private(set) var tracks: [(TrackID, StreamID)] = []
    /// By the job that they are the outputs of.
    private(set) var outputs: [String: [StagePreparation.Output]] = [:]
    private(set) var labels: [TrackID: String] = [:]

    init(_ recording: RecordingID, _ configuration: RecorderConfiguration) { (self.recording, self.configuration) = (recording, configuration) }

    func closeDescriptors() { for descriptor in descriptors { close(descriptor) } }

    mutating func add(_ track: TrackID, _ stream: StreamID, _ kind: MediaKind, _ format: TrackFormat, _ key: DataKey, label: String?) throws {
        guard order.tracks.count < LiveOrder.tracksMax else { throw LiveFeeder.GivenUp(description: "more than \(LiveOrder.tracksMax) streams") }
        let place = try open(id: track.rawValue, name: "track", keyID: nil, job: track.rawValue)
        let output = StageOutput(descriptor: place, key: key, context: StageWork.trackContext(recording, track, kind), container: .matroska)
        order.tracks.append(.init(job: track.rawValue, identity: TrackLogIdentity(recording: recording, track: track, kind: kind), format: format, key: key, label: label, output: output))
        tracks.append((track, stream))
        labels[track] = label ?? ""
    }

    /// Time 0 of the pictures that are there already.
    mutating func begin(at origin: WallTime?) { order.origin = origin }

    /// A mix of all sound with its peaks, and a picture beside it: one of each. Whatever else the pipeline has is made by its jobs.
    mutating func plan(_ pipeline: Pipeline, key: (RenditionID) async throws -> DataKey) async throws {
        let plan = Plan(pipeline, tracks: order.tracks.map { PlannedTrack(id: $0.identity.track, kind: $0.identity.kind) })
        for (place, track) in order.tracks.enumerated() {
            guard let job = plan.jobs.first(where: { $0.kind == .depacketize && $0.track == track.identity.track }) else { continue }
            order.tracks[place].job = job.name
            outputs[job.name] = outputs.removeValue(forKey: track.job)
        }
        func isSound(_ input: Pipeline.Input) -> Bool { if case .tracks(_, .audio) = input { true } else { false } }
        guard let mix = plan.jobs.first(where: { $0.kind == .mix && $0.inputs.allSatisfy(isSound) }) else { return }
        order.mix = try await rendition(mix, key)
        func isOfMix(_ input: Pipeline.Input) -> Bool { if case .output(mix.stageName, _) = input { true } else { false } }
        if let waveform = plan.jobs.first(where: { $0.kind == .waveform && $0.inputs.allSatisfy(isOfMix) }) { order.waveform = try await rendition(waveform, key) }
        guard let compose = plan.jobs.first(where: { $0.kind == .compose && $0.outputs.count == 1 }) else { return }
        for input in compose.inputs {
            guard case .output(mix.stageName, let name) = input else { continue }
            order.soundOfComposite = mix.outputs.firstIndex { $0.name == name && $0.container == .mp4 }
            guard order.soundOfComposite != nil else { return }
        }
        order.composite = try await rendition(compose, key)
    }

    private mutating func rendition(_ job: PlannedJob, _ key: (RenditionID) async throws -> DataKey) async throws -> LiveOrder.Rendition {
        var made = LiveOrder.Rendition(job: job.name, parameters: job.parameters, outputs: [])
        for output in job.outputs {
            let id = RenditionID.random()
            let own = try await key(id)
            let place = try open(id: id.rawValue, name: output.name, keyID: KeyStore.rendition(id), job: job.name)
            made.outputs.append(StageOutput(descriptor: place, key: own, context: SealedContext(recording: recording, object: KeyStore.rendition(id), modality: job.kind.renditionKind, part: output.name),
                                            container: output.container))
        }
        return made
    }

    private mutating func open(id: String, name: String, keyID: String?, job: String) throws -> Int {
        let file = configuration.temporary.appending(path: "live.\(RenditionID.random()).\(name)")
        let descriptor = Glibc.open(file.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw RecorderError(.storage, "a file of the recording cannot be opened: \(String(cString: strerror(errno)))") }
        descriptors.append(descriptor)
        outputs[job, default: []].append(StagePreparation.Output(id: id, temporary: file, final: configuration.artifact(recording.rawValue, id), name: name, keyID: keyID))
        return descriptors.count - 1
    }
}
