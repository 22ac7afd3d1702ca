import Consent
import Media
import Synchronization
import Tap

/// Who is in which stream of the recordings being captured, in memory: so that a no closes gates without asking a store, and keeps them
/// closed until it is stored.
///
/// Every gate of a live recording is set through here, under one lock: what reads consents in the meantime cannot open again what a no closed.
final class LiveGates: Sendable {
    /// Somebody in a stream now.
    struct Present: Hashable, Sendable {
        var participant: ParticipantID
        var askedAt: WallTime
        /// It is durably known that they are in what is recorded from now on.
        var isRecorded: Bool
    }

    struct Stream: Sendable {
        var id: StreamID
        var kind: MediaKind
        var people: [Present]
    }

    /// A no that is not in the history yet.
    struct Unstored: Sendable {
        var recording: RecordingID
        var participant: ParticipantID
        var request: ConsentRequest
        var principal: Principal
        var since: WallTime
    }

    struct Hold: Hashable, Sendable { fileprivate var number: Int }

    private struct State: Sendable {
        var streams: [RecordingID: [Stream]] = [:]
        var consents: [RecordingID: ConsentState] = [:]
        var holds: [Int: (no: Unstored, isFailed: Bool)] = [:]
        var next = 0
    }
    private let state = Mutex(State())

    /// A capture begins; every gate is closed.
    func enter(_ recording: RecordingID, _ streams: [Stream]) { state.withLock { $0.streams[recording] = streams } }

    /// Closes every gate of this person at once, and keeps them closed until ``release(_:)``.
    func hold(_ no: Unstored, _ session: CaptureSession?) -> Hold {
        state.withLock { state in
            state.next += 1
            state.holds[state.next] = (no, false)
            for stream in state.streams[no.recording] ?? [] where stream.people.contains(where: { $0.participant == no.participant }) {
                session?.setGate(false, stream: stream.id, at: no.since)
            }
            return Hold(number: state.next)
        }
    }

    func release(_ holds: some Sequence<Hold>) { state.withLock { state in for hold in holds { state.holds[hold.number] = nil } } }

    /// It could not be stored: it is tried again, and holds until then.
    func fail(_ hold: Hold) { state.withLock { $0.holds[hold.number]?.isFailed = true } }

    /// What is to be stored once more, in the order in which it was said.
    var unstored: [(hold: Hold, no: Unstored)] {
        state.withLock { state in state.holds.filter(\.value.isFailed).sorted { $0.key < $1.key }.map { (Hold(number: $0.key), $0.value.no) } }
    }

    /// The no's of one person so far: a later word of theirs takes their place.
    func holds(_ recording: RecordingID, _ participant: ParticipantID) -> [Hold] {
        state.withLock { state in state.holds.filter { $0.value.no.recording == recording && $0.value.no.participant == participant }.keys.map(Hold.init) }
    }

    /// Whether somebody said no and the history does not hold it yet.
    func isUnstored(_ recording: RecordingID) -> Bool { state.withLock { state in state.holds.values.contains { $0.no.recording == recording } } }

    /// The last yes of this person that opened gates, as far as it was read.
    func decision(_ recording: RecordingID, _ participant: ParticipantID) -> ConsentState.Decision? {
        state.withLock { $0.consents[recording]?.decisions[participant] }
    }

    /// Sets the gates after what the catalog says; without `opening` it only closes.
    func set(_ recording: RecordingID, _ streams: [Stream], _ consents: ConsentState, isHeld: Bool, opening: Bool, _ session: CaptureSession, at now: WallTime) {
        state.withLock { state in
            state.streams[recording] = streams
            state.consents[recording] = consents
            let noes = Set(state.holds.values.filter { $0.no.recording == recording }.map(\.no.participant))
            let decided = streams.compactMap { stream -> (stream: StreamID, isOpen: Bool)? in
                let may = !isHeld && !stream.people.isEmpty && stream.people.allSatisfy { person in
                    person.isRecorded && !noes.contains(person.participant)
                        && consents.mayRecord(person.participant, stream.kind.modality, askedAt: person.askedAt, at: now)
                }
                return !may || opening ? (stream.id, may) : nil
            }
            session.setGates(decided, at: now)
        }
    }

    /// Somebody joins a stream: its gate closes before anything is asked or stored.
    func close(_ recording: RecordingID, _ stream: StreamID, _ session: CaptureSession, at now: WallTime) {
        state.withLock { _ in session.setGate(false, stream: stream, at: now) }
    }

    func forget(_ recording: RecordingID) {
        state.withLock { state in
            state.streams[recording] = nil
            state.consents[recording] = nil
        }
    }
}
