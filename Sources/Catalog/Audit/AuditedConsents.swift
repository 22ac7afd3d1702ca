import Consent
import Crypto
import Foundation
import Media
import SealedFile

/// The consent events of an exported log: each follows the one before it, was given under a notice whose wording is there, and is named by
/// an entry of the log.
struct AuditedConsents {
    private struct History {
        var hashes: [String] = []
        /// Events from the first on that entries name.
        var anchored = 0
    }

    private var notices: Set<String> = []
    private var histories: [RecordingID: History] = [:]

    mutating func take(notice text: String) { notices.insert(Self.hash(text)) }

    static func hash(_ text: String) -> String { Hexadecimal.text(SHA256.hash(data: Data(text.utf8))) }

    mutating func take(event text: String, _ line: Int) throws(AuditFault) {
        // What cannot be read is named by its line; the reason does not help.
        guard let event = try? JSONDecoder().decode(ConsentEvent.self, from: Data(text.utf8)) else { throw AuditFault(place: .line(line), why: "it is no consent event") }
        var history = histories[event.recording] ?? History()
        let place = AuditFault.Place.consent(event.recording, sequence: history.hashes.count + 1)
        guard event.sequence == history.hashes.count + 1, event.previousHash == history.hashes.last ?? "" else {
            throw AuditFault(place: place, why: "it does not follow the event before it: one of the two was changed, inserted or removed")
        }
        let allows = event.kind == .given || event.kind == .reconfirmed
        guard event.noticeHash.isEmpty ? !allows : notices.contains(event.noticeHash) else {
            throw AuditFault(place: place, why: "the notice that it was given under is not there in its exact wording")
        }
        history.hashes.append(Self.hash(text))
        histories[event.recording] = history
    }

    /// Takes an entry that names a consent event by its hash, or a whole history by its length and last hash; others are let pass.
    mutating func take(anchor entry: AuditEntry) throws(AuditFault) {
        guard entry.action.hasPrefix(AuditLog.consentPrefix) else { return }
        let words = entry.detail.split(separator: " ")
        guard words.count == 2, words[1].utf8.count == 64, let recording = RecordingID(rawValue: entry.object) else { return }
        var history = histories[recording] ?? History()
        let place = entry.action == AuditLog.consentHistoryAction ? Int(words[0]) ?? 0 : history.anchored + 1
        guard place > 0, place <= history.hashes.count, history.hashes[place - 1] == words[1] else {
            throw AuditFault(place: .entry(entry.sequence), why: "the consent event that it names is not there, or was changed")
        }
        history.anchored = place
        histories[recording] = history
    }

    func finish() throws(AuditFault) {
        for (recording, history) in histories.sorted(by: { $0.key < $1.key }) where history.anchored < history.hashes.count {
            throw AuditFault(place: .consent(recording, sequence: history.anchored + 1), why: "no entry of the log names it")
        }
    }
}
