import Catalog
import Consent
import Foundation
import Media
import Renditions
import SealedFile
import Synchronization

/// What has been set aside of the pictures of recordings that run, so that a rendering that begins anew does not make again what did not change.
///
/// Only in memory: a restart leaves none of them, since files and keys of live renderings go with it. Of each recording they follow one upon
/// the other from the first picture on.
final class LiveChunks: Sendable {
    struct Chunk: Sendable {
        var made: LiveChunk
        var origin: WallTime
        /// The name that each of its tracks had.
        var labels: [TrackID: String]
        var parameters: StageParameters
        var output: StagePreparation.Output
        var context: SealedContext
    }

    private let chunks = Mutex<[RecordingID: [Chunk]]>([:])

    var recordings: [RecordingID] { chunks.withLock { Array($0.keys) } }

    /// Adds one behind the others. Gives back those whose place it takes, or it itself where it follows none.
    func append(_ chunk: Chunk, of recording: RecordingID) -> [Chunk] {
        chunks.withLock { all in
            var those = all[recording] ?? []
            let kept = those.prefix { $0.made.ticks.upperBound <= chunk.made.ticks.lowerBound && $0.origin == chunk.origin }.count
            let replaced = those.dropFirst(kept)
            those.removeLast(replaced.count)
            let follows = chunk.made.ticks.lowerBound == those.last?.made.ticks.upperBound ?? 0 && those.count < LiveChunk.most
            if follows { those.append(chunk) }
            all[recording] = those.isEmpty ? nil : those
            return replaced + (follows ? [] : [chunk])
        }
    }

    /// Those up to the first for which `isWanted` does not hold stay; gives back the others.
    func keep(_ recording: RecordingID, while isWanted: (Chunk) -> Bool) -> [Chunk] {
        chunks.withLock { all in
            let those = all[recording] ?? []
            let kept = those.prefix(while: isWanted)
            all[recording] = kept.isEmpty ? nil : Array(kept)
            return Array(those.dropFirst(kept.count))
        }
    }

    func of(_ recording: RecordingID) -> [Chunk] { chunks.withLock { $0[recording] ?? [] } }
}

extension Recorder {
    /// Removes what was set aside of a recording, keys first, from the first chunk on for which `isWanted` does not hold.
    func discardChunks(of recording: RecordingID, while isWanted: (LiveChunks.Chunk) -> Bool = { _ in false }) async {
        let gone = liveRenditions.chunks.keep(recording, while: isWanted)
        if !gone.isEmpty { await discard(gone.map(\.output)) }
    }

    /// The chunks of an earlier rendering that are what this one would make: of nobody but those who go into it now, under the same names.
    func keptChunks(_ recording: RecordingID, _ preparation: LivePreparation, _ purpose: Purpose) async throws -> [(made: KeptChunk, origin: WallTime, path: String)] {
        let usable = try await usableTracks(of: recording, for: purpose)
        let first = liveRenditions.chunks.of(recording).first
        await discardChunks(of: recording) { chunk in
            chunk.parameters == preparation.order.composite?.parameters && chunk.origin == first?.origin
                && chunk.made.tracks.allSatisfy { usable.contains($0) && preparation.labels[$0] != nil && preparation.labels[$0] == chunk.labels[$0] }
        }
        var kept: [(made: KeptChunk, origin: WallTime, path: String)] = []
        for chunk in liveRenditions.chunks.of(recording) {
            let key = try await keys.key(chunk.context.object)
            kept.append((KeptChunk(chunk: chunk.made, key: key, context: chunk.context), chunk.origin, chunk.output.temporary.path))
        }
        return kept
    }

    /// An empty file for the next chunk of a run; nil where it is not to have any more.
    func room(for run: LiveRun) async throws -> (feed: LiveFeed, path: String)? {
        guard run.wantsRoom else { return nil }
        let id = RenditionID.random()
        let context = SealedContext(recording: run.recording, object: KeyStore.rendition(id), modality: StageKind.compose.renditionKind, part: "chunk")
        let output = StagePreparation.Output(id: id.rawValue, temporary: configuration.temporary.appending(path: "live.\(RenditionID.random()).chunk"),
                                             final: configuration.artifact(run.recording.rawValue, id.rawValue), name: "chunk", keyID: KeyStore.rendition(id))
        let key = try await keys.create(rendition: id, of: run.recording, now: clock.now)
        guard run.add(room: output, context) else {
            await discard([output])
            return nil
        }
        return (.room(StageOutput(descriptor: 0, key: key, context: context, container: .mp4)), output.temporary.path)
    }

    /// A run's child has filled a room.
    func keep(_ chunk: LiveChunk, origin: WallTime, _ parameters: StageParameters?, _ run: LiveRun) {
        guard let parameters, let filled = run.fill(chunk, origin, parameters) else { return }
        run.leave(liveRenditions.chunks.append(filled, of: run.recording).map(\.output))
    }
}
