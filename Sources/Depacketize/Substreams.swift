import RTP

/// The SSRCs of a track that are followed at the same time, few enough to be looked through; each keeps its place until it is forgotten.
struct Substreams: Sendable {
    private(set) var ssrcs: [SSRC] = []
    private var all: [Substream] = []

    var count: Int { all.count }
    var places: Range<Int> { all.indices }

    func place(of ssrc: SSRC) -> Int? {
        for place in ssrcs.indices where ssrcs[place] == ssrc { return place }
        return nil
    }

    subscript(place: Int) -> Substream {
        _read { yield all[place] }
        _modify { yield &all[place] }
    }

    /// Begins with `substream` at a place of its own.
    mutating func append(_ ssrc: SSRC, _ substream: Substream) -> Int {
        ssrcs.append(ssrc)
        all.append(substream)
        return all.count - 1
    }

    /// Forgets who was at `place`, for somebody else.
    mutating func replace(at place: Int, _ ssrc: SSRC, _ substream: Substream) {
        ssrcs[place] = ssrc
        all[place] = substream
    }

    /// Whether a packet of any of them waits.
    var areWaiting: Bool {
        for place in all.indices where all[place].buffer.firstArrival != nil { return true }
        return false
    }

    /// The places, those first that were silent longest.
    var byLastRecord: [Int] { places.sorted { (all[$0].lastRecord, ssrcs[$0].rawValue) < (all[$1].lastRecord, ssrcs[$1].rawValue) } }

    /// The places whose packets wait, by how long.
    var byFirstArrival: [Int] {
        places.compactMap { place in all[place].buffer.firstArrival.map { (arrival: $0, place: place) } }
            .sorted { ($0.arrival, ssrcs[$0.place].rawValue) < ($1.arrival, ssrcs[$1.place].rawValue) }.map(\.place)
    }
}
