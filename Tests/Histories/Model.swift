import Consent
import Media

/// What CONSENT.md says a recorder must have, must not have and may have, in the smallest form: no file, no key, no database, no clock.
///
/// Times are nanoseconds since 1970. A mark stands for one packet: each is unique, and its payload holds it.
struct Model: Sendable {
    typealias Mark = UInt64

    struct Yes: Hashable, Sendable {
        var modalities: Set<Modality>
        var purposes: Set<Purpose>
    }

    struct Stream: Sendable {
        /// Who is in it now, and when they were asked: only a yes from after that opens it.
        var present: [Int: Int64]
        /// Who ever was in it, and who was while it could pass: they are in what is recorded.
        var everIn: Set<Int>
        var recorded: Set<Int> = []
        var modality: Modality
        /// Delivered, and not written yet: a kill loses them.
        var unwritten: [Mark] = []
        /// Written since the last sync: a power cut may lose them.
        var unsynced: Set<Mark> = []
        var must: Set<Mark> = []
        /// Lost or not: either is right.
        var may: Set<Mark> = []
        /// What was recorded of it is destroyed.
        var isErased = false
        /// Since when it passes, and whether what had arrived before may still be delivered.
        var openSince: Int64?
        var hasBacklog = false

        init(people: Set<Int>, modality: Modality) {
            (everIn, self.modality) = (people, modality)
            present = Dictionary(uniqueKeysWithValues: people.map { ($0, Int64.min) })
        }

        /// Whose it is: where nobody is in what was recorded, nothing of anybody else goes with it.
        var people: Set<Int> { recorded.isEmpty ? everIn : recorded }
    }

    enum Phase: Sendable { case running, paused, stopped, gone }

    struct Recording: Sendable {
        var streams: [Stream]
        var end: Int64
        var phase = Phase.running
        var yes: [Int: Yes] = [:]
        var yesAt: [Int: Int64] = [:]
        /// Who ever said no: no backup brings their yes back.
        var everNo: Set<Int> = []
        /// Who asked that what was recorded of them be destroyed.
        var asked: Set<Int> = []
        var isReleased = false
        var heldUntil: Int64?
        var heldBy = ""
        /// Whoever holds it is in it themself.
        var isHeldByOwn = false
        var everHeldBy: Set<String> = []

        func isHeld(_ now: Int64) -> Bool { phase != .gone && heldUntil.map { $0 > now } ?? false }

        /// Section 2: unreadable from its date on. Section "States": what is restricted is kept beyond it.
        func isOver(_ now: Int64) -> Bool { phase == .gone || (!isHeld(now) && end <= now) }

        /// Section 1, "The gate": a mixed stream needs everyone's consent to its modality, for whatever purpose.
        func passes(_ stream: Stream, _ now: Int64) -> Bool {
            phase == .running && !isHeld(now) && end > now && isAllowed(stream)
        }

        /// Somebody is there, and everybody who is has said yes since they were asked.
        private func isAllowed(_ stream: Stream) -> Bool {
            !stream.present.isEmpty && stream.present.allSatisfy { person, asked in
                yes[person].map { $0.modalities.contains(stream.modality) && !$0.purposes.isEmpty } ?? false && yesAt[person, default: .min] > asked
            }
        }

        /// Section 1: who joins a stream that others are in is asked; reconnecting and changing rooms inherit nothing.
        mutating func join(_ person: Int, _ stream: Int, _ now: Int64) {
            let wasHere = streams.contains { $0.everIn.contains(person) }
            streams[stream].present[person] = wasHere ? now : .min
            streams[stream].everIn.insert(person)
            streams[stream].openSince = nil
        }

        /// After every decision, coming and going: who is in what can be recorded from now on.
        mutating func enter() {
            guard [.running, .paused].contains(phase) else { return }
            for place in streams.indices where isAllowed(streams[place]) {
                let more = Set(streams[place].present.keys).subtracting(streams[place].recorded)
                streams[place].recorded.formUnion(more)
                if !more.isDisjoint(with: asked) { streams[place].loosen() }
            }
        }

        func shares(_ person: Int, _ modality: Modality) -> Bool { yes[person].map { $0.modalities.contains(modality) && $0.purposes.contains(.shareWithParticipants) } ?? false }
        func isShared(_ stream: Stream) -> Bool { !stream.recorded.isEmpty && stream.recorded.allSatisfy { shares($0, stream.modality) } }
        func sharesAnything(_ person: Int) -> Bool { Modality.allCases.contains { shares(person, $0) } }

        /// Section 1, "Withdrawal": what was recorded of who asked is destroyed, once nothing is recorded and nothing holds it.
        mutating func carryOut(_ now: Int64) {
            guard phase == .stopped, !isHeld(now) else { return }
            for place in streams.indices where !streams[place].people.isDisjoint(with: asked) { streams[place].destroy() }
        }

