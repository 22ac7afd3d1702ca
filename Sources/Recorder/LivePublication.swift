import Catalog
import Depacketize
import JobQueue
import Logging
import Media
import Renditions
import SealedFile

extension StageWork {
    /// Enters what was made of a job while the recording ran, under the same lease, consent and expiry as any result. False where there is
    /// nothing, or where what went in is not what would go in now: then the job does the work.
    func publishLive(_ payload: StagePayload, _ job: Job, _ attempt: JobRun) async throws -> Bool {
        guard let run = recorder.liveRenditions.run(of: payload.recording), let made = await run.take(payload.job.name, progress: { attempt.progress($0) }) else { return false }
        var preparation = StagePreparation(order: StageOrder(stage: payload.job.kind, parameters: payload.job.parameters, inputs: [], outputs: [], span: nil))
        preparation.outputs = made.outputs
        do {
            try Task.checkCancellation()
            if payload.job.track == nil {
                let now = try await prepare(payload, job.lease, made: made.outputs)
                now.closeDescriptors()
                guard Self.agree(now, made, run) else {
                    await discard(now)
                    return false
                }
                preparation = now
            }
            // Once begun it is not broken off: a task that is cancelled in between could undo half of it only.
            try await Task.detached { [self, preparation] in try await publish(made.result, preparation, payload, job, isMadeLive: true) }.value
            recorder.logger.info("a stage's result was made while it ran", metadata: ["recording": "\(payload.recording)", "stage": "\(payload.job.kind.rawValue)"])
            return true
        } catch {
            await Task.detached { [self, preparation] in await discard(preparation) }.value
            throw error
        }
    }

    /// Whether a rendition that was made while the recording ran has in it what it would have if it were made now: the same tracks, and in
    /// a picture under the same names and beside the mix that was made with it.
    private static func agree(_ now: StagePreparation, _ made: LiveRun.Made, _ run: LiveRun) -> Bool {
        var tracks: Set<TrackID> = []
        for input in now.order.inputs {
            switch input.content {
            case .track(let context, _):
                guard let track = TrackID(rawValue: String(context.object.dropFirst("track:".count))), now.order.stage != .compose || run.label(of: track) == input.label ?? "" else { return false }
                tracks.insert(track)
            case .rendition(let context, _): guard run.hasMade(context.object) else { return false }
            case .packetLog, .file: return false
            }
        }
        return tracks == made.tracks
    }
}
