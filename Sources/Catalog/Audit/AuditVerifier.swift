import Consent
import Crypto
import Foundation
import Media
import SealedFile

/// The first thing that is wrong in an audit log.
public struct AuditFault: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Place: Hashable, Sendable {
        case line(Int)
        case entry(Int)
        case checkpoint(size: Int)
        case consent(RecordingID, sequence: Int)
        case end
    }

    public var place: Place
    public var why: String

    public init(place: Place, why: String) { (self.place, self.why) = (place, why) }

    public var description: String {
        switch place {
        case .line(let number): "line \(number): \(why)"
        case .entry(let sequence): "entry \(sequence): \(why)"
        case .checkpoint(let size): "the checkpoint over \(size) entries: \(why)"
        case .consent(let recording, let sequence): "consent event \(sequence) of recording \(recording): \(why)"
        case .end: "the end: \(why)"
        }
    }
}

/// What a log that is whole holds.
public struct AuditSummary: Hashable, Sendable {
    public var entries = 0
    public var erased = 0
    public var checkpoints = 0
    public var last: AuditCheckpoint?
    public var consents = 0
    public var notices = 0
    /// The keys that signed: those that were given, or those that the log itself names.
    public var keys: [VerifierKey] = []

    /// Entries that only the chain covers, because no checkpoint was made since.
    public var uncovered: Int { entries - (last?.size ?? 0) }
}

/// Checks an exported audit log line by line, in memory that grows with the consents but not with the entries.
///
/// What it finds: any changed bit; entries and consent events that were removed, inserted, doubled or put in another order; entries that were
/// blanked without an entry that says so; a notice whose wording is not the one that was consented to; checkpoints of another key. What it can
/// find only with a checkpoint from elsewhere (`held`): a log that was cut behind an earlier checkpoint, or written anew by who has the key.
public struct AuditVerifier {
    private let trusted: [VerifierKey]
    private var held: [AuditCheckpoint]
    private var named: [VerifierKey] = []
    private var line = 0
    private var previous: AuditHash?
    private var frontier = MerkleFrontier()
    private var summary = AuditSummary()
    private var unexplained = IndexSet()
    private var consents = AuditedConsents()
    private var isEnded = false

    /// `keys`: those that are trusted; without any, those that the log itself names. `held`: checkpoints from elsewhere that the log must contain.
    public init(keys: [VerifierKey] = [], held: [AuditCheckpoint] = []) {
        trusted = keys
        self.held = held.sorted { $0.size < $1.size }
    }

    public mutating func take(_ bytes: [UInt8]) throws(AuditFault) {
        line += 1
        guard let next = AuditLine(bytes) else { throw AuditFault(place: .line(line), why: "it is no line of an audit log, or a byte of it was changed") }
        guard !isEnded, (next == .head) == (line == 1) else { throw AuditFault(place: .line(line), why: "it does not belong here") }
        switch next {
        case .head: break
        case .notice(let text):
            guard summary.consents == 0, frontier.size == 0 else { throw AuditFault(place: .line(line), why: "a notice stands before the consents") }
            summary.notices += 1
            consents.take(notice: text)
        case .consent(let event):
            guard frontier.size == 0 else { throw AuditFault(place: .line(line), why: "a consent stands before the entries") }
            summary.consents += 1
            try consents.take(event: event, line)
        case .record(let record): try take(record)
        case .checkpoint(let note): try take(checkpoint: note)
        case .end(let entries, let checkpoints):
            guard entries == summary.entries, checkpoints == summary.checkpoints else {
                throw AuditFault(place: .end, why: "it tells of \(entries) entries and \(checkpoints) checkpoints; there are \(summary.entries) and \(summary.checkpoints)")
            }
            isEnded = true
        }
    }

