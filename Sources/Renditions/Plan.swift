import Media

/// A pipeline compiled for one recording: the jobs to enqueue, each after those it depends on.
public struct Plan: Hashable, Sendable {
    public var jobs: [PlannedJob]
    /// Stages left out, with the reason in words.
    public var skipped: [Skipped]

    public struct Skipped: Hashable, Sendable {
        public var stage: String
        public var reason: String
    }

    /// Compiles `pipeline` for the tracks of a recording.
    ///
    /// A stage without anything to read (no picture: no composite) is left out, and so is what reads only from it. Tracks that were
    /// depacketized before are not touched again. `seconds`: the recording's length, by which pictures are divided into parts.
    public init(_ pipeline: Pipeline, tracks: [PlannedTrack], seconds: Double = 0) {
        jobs = []
        skipped = []
        for stage in pipeline.stages {
            if stage.kind == .depacketize {
                jobs += tracks.filter { !$0.isDepacketized }.map { PlannedJob(stage: stage, track: $0.id, dependencies: []) }
                if tracks.isEmpty { skipped.append(Skipped(stage: stage.name, reason: "nothing was recorded")) }
                continue
            }
            // All tracks, not only those of the kind that is read: together they say from when to when the recording runs, and every
            // rendition must cover the same time.
            let dependencies = jobs.filter { job in stage.inputs.contains { $0.stage == job.stageName } }
            let purpose = pipeline.purpose(of: stage)
            guard stage.condition.has.isEmpty || tracks.contains(where: { stage.condition.has.contains($0.kind) && $0.purposes.contains(purpose) }) else {
                skipped.append(Skipped(stage: stage.name, reason: Self.unmet(stage.condition, tracks, purpose)))
                continue
            }
            let wanted = stage.inputs.contains { input in
                switch input {
                // A composite needs a picture: the sound alone is what the mix already is.
                case .tracks(_, let kind): (stage.kind != .compose || kind != .audio) && tracks.contains { $0.kind == kind && $0.purposes.contains(purpose) }
                case .output(let name, _), .parts(let name, _, _, _): stage.kind != .compose && jobs.contains { $0.stageName == name }
                }
            }
            guard wanted else {
                skipped.append(Skipped(stage: stage.name, reason: Self.reason(stage, tracks, purpose)))
                continue
            }
            var whole = PlannedJob(stage: stage, track: nil, dependencies: dependencies.map(\.name))
            let parts = Self.parts(of: stage, seconds: seconds, after: dependencies)
            if let output = stage.outputs.first, !parts.isEmpty {
                jobs += parts
                let kinds = stage.inputs.compactMap(\.pictureKind)
                whole.inputs = [.parts(stage: stage.name, output: output.name, kinds: kinds, count: parts.count)] + whole.inputs.filter { if case .output = $0 { true } else { false } }
                whole.dependencies += parts.map(\.name)
            }
            jobs.append(whole)
        }
    }

    /// A long picture's parts; none for a short one.
    private static func parts(of stage: Pipeline.Stage, seconds: Double, after dependencies: [PlannedJob]) -> [PlannedJob] {
        guard stage.kind == .compose, let length = stage.parameters.partSeconds, let output = stage.outputs.first else { return [] }
        let count = StagePart.count(seconds: seconds, length: length)
        guard count > 1 else { return [] }
        // The mix is not waited for: it is joined at the end.
        let tracks = dependencies.filter { $0.kind == .depacketize }.map(\.name)
        return (0..<count).map { index in
            var part = PlannedJob(stage: stage, track: nil, dependencies: tracks)
            part.name = "\(stage.name)/part-\(index + 1)"
            part.kind = .composePart
            part.part = StagePart(index: index, count: count)
            part.inputs = stage.inputs.filter { $0.pictureKind != nil }
            part.outputs = [Pipeline.Output(name: part.part?.output(of: output.name) ?? output.name, container: .mp4)]
            return part
        }
    }

    private static func unmet(_ condition: Pipeline.Condition, _ tracks: [PlannedTrack], _ purpose: Purpose) -> String {
        let kinds = MediaKind.allCases.filter(condition.has.contains).map(\.rawValue).joined(separator: " or ")
        let isThere = tracks.contains { condition.has.contains($0.kind) }
        return isThere ? "when: nobody's \(kinds) is allowed for \(purpose.rawValue)" : "when: there is no \(kinds)"
    }

    private static func reason(_ stage: Pipeline.Stage, _ tracks: [PlannedTrack], _ purpose: Purpose) -> String {
        if !tracks.isEmpty, !tracks.contains(where: { $0.purposes.contains(purpose) }) { return "nobody allows this purpose" }
        return stage.kind == .compose ? "no picture was recorded" : "there is nothing for it to read"
    }
}

/// A track as the planner sees it.
public struct PlannedTrack: Hashable, Sendable {
    public var id: TrackID
    public var kind: MediaKind
    /// Its Matroska is there already, from an earlier run.
    public var isDepacketized: Bool
    /// What everybody in it allows it to be used for; what is allowed for nothing is only depacketized, for the person's own copy.
    public var purposes: Set<Purpose>
    public init(id: TrackID, kind: MediaKind, isDepacketized: Bool = false, purposes: Set<Purpose> = Set(Purpose.allCases)) {
        self.id = id
        self.kind = kind
        self.isDepacketized = isDepacketized
        self.purposes = purposes
    }
}

/// One job of a plan; kept as the payload of the queue's job, so that a later change of the file never changes a running pipeline.
public struct PlannedJob: Hashable, Codable, Sendable {
    /// Unique within the plan: the stage's name, with the track for a stage that runs per track.
    public var name: String
    public var stageName: String
    public var kind: StageKind
    public var track: TrackID?
    public var inputs: [Pipeline.Input]
    public var outputs: [Pipeline.Output]
    public var parameters: StageParameters
    /// Names of the jobs that must be done before.
    public var dependencies: [String]
    /// Which part of a picture it makes.
    public var part: StagePart?

    /// It puts parts together.
    public var isInParts: Bool { inputs.contains { if case .parts = $0 { true } else { false } } }

    init(stage: Pipeline.Stage, track: TrackID?, dependencies: [String]) {
        name = track.map { "\(stage.name)/\($0)" } ?? stage.name
        stageName = stage.name
        kind = stage.kind
        self.track = track
        inputs = stage.inputs
        outputs = stage.outputs
        parameters = stage.parameters
        self.dependencies = dependencies
    }
}

extension StagePart {
    /// What a part's output is called, beside those of the stage itself: no pipeline file can name it so.
    public func output(of whole: String) -> String { "\(whole)#\(index + 1)" }
}

extension Pipeline.Input {
    /// The kind of tracks that give pictures to a grid.
    var pictureKind: MediaKind? {
        guard case .tracks(_, let kind) = self, kind != .audio else { return nil }
        return kind
    }
}
