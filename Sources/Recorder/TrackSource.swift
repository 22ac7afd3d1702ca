import Catalog
import Media
import Renditions

/// A track that goes into a rendition.
struct TrackSource {
    var id: TrackID
    var bytes: Int64
    var summary: TrackSummary
    var people: [String]
    var label: String

    func source(isLabelled: Bool) -> Ingredients.Source {
        .track(id: id, bytes: bytes, summary: summary, people: people.sorted(), label: isLabelled ? label : nil)
    }
}

extension StageWork {
    /// The tracks of these kinds, kind by kind, in the order of the recording's streams.
    static func sources(_ usable: [(stream: StreamRecord, participants: [String])], _ kinds: [MediaKind], _ names: [String: String?]) -> [TrackSource] {
        kinds.flatMap { kind in
            usable.compactMap { stream, people in
                guard stream.kind == kind.rawValue, let track = TrackID(rawValue: stream.track), let summary: TrackSummary = Recorder.decoded(stream.summary) else { return nil }
                return TrackSource(id: track, bytes: stream.bytes ?? 0, summary: summary, people: people, label: people.compactMap { names[$0] ?? nil }.joined(separator: ", "))
            }
        }
    }
}
