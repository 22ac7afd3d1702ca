import Media

/// Why an event cannot become part of a recording's history.
public enum ConsentError: Error, Hashable, Sendable {
    /// Nobody can give consent for another person; a refusal or a withdrawal they can.
    case givenByAnother
    /// A declared minor's consent needs their guardian.
    case guardianNeeded
    /// The notice that was shown is not the one in force.
    case noticeChanged
    case brokenChain(sequence: Int)
    case otherRecording
    /// Consent needs at least one modality and one purpose.
    case empty
    /// Publication is asked in a later act of its own, never with the recording.
    case publicationNotAsked
}

/// What everybody in one recording allows: a fold over its events. Whatever no event allows is refused.
public struct ConsentState: Hashable, Sendable {
    /// One person's last word.
    public struct Decision: Hashable, Sendable {
        public var kind: ConsentEvent.Kind
        public var modalities: Set<Modality>
        public var purposes: Set<Purpose>
        public var at: WallTime
        public var expiresAt: WallTime
        /// SHA-256 of the text that was shown; empty where nothing is allowed.
        public var noticeHash: String
    }

    public let recording: RecordingID
    /// Declared minors: their own click is not enough.
    public let minors: Set<ParticipantID>
    public private(set) var decisions: [ParticipantID: Decision] = [:]
    public private(set) var count = 0
    public private(set) var lastHash = ""

    public init(recording: RecordingID, minors: Set<ParticipantID> = []) {
        self.recording = recording
        self.minors = minors
    }

    /// Takes the next event of the chain.
    public mutating func apply(_ event: ConsentEvent) throws(ConsentError) {
        guard event.recording == recording else { throw .otherRecording }
        guard event.sequence == count + 1, event.previousHash == lastHash else { throw .brokenChain(sequence: event.sequence) }
        if event.kind == .given || event.kind == .reconfirmed {
            // A guardian speaks for a declared minor only: for an adult they are somebody else.
            let isMinor = minors.contains(event.participant)
            guard event.isOwnAct || (isMinor && event.isGuardian), event.method != .onBehalf else { throw .givenByAnother }
            guard !isMinor || event.isGuardian else { throw .guardianNeeded }
            guard !event.modalities.isEmpty, !event.purposes.isEmpty else { throw .empty }
            guard !event.noticeHash.isEmpty else { throw .noticeChanged }
            guard !event.purposes.contains(.publication) else { throw .publicationNotAsked }
        }
        count += 1
        lastHash = event.hash()
        guard event.kind != .requested else { return }
        let allows = event.kind == .given || event.kind == .reconfirmed
        decisions[event.participant] = Decision(kind: event.kind, modalities: allows ? Set(event.modalities) : [], purposes: allows ? Set(event.purposes) : [],
                                                at: event.occurredAt, expiresAt: event.expiresAt, noticeHash: allows ? event.noticeHash : "")
    }

    /// Whether this person allows this use now.
    public func allows(_ participant: ParticipantID, _ modality: Modality, _ purpose: Purpose, at now: WallTime) -> Bool {
        guard let decision = decisions[participant], decision.expiresAt > now else { return false }
        return decision.modalities.contains(modality) && decision.purposes.contains(purpose)
    }

    /// Whether a stream with these people in it may pass the gate: everybody in a mix must have said yes.
    public func mayRecord(_ participants: [ParticipantID], _ modality: Modality, at now: WallTime) -> Bool {
        !participants.isEmpty && participants.allSatisfy { mayRecord($0, modality, askedAt: nil, at: now) }
    }

    /// The same of one person; `askedAt`: a yes from before it, given for another presence, does not count.
    public func mayRecord(_ participant: ParticipantID, _ modality: Modality, askedAt: WallTime?, at now: WallTime) -> Bool {
        guard let decision = decisions[participant], decision.at > askedAt ?? WallTime(nanoseconds: .min) else { return false }
        return Purpose.allCases.contains { allows(participant, modality, $0, at: now) }
    }

    /// Whether this person allows everything here that they allowed there.
    public func covers(_ other: ConsentState, of participant: ParticipantID) -> Bool {
        guard let before = other.decisions[participant], let now = decisions[participant] else { return other.decisions[participant] == nil }
        return before.modalities.isSubset(of: now.modalities) && before.purposes.isSubset(of: now.purposes)
    }

    /// Who allows something on the strength of another text than one of these.
    public func restingOnOthers(than notices: Set<String>) -> [ParticipantID] {
        decisions.filter { !$0.value.modalities.isEmpty && !notices.contains($0.value.noticeHash) }.keys.sorted()
    }

    /// The first moment at which one of these people's consents ends; nil where none of them gave one.
    public func earliestExpiry(of participants: [ParticipantID]) -> WallTime? {
        participants.compactMap { participant in decisions[participant].flatMap { $0.modalities.isEmpty ? nil : $0.expiresAt } }.min()
    }
}