    private mutating func take(_ record: AuditRecord) throws(AuditFault) {
        let expected = frontier.size + 1
        if let why = record.fault(expected: expected, after: previous) { throw AuditFault(place: .entry(expected), why: why) }
        previous = record.hash
        frontier.append(record.leaf)
        summary.entries += 1
        if let entry = record.content?.entry { try take(entry) } else {
            summary.erased += 1
            unexplained.insert(expected)
        }
        while let known = held.first, known.size <= frontier.size {
            held.removeFirst()
            guard known.root == frontier.root else {
                throw AuditFault(place: .checkpoint(size: known.size), why: "the one you hold signs another log: entries up to \(known.size) were changed since it was made")
            }
            try check(known)
        }
    }

    private mutating func take(_ entry: AuditEntry) throws(AuditFault) {
        switch entry.action {
        case AuditLog.keyAction:
            guard let key = VerifierKey(entry.detail) else { throw AuditFault(place: .entry(entry.sequence), why: "the key that it names is none") }
            named.append(key)
        case AuditLog.erasedAction:
            guard let places = AuditLog.erasedPlaces(entry) else { throw AuditFault(place: .entry(entry.sequence), why: "it does not say what was erased") }
            unexplained.subtract(places)
        default: try consents.take(anchor: entry)
        }
    }

    private func check(_ checkpoint: AuditCheckpoint) throws(AuditFault) {
        guard (trusted.isEmpty ? named : trusted).contains(where: checkpoint.note.isSigned) else {
            throw AuditFault(place: .checkpoint(size: checkpoint.size), why: trusted.isEmpty ? "it is not signed by a key that the log names" : "it is not signed by a key that you trust")
        }
    }

    private mutating func take(checkpoint note: String) throws(AuditFault) {
        guard let checkpoint = AuditCheckpoint(note) else { throw AuditFault(place: .line(line), why: "it is no checkpoint, or a byte of it was changed") }
        guard checkpoint.size == frontier.size, checkpoint.size > summary.last?.size ?? 0 else {
            throw AuditFault(place: .checkpoint(size: checkpoint.size), why: "it stands behind entry \(frontier.size)")
        }
        try check(checkpoint)
        guard checkpoint.root == frontier.root else {
            throw AuditFault(place: .checkpoint(size: checkpoint.size), why: "it signs another log: an entry from \((summary.last?.size ?? 0) + 1) to \(checkpoint.size) was changed since it was made")
        }
        summary.checkpoints += 1
        summary.last = checkpoint
    }

    /// The keys that the log named so far.
    public var namedKeys: [VerifierKey] { named }

    /// SHA-256 of a notice's text, as consent events name it.
    public static func wordingHash(_ text: String) -> String { AuditedConsents.hash(text) }

    /// Checks a whole file that comes in pieces; nil ends it. Throws ``AuditFault``, and what `next` throws.
    public static func verify(keys: [VerifierKey] = [], held: [AuditCheckpoint] = [], _ next: () throws -> [UInt8]?) throws -> AuditSummary {
        var verifier = AuditVerifier(keys: keys, held: held)
        var rest: [UInt8] = []
        while let piece = try next() {
            for byte in piece {
                if byte == 0x0A {
                    try verifier.take(rest)
                    rest.removeAll(keepingCapacity: true)
                } else {
                    rest.append(byte)
                    guard rest.count <= AuditLine.bytesMax else { throw AuditFault(place: .line(verifier.line + 1), why: "it is longer than any line of an audit log") }
                }
            }
        }
        guard rest.isEmpty else { throw AuditFault(place: .end, why: "the log was cut off in the middle of line \(verifier.line + 1)") }
        return try verifier.finish()
    }

    public mutating func finish() throws(AuditFault) -> AuditSummary {
        guard isEnded else { throw AuditFault(place: .end, why: "it is missing: the log was cut off behind line \(line)") }
        if let first = held.first { throw AuditFault(place: .entry(frontier.size + 1), why: "it was cut off: the checkpoint you hold covers \(first.size) entries") }
        if let first = unexplained.first { throw AuditFault(place: .entry(first), why: "its content is gone, and no entry says that it was erased") }
        if summary.entries > 0, summary.last == nil { throw AuditFault(place: .end, why: "nothing is signed: there is no checkpoint") }
        try consents.finish()
        summary.keys = trusted.isEmpty ? named : trusted
        return summary
    }
}