        mutating func end(_ now: Int64) {
            phase = .gone
            heldUntil = nil
            for place in streams.indices { streams[place].destroy() }
        }

        /// What a kill leaves; `isTorn`: a power cut.
        mutating func crash(isTorn: Bool) {
            for place in streams.indices {
                streams[place].may.formUnion(streams[place].unwritten)
                streams[place].unwritten = []
                guard isTorn else { continue }
                streams[place].may.formUnion(streams[place].unsynced)
                streams[place].must.subtract(streams[place].unsynced)
                streams[place].unsynced = []
            }
        }
    }

    var minors: [Bool] = []
    var names: [String] = []
    var recordings: [Recording] = []

    /// Housekeeping: what waited for the end of a restriction is done, what is past its date ends.
    mutating func settle(_ now: Int64) {
        for place in recordings.indices where recordings[place].phase != .gone {
            if recordings[place].isOver(now) { recordings[place].end(now) } else { recordings[place].carryOut(now) }
        }
        noteGates(now)
    }

    /// Remembers when a stream began to pass. `isNew`: every gate was closed in between.
    mutating func noteGates(_ now: Int64, isNew: Bool = false) {
        for place in recordings.indices {
            for stream in recordings[place].streams.indices {
                let passes = recordings[place].passes(recordings[place].streams[stream], now)
                if !passes || isNew { recordings[place].streams[stream].openSince = nil }
                guard passes, recordings[place].streams[stream].openSince == nil else { continue }
                recordings[place].streams[stream].openSince = now
                recordings[place].streams[stream].hasBacklog = true
            }
        }
    }

    /// A packet that arrived at `arrival` is looked at now. Section 1: what came before the consent does not pass.
    mutating func deliver(_ mark: Mark, _ recording: Int, _ stream: Int, arrival: Int64, _ now: Int64) -> Bool {
        let found = recordings[recording].streams[stream]
        guard recordings[recording].passes(found, now), let since = found.openSince, !found.hasBacklog || arrival >= since else { return false }
        // After a yes in a recording that still runs to what was withdrawn with erasure: when it goes is the recorder's choice.
        if found.recorded.isDisjoint(with: recordings[recording].asked) {
            recordings[recording].streams[stream].unwritten.append(mark)
        } else {
            recordings[recording].streams[stream].may.insert(mark)
        }
        return true
    }

    mutating func write(_ recording: Int, isSynced: Bool) {
        for place in recordings[recording].streams.indices { recordings[recording].streams[place].write(isSynced: isSynced) }
    }

    /// Section 2: restoring must not resurrect. `self` is how things stand, `backup` how they stood.
    func restored(_ backup: Model, at time: Int64) -> Model {
        var restored = backup
        for place in restored.recordings.indices {
            let now = recordings[place]
            let before = restored.recordings[place]
            // Restricted or lifted since: the ledger tells that, and by whom only where it was the person's own.
            if (now.heldUntil, now.heldBy) != (before.heldUntil, before.heldBy) {
                restored.recordings[place].heldUntil = now.heldUntil
                if now.isHeld(time) {
                    (restored.recordings[place].heldBy, restored.recordings[place].isHeldByOwn) = (now.isHeldByOwn ? now.heldBy : "restore", now.isHeldByOwn)
                    restored.recordings[place].everHeldBy.insert(restored.recordings[place].heldBy)
                }
            }
            if now.phase == .gone { restored.recordings[place].end(0) } else if restored.recordings[place].phase != .gone { restored.recordings[place].phase = .stopped }
            for person in now.everNo { restored.recordings[place].yes[person] = nil }
            restored.recordings[place].everNo = now.everNo
            restored.recordings[place].asked = now.asked
            for stream in restored.recordings[place].streams.indices {
                restored.recordings[place].streams[stream].unwritten = []
                restored.recordings[place].streams[stream].unsynced = []
                if now.streams[stream].isErased { restored.recordings[place].streams[stream].destroy() }
            }
        }
        return restored
    }
}

extension Model.Stream {
    mutating func destroy() {
        isErased = true
        (unwritten, unsynced, must, may) = ([], [], [], [])
    }

    mutating func write(isSynced: Bool) {
        must.formUnion(unwritten)
        unsynced = isSynced ? [] : unsynced.union(unwritten)
        unwritten = []
    }

    /// Withdrawn with erasure while it runs: it may be destroyed at once, or with the stop.
    mutating func loosen() {
        may.formUnion(must)
        may.formUnion(unwritten)
        (unwritten, unsynced, must) = ([], [], [])
    }
}
