import Consent
import Media
import TestSupport
import Testing

@Suite("Consent")
struct ConsentTests {
    let recording = RecordingID(rawValue: "r")!
    let anna = ParticipantID(rawValue: "a")!
    let bert = ParticipantID(rawValue: "b")!
    let now = WallTime(seconds: 1_000)

    private func event(_ kind: ConsentEvent.Kind, _ who: ParticipantID, after state: ConsentState, modalities: [Modality] = [.audio, .video],
                       purposes: [Purpose] = [.shareWithParticipants], isOwn: Bool = true, isGuardian: Bool = false, notice: String = "n", expires: Double = 2_000) -> ConsentEvent {
        ConsentEvent(sequence: state.count + 1, recording: recording, participant: who, kind: kind, occurredAt: now, receivedAt: now, modalities: modalities, purposes: purposes,
                     noticeHash: notice, noticeVersion: "1", language: "de", method: isOwn ? .click : .onBehalf, isOwnAct: isOwn, isGuardian: isGuardian, retentionClass: "recording",
                     expiresAt: WallTime(seconds: expires), asksErasure: false, previousHash: state.lastHash)
    }

    private func fold(_ kinds: (ConsentEvent.Kind, ParticipantID)...) throws -> ConsentState {
        var state = ConsentState(recording: recording)
        for (kind, who) in kinds { try state.apply(event(kind, who, after: state)) }
        return state
    }

    @Test("Art. 6, 9: without a decision nothing may be recorded")
    func defaultDeny() throws {
        let state = try fold()
        for modality in Modality.allCases { #expect(!state.mayRecord([anna], modality, at: now)) }
        #expect(!state.mayRecord([], .audio, at: now))
        #expect(try !fold((.requested, anna)).mayRecord([anna], .audio, at: now))
    }

    @Test("only what was allowed may be recorded: the voice, not the picture")
    func modality() throws {
        var state = ConsentState(recording: recording)
        try state.apply(event(.given, anna, after: state, modalities: [.audio]))
        #expect(state.mayRecord([anna], .audio, at: now))
        #expect(!state.mayRecord([anna], .video, at: now))
        #expect(!state.mayRecord([anna], .screen, at: now))
    }

    @Test("Art. 5(1)(b): consent for minutes allows no sharing")
    func purpose() throws {
        var state = ConsentState(recording: recording)
        try state.apply(event(.given, anna, after: state, purposes: [.minutes]))
        #expect(state.mayRecord([anna], .audio, at: now))
        #expect(!state.allows(anna, .audio, .shareWithParticipants, at: now))
    }

    @Test("a mixed source needs everybody")
    func mixed() throws {
        #expect(try !fold((.given, anna)).mayRecord([anna, bert], .audio, at: now))
        #expect(try fold((.given, anna), (.given, bert)).mayRecord([anna, bert], .audio, at: now))
        #expect(try !fold((.given, anna), (.given, bert), (.withdrawn, bert)).mayRecord([anna, bert], .audio, at: now))
    }

    @Test("Art. 7(3): the last word counts", arguments: [ConsentEvent.Kind.refused, .withdrawn, .expired, .invalidated])
    func lastWord(kind: ConsentEvent.Kind) throws {
        #expect(try !fold((.given, anna), (kind, anna)).mayRecord([anna], .audio, at: now))
        #expect(try fold((.given, anna), (kind, anna), (.given, anna)).mayRecord([anna], .audio, at: now))
    }

    @Test("nobody gives consent for another; a refusal for another counts")
    func onBehalf() throws {
        var state = try fold((.given, anna))
        #expect(throws: ConsentError.givenByAnother) { try state.apply(event(.given, bert, after: state, isOwn: false)) }
        try state.apply(event(.refused, anna, after: state, isOwn: false))
        #expect(!state.mayRecord([anna], .audio, at: now))
    }

    @Test("Art. 8: a declared minor needs their guardian")
    func minor() throws {
        var state = ConsentState(recording: recording, minors: [anna])
        #expect(throws: ConsentError.guardianNeeded) { try state.apply(event(.given, anna, after: state)) }
        try state.apply(event(.given, anna, after: state, isGuardian: true))
        #expect(state.mayRecord([anna], .audio, at: now))
    }

    @Test("a consent without a notice, without a modality, or for publication is none")
    func incomplete() {
        let state = ConsentState(recording: recording)
        func refused(_ event: ConsentEvent) -> ConsentError? {
            var copy = state
            do { try copy.apply(event) } catch { return error }
            return nil
        }
        #expect(refused(event(.given, anna, after: state, notice: "")) == .noticeChanged)
        #expect(refused(event(.given, anna, after: state, modalities: [])) == .empty)
        #expect(refused(event(.given, anna, after: state, purposes: [.publication])) == .publicationNotAsked)
    }

    @Test("a consent ends with its date")
    func expiry() throws {
        let state = try fold((.given, anna))
        #expect(state.mayRecord([anna], .audio, at: WallTime(seconds: 1_999)))
        #expect(!state.mayRecord([anna], .audio, at: WallTime(seconds: 2_000)))
        #expect(state.earliestExpiry(of: [anna, bert]) == WallTime(seconds: 2_000))
    }

    @Test("Art. 5(2): a changed, missing or swapped event breaks the chain")
    func chain() throws {
        let state = try fold((.given, anna))
        var other = event(.withdrawn, anna, after: state)
        other.previousHash = String(other.previousHash.reversed())
        var copy = state
        #expect(throws: ConsentError.brokenChain(sequence: 2)) { try copy.apply(other) }
        #expect(throws: ConsentError.brokenChain(sequence: 1)) { try copy.apply(event(.given, anna, after: ConsentState(recording: recording))) }
        let first = event(.given, anna, after: ConsentState(recording: recording))
        var flipped = first
        flipped.modalities = [.audio]
        #expect(first.hash() != flipped.hash())
    }

    @Test("Art. 12, 13: another retention, another notice; both languages name rights, time and authority")
    func notice() {
        var policy = RetentionPolicy()
        policy.supervisoryAuthority = "LfDI"
        let (german, english) = (Notice(language: "de", policy: policy, days: 90), Notice(language: "en", policy: policy, days: 90))
        #expect(german.hash != Notice(language: "de", policy: policy, days: 30).hash)
        policy.controller = "Verein"
        #expect(german.hash != Notice(language: "de", policy: policy, days: 90).hash)
        for part in ["90 Tage", "widerrufen", "LfDI", "Art. 9"] { #expect(german.text.contains(part)) }
        for part in ["90 days", "withdraw", "LfDI", "Art. 9"] { #expect(english.text.contains(part)) }
    }
}
