import Consent
import Crypto
import Foundation
import GRDB
import Media
import SealedFile
import Synchronization

/// Consents of recordings as they were last folded: asking again costs reading and hashing the history, not decoding it.
///
/// Beside each state lies SHA-256 of exactly the rows that it was folded from. Each use reads and hashes all rows. As long as they begin with
/// the same ones, byte for byte, the state is what folding them anew would give; only what follows is decoded, checked and applied. Whatever
/// else they are (changed, removed, put back by a restore or a rolled-back transaction, by whichever process) the history is folded from its
/// first event, and what does not verify throws. So nothing is believed that was not read just now.
public final class ConsentFolds: Sendable {
    /// Most decisions that are remembered, of all recordings together: some 20 MB.
    public static let decisionsMax = 50_000

    private struct Fold: Sendable {
        var state: ConsentState
        /// Of the rows behind `state`.
        var digest: SHA256Digest
        /// Events that were decoded for it.
        var decoded: Int
        /// What it counts for in ``decisionsMax``.
        var weight: Int { state.decisions.count + 1 }
    }
    private struct State: Sendable {
        var folds: [RecordingID: Fold] = [:]
        var decisions = 0
        var decoded = 0

        mutating func drop(_ recording: RecordingID) { decisions -= folds.removeValue(forKey: recording)?.weight ?? 0 }
    }
    private let known = Mutex(State())

    private let decisionsMax: Int

    public init(decisionsMax: Int = ConsentFolds.decisionsMax) { self.decisionsMax = decisionsMax }

    /// The same as `Database/consentState(of:)`, and the same errors.
    public func state(of recording: RecordingID, _ db: Database) throws -> ConsentState {
        let minors = try db.minors(in: recording)
        let known = known.withLock { $0.folds[recording] }.flatMap { $0.state.minors == minors ? $0 : nil }
        let fold = if let known, let next = try Self.fold(after: known, db) { next } else { try Self.fold(recording, minors, db) }
        if fold.digest != known?.digest { keep(fold) }
        return fold.state
    }

    /// Forgets what is not asked for again and again any more.
    public func forget(_ recording: RecordingID) { known.withLock { $0.drop(recording) } }

    /// How many recordings are remembered, and how many events were decoded so far.
    var figures: (recordings: Int, decoded: Int) { known.withLock { ($0.folds.count, $0.decoded) } }

    private func keep(_ fold: Fold) {
        known.withLock { known in
            known.drop(fold.state.recording)
            while known.decisions + fold.weight > decisionsMax, let other = known.folds.keys.first { known.drop(other) }
            known.folds[fold.state.recording] = fold
            known.decisions += fold.weight
            known.decoded += fold.decoded
        }
    }

    private static func fold(_ recording: RecordingID, _ minors: Set<ParticipantID>, _ db: Database) throws -> Fold {
        var (state, rows) = (ConsentState(recording: recording, minors: minors), SHA256())
        try db.forEachConsent(of: recording) { row in
            rows.take(row)
            try state.apply(row.event())
        }
        return Fold(state: state, digest: rows.finalize(), decoded: state.count)
    }

    /// Goes on from what is known; nil where the rows do not begin with those that it was folded from.
    private static func fold(after known: Fold, _ db: Database) throws -> Fold? {
        var (state, rows, place) = (known.state, SHA256(), 0)
        var begins = known.state.count == 0
        try db.forEachConsent(of: state.recording) { row in
            rows.take(row)
            place += 1
            if place == known.state.count { begins = rows.finalize() == known.digest }
            guard begins, place > known.state.count else { return }
            try state.apply(row.event())
        }
        return begins ? Fold(state: state, digest: rows.finalize(), decoded: state.count - known.state.count) : nil
    }
}

extension SHA256 {
    /// Each field behind its length: no two histories are the same bytes.
    fileprivate mutating func take(_ row: ConsentRow) {
        for field in [row.bytes, Data(row.hash.utf8)] {
            withUnsafeBytes(of: UInt64(field.count).bigEndian) { update(bufferPointer: $0) }
            update(data: field)
        }
        withUnsafeBytes(of: Int64(row.sequence).bigEndian) { update(bufferPointer: $0) }
    }
}

/// One event of a history as it is stored; nothing of it was checked.
struct ConsentRow {
    var sequence: Int
    var bytes: Data
    var hash: String

    /// Throws `ConsentError.brokenChain` where the bytes do not have the hash that they were stored with: the chain alone would not show a
    /// change of the last event.
    func event() throws -> ConsentEvent {
        guard Hexadecimal.text(SHA256.hash(data: bytes)) == hash else { throw ConsentError.brokenChain(sequence: sequence) }
        return try JSONDecoder().decode(ConsentEvent.self, from: bytes)
    }
}

extension Database {
    func minors(in recording: RecordingID) throws -> Set<ParticipantID> {
        Set(try String.fetchAll(self, sql: """
            SELECT participant.id FROM participant JOIN recording ON recording.meeting = participant.meeting WHERE recording.id = ? AND is_minor
            """, arguments: [recording.rawValue]).compactMap(ParticipantID.init))
    }

    /// A recording's history in its order, row by row.
    func forEachConsent(of recording: RecordingID, _ body: (ConsentRow) throws -> Void) throws {
        let rows = try Row.fetchCursor(cachedStatement(sql: "SELECT sequence, CAST(event AS BLOB), hash FROM consent_event WHERE recording = ? ORDER BY sequence"),
                                       arguments: [recording.rawValue])
        while let row = try rows.next() { try body(ConsentRow(sequence: row[0], bytes: row[1], hash: row[2])) }
    }
}
